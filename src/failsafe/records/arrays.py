"""Arrays of files that others may have written: as many numbers, of the type, as their readers expect."""

from __future__ import annotations

import tokenize
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy.typing import DTypeLike

from failsafe.errors import RecordError
from failsafe.records.files import check_regular


def check_array(
    arrays: Mapping[str, np.ndarray],
    name: str,
    shape: tuple[int | None, ...],
    dtype: DTypeLike,
    where: Path | str,
) -> None:
    """Check an array of an archive.

    Args:
        arrays: The arrays by name.
        name: Name of the array.
        shape: Its axes; None: of any length.
        dtype: Its type.
        where: Name of the file, for error messages.

    Raises:
        RecordError: If it is missing, or has another shape or type.
    """
    found = arrays.get(name)
    if found is None:
        raise RecordError(f"{where}: expected an array '{name}', got none")
    fits = found.ndim == len(shape)
    fits = fits and all(n in (None, got) for n, got in zip(shape, found.shape, strict=True))
    if not fits or found.dtype != dtype:
        wanted = "x".join("N" if n is None else str(n) for n in shape)
        raise RecordError(
            f"{where}: expected {wanted} values of {np.dtype(dtype)} in '{name}', got an array of shape "
            f"{found.shape!s:.80} of {found.dtype!s:.40}"
        )


def map_images(path: Path, shape: tuple[int, ...], within: Path) -> UInt8[np.ndarray, "..."]:
    """Map the images of a file into memory.

    Args:
        path: The file.
        shape: Their shape.
        within: The folder that the file has to be in.

    Raises:
        UserError: If there is no such file.
        RecordError: If it holds something else.
        StoreError: If it is outside the folder.
    """
    check_regular(path, within)
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
        check_array({"images": images}, "images", shape, np.uint8, path)
    except (ValueError, OSError, EOFError, TypeError, AttributeError) as error:
        raise RecordError(f"{path}: expected images, got a damaged file ({error!s:.200})") from error
    except (SyntaxError, tokenize.TokenError, RecursionError) as error:  # of its header
        raise RecordError(f"{path}: expected images, got a file without a header") from error
    return images
