"""Distributions that a user sets: over how strong a perturbation is, and when it sets in."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from failsafe.errors import UnknownNameError, UserError


class Distribution(ABC):
    """A distribution over numbers, by its quantiles: thirds of it are the bins of the coverage table."""

    @abstractmethod
    def quantile(self, share: float) -> float:
        """The number below which `share` of the distribution lies, share in [0, 1]."""

    @abstractmethod
    def to_plain(self) -> dict[str, Any]:
        """As written in a configuration file."""


@dataclass(frozen=True)
class Uniform(Distribution):
    """Every number between low and high equally."""

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse an interval that is empty."""
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise UserError(f"a uniform distribution needs low <= high, got [{self.low}, {self.high}]")

    def quantile(self, share: float) -> float:
        """See the protocol."""
        return self.low + share * (self.high - self.low)

    def to_plain(self) -> dict[str, Any]:
        """See the protocol."""
        return {"uniform": [self.low, self.high]}


@dataclass(frozen=True)
class Normal(Distribution):
    """A bell around mean, cut off three standard deviations away."""

    mean: float
    std: float

    def __post_init__(self) -> None:
        """Refuse a width that is not positive."""
        if not (math.isfinite(self.mean) and 0 < self.std < math.inf):
            raise UserError(f"a normal distribution needs std > 0, got [{self.mean}, {self.std}]")

    def quantile(self, share: float) -> float:
        """See the protocol."""
        from statistics import NormalDist

        inner = min(max(share, 0.00135), 0.99865)
        return NormalDist(self.mean, self.std).inv_cdf(inner)

    def to_plain(self) -> dict[str, Any]:
        """See the protocol."""
        return {"normal": [self.mean, self.std]}


@dataclass(frozen=True)
class Choice(Distribution):
    """One of a few numbers, each equally."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse an empty list, and what is no number."""
        if not self.values or not all(map(math.isfinite, self.values)):
            raise UserError(f"a choice needs at least one finite number, got {list(self.values)}")

    def quantile(self, share: float) -> float:
        """See the protocol."""
        ordered = sorted(self.values)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]

    def to_plain(self) -> dict[str, Any]:
        """See the protocol."""
        return {"choice": list(self.values)}


_KINDS = {"uniform": 2, "normal": 2, "choice": None}


def parse_distribution(data: Any, where: str) -> Distribution:
    """A distribution as a configuration file has it.

    One of `{uniform: [low, high]}`, `{normal: [mean, std]}` and `{choice: [...]}`. A bare number is that
    number always.

    Raises:
        UserError: If it is none of these.
    """
    if isinstance(data, int | float) and not isinstance(data, bool):
        return _make("choice", [float(data)], where)
    if not isinstance(data, Mapping) or len(cast(Mapping[str, Any], data)) != 1:
        raise UserError(
            f"{where}: expected a number or one of uniform, normal, choice with a list, got {data!r}"
        )
    kind, raw = next(iter(cast(Mapping[str, Any], data).items()))
    if kind not in _KINDS:
        raise UnknownNameError(f"distribution at {where}", str(kind), _KINDS)
    values = cast(list[Any], raw) if isinstance(raw, list) else [raw]
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        raise UserError(f"{where}.{kind}: expected a list of numbers, got {raw!r}")
    numbers = [float(v) for v in values]
    wanted = _KINDS[kind]
    if wanted is not None and len(numbers) != wanted:
        raise UserError(f"{where}.{kind}: expected {wanted} numbers, got {len(numbers)}")
    return _make(kind, numbers, where)


def _make(kind: str, numbers: list[float], where: str) -> Distribution:
    try:
        if kind == "choice":
            return Choice(tuple(numbers))
        return Uniform(numbers[0], numbers[1]) if kind == "uniform" else Normal(numbers[0], numbers[1])
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
