"""The JPEG round trip of OpenVLA's evaluations: TensorFlow's `encode_jpeg`, then its `decode_image`.

OpenVLA's training data were stored as JPEG, so its evaluations encode and decode every image. TensorFlow
encodes with libjpeg-turbo's accurate DCT at quality 95 with halved chroma. It decodes with the fast inverse
DCT, which Pillow does not offer: the results of the two decoders differ by up to 18 of 255. This module
repeats both directions in integers. The entropy coding between them is lossless and left out.

Sources: C. Loeffler, A. Ligtenberg, G. Moschytz, "Practical fast 1-D DCT algorithms with 11
multiplications", ICASSP 1989 (accurate); Y. Arai, T. Agui, M. Nakajima, "A fast DCT-SQ scheme for images",
Trans. IEICE E71, 1988 (fast); both with libjpeg's fixed-point constants.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64, UInt8

_BLOCK = 16
"""Pixels of a unit with halved chroma: images have a multiple of it in both directions."""
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Quantization of the luminance (ITU T.81, table K.1)."""
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
"""Quantization of the chrominance (ITU T.81, table K.2)."""
_QUALITY_PERCENT = 10
"""Percentage of those tables at quality 95: 200 - 2 x 95."""
_COSINES = np.array([1.0, *(np.sqrt(2) * np.cos(np.arange(1, 8) * np.pi / 16))])
_FAST_SCALES = np.rint(16384 * np.outer(_COSINES, _COSINES)).astype(np.int64)
"""What the fast inverse DCT takes from its multiplications into the dequantization, 14 fractional bits."""


def round_trip(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Return an image as TensorFlow decodes it after encoding it as JPEG with its default settings.

    Args:
        image: RGB, height and width multiples of 16.

    Raises:
        ValueError: If the height or width is no multiple of 16.
    """
    if image.shape[0] % _BLOCK or image.shape[1] % _BLOCK:
        raise ValueError(f"expected a height and width that are multiples of {_BLOCK}, got {image.shape}")
    r, g, b = np.moveaxis(image.astype(np.int64), -1, 0)
    y = (19595 * r + 38470 * g + 7471 * b + 32768) >> 16
    cb = (-11059 * r - 21709 * g + 32768 * b + (128 << 16) + 32767) >> 16
    cr = (32768 * r - 27439 * g - 5329 * b + (128 << 16) + 32767) >> 16
    y = _code(y, _LUMINANCE)
    cb, cr = (_double(_code(_halve(chroma), _CHROMINANCE)) - 128 for chroma in (cb, cr))
    red = y + ((91881 * cr + 32768) >> 16)
    green = y + ((-22554 * cb - 46802 * cr + 32768) >> 16)
    blue = y + ((116130 * cb + 32768) >> 16)
    return np.clip(np.stack([red, green, blue], axis=-1), 0, 255).astype(np.uint8)


def _halve(plane: Int64[np.ndarray, "H W"]) -> Int64[np.ndarray, "h w"]:
    """Average 2 x 2 pixels; columns are rounded up and down in turn."""
    total = plane[::2, ::2] + plane[::2, 1::2] + plane[1::2, ::2] + plane[1::2, 1::2]
    return (total + 1 + np.arange(total.shape[1]) % 2) >> 2


def _double(plane: Int64[np.ndarray, "h w"]) -> Int64[np.ndarray, "H W"]:
    """Interpolate to twice the size, with weights of 3 for the nearer pixel and 1 for the farther one."""
    framed = np.pad(plane, 1, mode="edge")
    rows = np.empty((2 * plane.shape[0], framed.shape[1]), dtype=plane.dtype)
    rows[::2] = 3 * framed[1:-1] + framed[:-2]
    rows[1::2] = 3 * framed[1:-1] + framed[2:]
    found = np.empty((rows.shape[0], 2 * plane.shape[1]), dtype=plane.dtype)
    found[:, ::2] = (3 * rows[:, 1:-1] + rows[:, :-2] + 8) >> 4
    found[:, 1::2] = (3 * rows[:, 1:-1] + rows[:, 2:] + 7) >> 4
    return found


def _code(plane: Int64[np.ndarray, "H W"], table: tuple[tuple[int, ...], ...]) -> Int64[np.ndarray, "H W"]:
    """Transform, quantize and transform back the 8 x 8 blocks of one component."""
    steps = np.maximum((np.array(table) * _QUALITY_PERCENT + 50) // 100, 1)
    height, width = plane.shape
    blocks = (plane - 128).reshape(height // 8, 8, width // 8, 8).transpose(1, 3, 0, 2)  # [row, column, ...]
    coefficients = _accurate(_accurate(blocks.swapaxes(0, 1), first=True).swapaxes(0, 1), first=False)
    divisors = (8 * steps)[:, :, None, None]  # the transform scales by 8
    levels = np.sign(coefficients) * ((np.abs(coefficients) + divisors // 2) // divisors)
    scales = (steps * _FAST_SCALES + (1 << 11)) >> 12
    back = _fast(_fast(levels * scales[:, :, None, None]).swapaxes(0, 1)).swapaxes(0, 1)
    pixels = np.clip((back >> 5) + 128, 0, 255)
    return pixels.transpose(2, 0, 3, 1).reshape(height, width)


def _accurate(x: Int64[np.ndarray, "8 ..."], first: bool) -> Int64[np.ndarray, "8 ..."]:
    """Apply the accurate forward DCT along the first axis; the first pass keeps two fractional bits."""

    def descale(value: np.ndarray, bits: int) -> np.ndarray:
        return (value + (1 << bits - 1)) >> bits

    bits = 11 if first else 15
    sums, differences = x[:4] + x[:3:-1], x[:4] - x[:3:-1]
    t10, t13, t11, t12 = sums[0] + sums[3], sums[0] - sums[3], sums[1] + sums[2], sums[1] - sums[2]
    even = (t12 + t13) * 4433
    t7, t6, t5, t4 = differences
    z1, z2, z3, z4 = t4 + t7, t5 + t6, t4 + t6, t5 + t7
    z5 = (z3 + z4) * 9633
    z1, z2, z3, z4 = -7373 * z1, -20995 * z2, z5 - 16069 * z3, z5 - 3196 * z4
    ends = (t10 + t11, t10 - t11)
    low, middle = ((end << 2) if first else descale(end, 2) for end in ends)
    return np.stack(
        [
            low,
            descale(12299 * t7 + z1 + z4, bits),
            descale(even + 6270 * t13, bits),
            descale(25172 * t6 + z2 + z3, bits),
            middle,
            descale(16819 * t5 + z2 + z4, bits),
            descale(even - 15137 * t12, bits),
            descale(2446 * t4 + z1 + z3, bits),
        ]
    )


def _fast(x: Int64[np.ndarray, "8 ..."]) -> Int64[np.ndarray, "8 ..."]:
    """Apply the fast inverse DCT along the first axis; its multiplications round down."""
    t10, t11, t13 = x[0] + x[4], x[0] - x[4], x[2] + x[6]
    t12 = ((x[2] - x[6]) * 362 >> 8) - t13
    e0, e3, e1, e2 = t10 + t13, t10 - t13, t11 + t12, t11 - t12
    z13, z10, z11, z12 = x[5] + x[3], x[5] - x[3], x[1] + x[7], x[1] - x[7]
    o7 = z11 + z13
    z5 = (z10 + z12) * 473 >> 8
    o6 = (z10 * -669 >> 8) + z5 - o7
    o5 = ((z11 - z13) * 362 >> 8) - o6
    o4 = (z12 * 277 >> 8) - z5 + o5
    return np.stack([e0 + o7, e1 + o6, e2 + o5, e3 - o4, e3 + o4, e2 - o5, e1 - o6, e0 - o7])
