"""What counts as a chunk of actions, and how a policy is reset."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from failsafe.errors import PolicyError, UserError
from failsafe.policies.contract import ActionSpace, check_chunk, check_fit, reset_policy
from failsafe.policies.loading import load_policy

torch = pytest.importorskip("torch")
ROW = [0.5, 0.25, -1.0, 0.0, 0.0, 0.125, 1.0]
"""Numbers that bfloat16 holds exactly."""


class Converts:
    """A class of another library that converts itself."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array([ROW], dtype=dtype)


class CannotConvert:
    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise RuntimeError("the device is gone")


@pytest.mark.parametrize(
    "chunk",
    [
        torch.tensor([ROW]),
        torch.tensor([ROW], requires_grad=True),
        torch.tensor([ROW], dtype=torch.bfloat16),
        torch.tensor([ROW], dtype=torch.bfloat16, requires_grad=True),
        [torch.tensor(ROW, requires_grad=True)],
        (torch.tensor(ROW, dtype=torch.bfloat16),),
        [[torch.tensor(number, requires_grad=True) for number in ROW]],
        [[np.float32(number) for number in ROW]],
        np.array([ROW], dtype=np.float16),
        np.array([ROW], dtype=">f4"),
        [ROW],
        Converts(),
    ],
    ids=lambda chunk: type(chunk).__name__,
)
def test_tensors_and_lists_are_read(chunk: object) -> None:
    found = check_chunk("mine", chunk, 1)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [ROW])


def _own_list() -> list[Any]:
    rows: list[Any] = []
    rows.append(rows)
    return rows


@pytest.mark.parametrize(
    ("chunk", "problem"),
    [
        (None, "got NoneType, which cannot be read as numbers"),
        ([None] * 7, "got list, which cannot be read as numbers"),
        (np.full((1, 7), None), "got ndarray, which cannot be read as numbers"),
        ([["0.5"] * 7], "which cannot be read as numbers (TypeError: expected real numbers, got <U3)"),
        ([ROW, ROW[:6]], "got list, which cannot be read as numbers"),
        ([torch.zeros(7), torch.zeros(6)], "got list, which cannot be read as numbers"),
        (np.full((1, 7), 1j), "expected real numbers, got complex128"),
        (np.zeros((1, 7), dtype="M8[s]"), "expected real numbers, got datetime64[s]"),
        (torch.full((1, 7), torch.nan), "got NaN or infinity"),
        (torch.full((1, 7), torch.inf, dtype=torch.bfloat16), "got NaN or infinity"),
        (torch.zeros(7), "expected 1 to 1 actions of 7 numbers, got (7,)"),
        (torch.zeros((0, 7)), "expected 1 to 1 actions of 7 numbers, got (0, 7)"),
        (torch.zeros((1, 7), device="meta"), "got Tensor, which cannot be read as numbers"),
        ({"actions": [ROW]}, "got dict, which cannot be read as numbers"),
        (CannotConvert(), "which cannot be read as numbers (RuntimeError: the device is gone)"),
        (_own_list(), "which cannot be read as numbers (RecursionError"),
        (10**400, "got int, which cannot be read as numbers"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_what_is_no_chunk_is_a_policy_error(chunk: object, problem: str) -> None:
    with pytest.raises(PolicyError, match=re.escape(problem)) as raised:
        check_chunk("mine", chunk, 1)
    assert "\n" not in str(raised.value)


class Policy:
    """Remembers how it was reset."""

    name, action_space, views = "mine", ActionSpace(), {}

    def __init__(self) -> None:
        self.told: list[Any] = []

    def reset(self, instruction: str) -> None:
        self.told.append(instruction)

    def act(self, observation: Any) -> np.ndarray:
        return np.array([ROW])

    def drop_queue(self) -> None:
        pass


class Seeded(Policy):
    def reset(self, instruction: str, seed: int | None) -> None:  # pyright: ignore
        self.told.append((instruction, seed))


class KeywordSeeded(Policy):
    def reset(self, instruction: str, *, seed: int = 0) -> None:
        self.told.append((instruction, seed))


class OfAnotherLibrary(Policy):
    def reset(self) -> None:  # pyright: ignore
        pass


class NeedsMore(Policy):
    def reset(self, instruction: str, seed: int, camera: str) -> None:  # pyright: ignore
        pass


@pytest.mark.parametrize(
    ("kind", "told"),
    [(Policy, "lift"), (Seeded, ("lift", 7)), (KeywordSeeded, ("lift", 7))],
)
def test_the_seed_goes_to_policies_that_take_one(kind: Callable[[], Any], told: object) -> None:
    policy = kind()
    check_fit(policy, 20.0, ())
    assert load_policy(policy) is policy
    reset_policy(policy, "lift", 7)
    assert policy.told == [told]


@pytest.mark.parametrize(
    ("kind", "got"),
    [
        (OfAnotherLibrary, "got a reset ()"),
        (NeedsMore, "got a reset (instruction: 'str', seed: 'int', camera: 'str') -> 'None'"),
    ],
)
def test_another_reset_is_refused_before_the_first_step(kind: Callable[[], Any], got: str) -> None:
    expected = re.escape(f"mine: expected a method reset(instruction) or reset(instruction, seed), {got}")
    with pytest.raises(UserError, match=expected):
        load_policy(kind())
    with pytest.raises(PolicyError, match=expected):
        check_fit(kind(), 20.0, ())
