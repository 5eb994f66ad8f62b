"""Checks shapes and types in the first calls of every function in every test, and in some of the later ones.

`--jaxtyping-packages` puts `jaxtyping.jaxtyped` on every function of the package when its module is imported.
A check takes longer than most functions that are called in every control step: to check all calls takes as
long as the tests themselves. Functions are prepared at their first call: most tests call few of those that
they import.
"""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable
from types import CodeType
from typing import Any

import jaxtyping
import pytest

FIRST = 8
"""Number of calls of a function that are checked in each test."""
EVERY = 101
"""After them one call of so many is checked. Prime, so that it is not always the same one of a period."""
_calls: Counter[CodeType] = Counter()
"""Calls in this test, by code: functions that every call of another one defines anew count together."""
_checked: Callable[..., Any] = jaxtyping.jaxtyped


def sampled(function: Any = None, *, typechecker: Any) -> Any:
    """Check some calls of a function, or of the constructor of a dataclass, in place of all."""
    if function is None:
        return functools.partial(sampled, typechecker=typechecker)
    if inspect.isclass(function):
        made = vars(function).get("__init__")
        if "__dataclass_fields__" in vars(function) and inspect.isfunction(made):
            function.__init__ = sampled(made, typechecker=typechecker)
        return function
    if not inspect.isfunction(function):
        return _checked(function, typechecker=typechecker)
    code, checked = function.__code__, None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal checked
        before = _calls[code]
        _calls[code] = before + 1
        if before >= FIRST and before % EVERY:
            return function(*args, **kwargs)
        if checked is None:
            checked = _checked(function, typechecker=typechecker)
        return checked(*args, **kwargs)

    return call


jaxtyping.jaxtyped = sampled  # before a module of the package is imported


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Count the calls of each test, with the fixtures that it makes, anew."""
    _calls.clear()
