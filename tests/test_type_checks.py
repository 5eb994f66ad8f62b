"""Shapes and types are checked under test: the first calls of a function, and some later ones."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from failsafe.records import poses
from failsafe.records.assessment import Assessment


def test_a_wrong_shape_is_an_error_at_the_first_call() -> None:
    with pytest.raises(TypeCheckError):
        poses.pose(np.zeros(4), np.array([1.0, 0.0, 0.0, 0.0]))


def test_a_wrong_type_of_a_field_is_an_error() -> None:
    with pytest.raises(TypeCheckError):
        Assessment(stage=3)  # type: ignore[arg-type]


def test_a_wrong_shape_is_found_among_many_calls() -> None:
    """The first eight calls are checked, and later ones as well."""
    position = np.zeros(3)
    for _ in range(8):
        poses.pose(position, poses.IDENTITY[3:])
    found = 0
    for _ in range(200):
        try:
            poses.pose(np.zeros(2), poses.IDENTITY[3:])
        except TypeCheckError:
            found += 1
    assert 1 <= found < 8
