"""The resampling of OpenVLA's evaluations, bit for bit as in TensorFlow: Lanczos, and a crop of the center.

TensorFlow computes in float32, Pillow in fixed point, so their results differ by a level here and there. The
functions here do TensorFlow's operations in float32, in its order.
"""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

_RADIUS = np.float32(3.0)
_PI = np.float32(np.pi)
_SINE = tuple(map(float.fromhex, ("-0x1.555545995a603p-3", "0x1.1107605230bc4p-7", "-0x1.994eb3774cf24p-13")))
_COSINE = tuple(
    map(
        float.fromhex,
        ("-0x1.ffffffd0c621cp-2", "0x1.55553e1068f19p-5", "-0x1.6c087e89a359dp-10", "0x1.99343027bf8c3p-16"),
    )
)
"""Polynomials of the C library's sine for float32. One in fifty of its values is not the nearest float32."""


def lanczos(image: UInt8[np.ndarray, "H W 3"], size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Return what `tf.image.resize(image, size, "lanczos3", antialias=True)` gives, rounded and clipped.

    Args:
        image: RGB.
        size: Height and width to return, pixels.
    """
    found = image.astype(np.float32)
    for _ in range(2):  # rows first, then columns
        found = _resample(found, size).swapaxes(0, 1)
    return np.clip(np.rint(found), 0, 255).astype(np.uint8)


def center_crop(image: UInt8[np.ndarray, "S S 3"], share: float = 0.9) -> UInt8[np.ndarray, "S S 3"]:
    """Return the center of an image, enlarged to its size by linear interpolation.

    The policies were trained on random crops of this share. Evaluations use `tf.image.crop_and_resize`.

    Args:
        image: RGB, square.
        share: Area of the crop as a share of the image's.
    """
    last, one, two = np.float32(len(image) - 1), np.float32(1), np.float32(2)
    side = np.sqrt(np.float32(share))
    low = (one - side) / two
    step = ((low + side) - low) * last / last
    at = low * last + np.arange(len(image), dtype=np.float32) * step
    before, after = np.floor(at).astype(np.int64), np.ceil(at).astype(np.int64)
    found = image.astype(np.float32) * np.float32(1 / 255)
    part = (at - before.astype(np.float32))[:, None]
    wide = found[:, before] + (found[:, after] - found[:, before]) * part
    whole = wide[before] + (wide[after] - wide[before]) * part[:, None]
    return (np.clip(whole, 0, 1) * np.float32(255.5)).astype(np.uint8)


def _resample(values: Float32[np.ndarray, "N ..."], size: int) -> Float32[np.ndarray, "size ..."]:
    """Resample the first axis."""
    weights, sources = _taps(len(values), size)
    found = np.zeros((size, *values.shape[1:]), dtype=np.float32)
    for weight, source in zip(weights.T, sources.T, strict=True):
        found += weight[:, None, None] * values[source]
    return found


@functools.cache
def _taps(length: int, size: int) -> tuple[Float32[np.ndarray, "size K"], Int64[np.ndarray, "size K"]]:
    """Return the weights of every value, and the indices of what they weigh; a missing one has no weight."""
    scale = np.float32(1) / (np.float32(size) / np.float32(length))
    widening = max(scale, np.float32(1))  # the kernel is widened where the image shrinks
    half = np.float32(0.5)
    count = 2 * int(np.ceil(_RADIUS * widening)) + 1
    weights, sources = np.zeros((size, count), dtype=np.float32), np.zeros((size, count), dtype=np.int64)
    for i in range(size):
        center = (np.float32(i) + half) * scale
        first = max(int(np.ceil(center - _RADIUS * widening - half)), 0)
        stop = min(int(np.floor(center + _RADIUS * widening - half)), length - 1) + 1
        distance = np.arange(first, stop, dtype=np.float32) + half - center
        row = _kernel(np.abs(distance * (np.float32(1) / widening)))
        total = np.float32(0)
        for weight in row:  # in this order: NumPy's own sum adds in pairs
            total += weight
        weights[i, : len(row)] = row * (np.float32(1) / total)
        sources[i, : len(row)] = np.arange(first, stop)
    return weights, sources


def _kernel(x: Float32[np.ndarray, "n"]) -> Float32[np.ndarray, "n"]:
    """Return Lanczos' kernel of radius 3."""
    safe = np.maximum(x, np.float32(1e-3))
    angle = _PI * safe
    wave = _RADIUS * _sine(angle) * _sine(angle / _RADIUS) / (_PI * _PI * safe * safe)
    return np.where(x > _RADIUS, np.float32(0), np.where(x <= np.float32(1e-3), np.float32(1), wave))


def _sine(x: Float32[np.ndarray, "n"]) -> Float32[np.ndarray, "n"]:
    """Return the sine as the C library rounds it to float32."""
    exact: Float64[np.ndarray, "n"] = x.astype(np.float64)
    quadrant = np.floor(exact / (np.pi / 2) + 0.5)
    y = exact - quadrant * (np.pi / 2)
    square = y * y
    s1, s2, s3 = _SINE
    c1, c2, c3, c4 = _COSINE
    sine = y + y * square * s1 + y * square * square * (s2 + square * s3)
    cosine = 1.0 + square * c1 + square * square * c2 + square**3 * (c3 + square * c4)
    return (np.where(quadrant % 2 == 0, sine, cosine) * np.where(quadrant % 4 >= 2, -1, 1)).astype(np.float32)
