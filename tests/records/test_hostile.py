"""Files that were made to harm: one sentence each, in little time and memory."""

from __future__ import annotations

import io
import json
import os
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from failsafe.errors import FailSafeError, RecordError, UserError
from failsafe.generation.config import read_modes_file
from failsafe.records import codec
from failsafe.records.case import NominalRecord
from failsafe.records.files import read_bytes, read_text
from failsafe.records.perturbation import Perturbation
from failsafe.records.trace import pack, unpack


def member(shape: str, body: bytes = b"") -> bytes:
    """An .npy file whose header says what it likes."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def encrypted() -> bytes:
    data = bytearray(archive(a=member("(1,)", b"\0" * 8)))
    for place in (data.index(b"PK\x03\x04") + 6, data.index(b"PK\x01\x02") + 8):
        data[place] |= 1
    return bytes(data)


@pytest.mark.parametrize(
    "make",
    [
        lambda: archive(a=member("(1000000000000,)")),
        lambda: archive(a=member("(4, -1)")),
        lambda: archive(a=member("(-1,)", b"\0" * 8)),
        lambda: archive(a=member("(True,)", b"\0" * 8)),
        lambda: archive(a=b"\0" * (1 << 28)),
        lambda: archive(**{f"a{i}": member("(0,)") for i in range(5000)}),
        lambda: archive(a=member("(9" * 3000)),
        lambda: archive(a=b""),
        encrypted,
        lambda: b"PK" + os.urandom(100),
        lambda: pack({"a": np.zeros(100)})[:-40],
    ],
    ids=[
        "shape",
        "negative",
        "one negative",
        "truth",
        "bomb",
        "many",
        "header",
        "empty",
        "encrypted",
        "noise",
        "cut",
    ],
)
def test_an_archive_that_was_made_to_harm_is_one_sentence(make: Callable[[], bytes]) -> None:
    data = make()
    tracemalloc.start()
    begun = time.process_time()
    with pytest.raises(RecordError, match=r"x\.npz: expected"):
        unpack(data, "x.npz")
    assert time.process_time() - begun < 2
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


def test_only_regular_files_of_bounded_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "x.npz").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "large").write_bytes(b"x" * 101)
    for name, sentence in {"pipe": "a named pipe", "x.npz": "a folder", "loop": "an error"}.items():
        with pytest.raises(RecordError, match=sentence):
            read_bytes(tmp_path / name)
    with pytest.raises(RecordError, match="a device"):
        read_bytes(Path("/dev/zero"))
    with pytest.raises(RecordError, match="at most 100 bytes"):
        read_bytes(tmp_path / "large", largest=100)
    with pytest.raises(UserError, match="there is no"):
        read_bytes(tmp_path / "none")
    with pytest.raises(RecordError):
        read_bytes(Path("a\0b"))
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    with pytest.raises(RecordError, match="expected text in UTF-8"):
        read_text(tmp_path / "latin")


CAUSE = {"mode": "slip", "stage": 1, "stage_name": "lift", "moment": 0.5, "magnitude": 0.1, "unit": "m"}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400, "1" * 5000])
def test_a_number_that_is_none_is_refused(number: str) -> None:
    text = json.dumps({"format": "Perturbation/1", **CAUSE}).replace("0.1", number)
    with pytest.raises(RecordError, match="expected"):
        codec.loads(Perturbation, text)


@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b2J", "\x00", "\ud800", "\x7f"])
def test_text_of_a_record_has_no_control_characters(text: str) -> None:
    plain = {"format": "Perturbation/1", **CAUSE, "object": text}
    with pytest.raises(RecordError, match="without control characters"):
        codec.loads(Perturbation, json.dumps(plain))
    assert (
        codec.loads(Perturbation, json.dumps(plain | {"object": "caf\u00e9 \u673a"})).object
        == "caf\u00e9 \u673a"
    )


def test_a_record_that_is_nested_too_deeply_is_refused() -> None:
    for text in ("[" * 100_000, '{"a":' * 100_000):
        with pytest.raises(RecordError):
            codec.loads(NominalRecord, text)


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        "slip: {weight: " + "9" * 5000 + "}\n",
        "[" * 5000,
        "slip: {weight: .nan}\n",
        "slip: !!python/object/apply:os.system [true]\n",
        "slip: {moment: 2001-99-99}\n",
    ],
)
def test_a_file_of_modes_that_was_made_to_harm_is_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "modes.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(FailSafeError) as refused:
        read_modes_file(tmp_path / "modes.yaml")
    assert len(str(refused.value)) < 1000


def test_arrays_are_read_as_numpy_reads_them() -> None:
    arrays = {
        "numbers": np.arange(12, dtype=np.float32).reshape(3, 4),
        "transposed": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        "none": np.zeros((0, 7), dtype=np.float32),
        "scalar": np.array(3.5),
        "names": np.array(["cube", "bowl"], dtype="U64"),
        "no_names": np.array([], dtype="U64"),
    }
    data = pack(arrays)
    read = unpack(data, "x.npz")
    with np.load(io.BytesIO(data)) as theirs:
        assert list(read) == theirs.files
        for name in theirs.files:
            assert (read[name].dtype, read[name].shape) == (theirs[name].dtype, theirs[name].shape)
            np.testing.assert_array_equal(read[name], theirs[name])
            assert read[name].flags.writeable
    objects = io.BytesIO()
    np.savez(objects, a=np.array([{}], dtype=object))
    with pytest.raises(RecordError, match=r"a\.npy: it holds objects"):
        unpack(objects.getvalue(), "x.npz")
