import base64
import contextlib
import json
import tracemalloc

import hypothesis.extra.numpy as hnp
import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.act_server import decode, encode

from failsafe.policies import json_numpy, msgpack_numpy
from failsafe.policies.raw_arrays import MAX_BYTES, read_array

DTYPES = st.sampled_from(["b1", "i1", "u1", "<i2", ">i2", "<u4", "<i8", "<f2", "<f4", ">f4", "<f8"])
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
)
VALUES = st.recursive(
    PLAIN | ARRAYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


def same(a, b):
    if isinstance(b, np.ndarray):
        return (
            isinstance(a, np.ndarray)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and a.tobytes() == b.tobytes()
        )
    if isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in b)
    if isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@given(VALUES)
def test_json_comes_back_as_it_went(value):
    text = json_numpy.dumps(value)
    assert same(json_numpy.loads(text), value)
    assert same(json_numpy.loads(text.encode()), value)


@given(ARRAYS)
def test_json_is_what_the_package_writes(array):
    assert json_numpy.dumps({"a": [array]}) == encode({"a": [array]})
    if array.size:  # the package cannot read an empty one
        np.testing.assert_array_equal(decode(json_numpy.dumps(array)), array)


@given(VALUES)
def test_msgpack_comes_back_as_it_went(value):
    assert same(msgpack_numpy.unpackb(msgpack_numpy.packb(value)), value)


def test_msgpack_to_the_byte():
    found = msgpack_numpy.packb({"a": np.array([[1.0, -2.0]], dtype=np.float32), "b": np.float32(0.5)})
    assert found.hex() == (
        "82a161" + "84c40b5f5f6e6461727261795f5fc3c40464617461c4080000803f000000c0"
        "c4056474797065a33c6634c40573686170659201" + "02"
        "a162" + "83c40d5f5f6e7067656e657269635f5fc3c40464617461cb3fe0000000000000c4056474797065a33c6634"
    )


@pytest.mark.parametrize("scalar", [np.float32(0.1), np.uint8(200), np.int64(-5), np.bool_(True)])
def test_scalars_keep_their_kind(scalar):
    found = msgpack_numpy.unpackb(msgpack_numpy.packb({"s": scalar}))["s"]
    assert (type(found), found) == (type(scalar), scalar)
    back = json_numpy.loads(json_numpy.dumps(scalar))
    assert (back.shape, back.dtype, back) == ((), scalar.dtype, scalar)


def test_arrays_in_another_order_and_read_only():
    array = np.arange(12, dtype=np.int16).reshape(3, 4).T[::2]
    for codec, pack, unpack in (
        ("json", json_numpy.dumps, json_numpy.loads),
        ("msgpack", msgpack_numpy.packb, msgpack_numpy.unpackb),
    ):
        found = unpack(pack(array))
        np.testing.assert_array_equal(found, array, err_msg=codec)
        found[0, 0] = 7  # may be written to


@pytest.mark.parametrize(
    "array",
    [
        np.array([object()]),
        np.array(["text"]),
        np.array([b"bytes"]),
        np.array([1j]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.zeros(1, dtype=[("a", "f4")]),
    ],
)
def test_what_is_no_plain_number_is_not_written(array):
    for pack in (json_numpy.dumps, msgpack_numpy.packb):
        with pytest.raises(ValueError, match="expected an array of plain numbers"):
            pack({"a": array})


def test_other_things_are_not_written():
    for pack in (json_numpy.dumps, msgpack_numpy.packb):
        with pytest.raises(TypeError, match="got set"):
            pack({"a": {1}})


BAD = [
    (b"\0" * 8, "|O", [1], "dtype of plain numbers"),
    (b"\0" * 8, "O", [1], "dtype of plain numbers"),
    (b"\0" * 8, "f8,f8", [1], "dtype of plain numbers"),
    (b"\0" * 8, "<U2", [1], "dtype of plain numbers"),
    (b"\0" * 8, "<M8[D]", [1], "dtype of plain numbers"),
    (b"\0" * 8, "<c8", [1], "dtype of plain numbers"),
    (b"\0" * 8, [["a", "<f8"]], [1], "dtype of plain numbers"),
    (b"\0" * 8, None, [1], "dtype of plain numbers"),
    (b"\0" * 8, "<f8", [2], "expected 16 bytes"),
    (b"\0" * 8, "<f8", [], "got 8 bytes|expected 8"),
    (b"\0" * 8, "<f8", [-1], "expected a shape"),
    (b"\0" * 8, "<f8", [1.0], "expected a shape"),
    (b"\0" * 8, "<f8", [True], "expected a shape"),
    (b"\0" * 8, "<f8", 1, "expected a shape"),
    (b"\0" * 8, "<f8", None, "expected a shape"),
    (b"\0" * 8, "<f8", [1] * 9, "expected a shape"),
    (b"", "<f8", [10**30], "expected 8"),
]


@pytest.mark.parametrize(("data", "dtype", "shape", "words"), [case for case in BAD if case[2] != []])
def test_arrays_that_cannot_be_read(data, dtype, shape, words):
    packed = msgpack.packb({b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": None})
    if not (isinstance(shape, list) and shape == [10**30]):
        packed = msgpack.packb({b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape})
        with pytest.raises(ValueError, match=words):
            msgpack_numpy.unpackb(packed)
    text = json.dumps({"__numpy__": base64.b64encode(data).decode(), "dtype": dtype, "shape": shape})
    with pytest.raises(ValueError, match=words):
        json_numpy.loads(text)


def test_arrays_are_bounded():
    with pytest.raises(ValueError, match=f"at most {MAX_BYTES}"):
        read_array(bytes(MAX_BYTES + 1), "|u1", [MAX_BYTES + 1])


@given(st.binary(max_size=200))
def test_bytes_at_random_are_a_value_or_a_value_error(data):
    for unpack in (json_numpy.loads, msgpack_numpy.unpackb):
        with contextlib.suppress(ValueError):
            unpack(data)


@given(st.binary(max_size=40), st.integers(0, 200), st.integers(0, 255))
def test_damaged_messages_are_a_value_or_a_value_error(tail, place, byte):
    whole = msgpack_numpy.packb({"actions": np.ones((2, 7), np.float32), "s": np.float64(1), "n": np.int8(3)})
    damaged = bytearray(whole)
    damaged[place % len(whole)] = byte
    for data in (bytes(damaged), whole[:place], whole + tail):
        with contextlib.suppress(ValueError):
            msgpack_numpy.unpackb(data)


@pytest.mark.parametrize(
    "text",
    [
        '{"__numpy__": "not base64!", "dtype": "<f4", "shape": [1]}',
        '{"__numpy__": 7, "dtype": "<f4", "shape": [1]}',
        '{"__numpy__": "AAAAAA=="}',
        "[" * 100_000,
        "",
    ],
)
def test_json_that_is_none(text):
    with pytest.raises(ValueError, match=r"."):
        json_numpy.loads(text)


@pytest.mark.parametrize(
    "value",
    [
        {b"__ndarray__": True, b"data": "text", b"dtype": "<f4", b"shape": [1]},
        {b"__ndarray__": True},
        {b"__npgeneric__": True, b"data": "text", b"dtype": "<f4"},
        {b"__npgeneric__": True, b"data": 1.0, b"dtype": "|O"},
        {b"__npgeneric__": True, b"data": [1.0], b"dtype": "<f4"},
        {b"__npgeneric__": True},
    ],
)
def test_msgpack_that_is_none(value):
    with pytest.raises(ValueError, match="expected"):
        msgpack_numpy.unpackb(msgpack.packb(value))
    with pytest.raises(ValueError, match=r"."):
        msgpack_numpy.unpackb(b"\x91" * 5_000 + b"\x00")


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x92" * 400 + b"\xdc\xff\xff" + b"\x81\xa1a\x80" * 65_535,
        b"\xdd\x00\x98\x96\x80" + b"\x80" * 10_000_000,
        b"\xdf\x00\x0f\x42\x40" + b"\x01" * 2_000_000,
        b"\xdc\x4e\x20" + (b"\xdc\x4e\x20" + b"\x01" * 20_000) * 500,
        b"\x91" * 30_000_000,
    ],
    ids=["nested maps", "a long list", "a long map", "many lists", "deep"],
)
def test_a_small_message_does_not_become_large(bomb):
    """10 MB of empty maps would take 640 MB."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"\w"):
            msgpack_numpy.unpackb(bomb)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 50_000_000
