"""Distributions of magnitudes and moments, as a user configures them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from failsafe.errors import UnknownNameError, UserError


class Distribution(ABC):
    """A distribution over numbers, given by its quantiles. Its thirds are the bins of the coverage table."""

    @abstractmethod
    def quantile(self, share: float) -> float:
        """Return the number below which a share of the distribution lies.

        Args:
            share: From 0 to 1.
        """

    @abstractmethod
    def to_plain(self) -> dict[str, Any]:
        """Return the distribution as written in a configuration file."""


@dataclass(frozen=True)
class Uniform(Distribution):
    """Uniform between two numbers.

    Attributes:
        low: Least number.
        high: Greatest number.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse an empty interval.

        Raises:
            UserError: If low > high, or one of them is not finite.
        """
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise UserError(f"a uniform distribution needs low <= high, got [{self.low}, {self.high}]")

    def quantile(self, share: float) -> float:
        """See `Distribution`."""
        return self.low + share * (self.high - self.low)

    def to_plain(self) -> dict[str, Any]:
        """See `Distribution`."""
        return {"uniform": [self.low, self.high]}


@dataclass(frozen=True)
class Normal(Distribution):
    """Normal, truncated at three standard deviations.

    Attributes:
        mean: Mean.
        std: Standard deviation.
    """

    mean: float
    std: float

    def __post_init__(self) -> None:
        """Refuse a width that is not positive.

        Raises:
            UserError: If std is not above 0, or a number is not finite.
        """
        if not (math.isfinite(self.mean) and 0 < self.std < math.inf):
            raise UserError(f"a normal distribution needs std > 0, got [{self.mean}, {self.std}]")

    def quantile(self, share: float) -> float:
        """See `Distribution`."""
        from statistics import NormalDist

        inner = min(max(share, 0.00135), 0.99865)
        return NormalDist(self.mean, self.std).inv_cdf(inner)

    def to_plain(self) -> dict[str, Any]:
        """See `Distribution`."""
        return {"normal": [self.mean, self.std]}


@dataclass(frozen=True)
class Choice(Distribution):
    """One of a few numbers, each with the same probability.

    Attributes:
        values: The numbers.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse an empty list.

        Raises:
            UserError: If there is no number, or one is not finite.
        """
        if not self.values or not all(map(math.isfinite, self.values)):
            raise UserError(f"a choice needs at least one finite number, got {list(self.values)}")

    def quantile(self, share: float) -> float:
        """See `Distribution`."""
        ordered = sorted(self.values)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]

    def to_plain(self) -> dict[str, Any]:
        """See `Distribution`."""
        return {"choice": list(self.values)}


_LARGEST = 1e12
_KINDS = {"uniform": 2, "normal": 2, "choice": None}


def parse_distribution(data: Any, where: str) -> Distribution:
    """Read a distribution from a configuration file.

    Args:
        data: One of `{uniform: [low, high]}`, `{normal: [mean, std]}` and `{choice: [...]}`, or a number,
            which stands for itself.
        where: Path of the value in the file, for messages.

    Raises:
        UserError: If it is none of these.
        UnknownNameError: If there is no distribution of that name.
    """
    if _is_number(data):
        return _make("choice", [float(data)], where)
    if not isinstance(data, Mapping) or len(cast(Mapping[str, Any], data)) != 1:
        raise UserError(
            f"{where}: expected a finite number or one of uniform, normal, choice with a list, "
            f"got {data!r:.80}"
        )
    kind, raw = next(iter(cast(Mapping[str, Any], data).items()))
    if kind not in _KINDS:
        raise UnknownNameError(f"distribution at {where}", str(kind), _KINDS)
    values = cast(list[Any], raw) if isinstance(raw, list) else [raw]
    if not all(map(_is_number, values)):
        raise UserError(f"{where}.{kind}: expected a list of finite numbers, got {raw!r:.80}")
    numbers = [float(v) for v in values]
    wanted = _KINDS[kind]
    if wanted is not None and len(numbers) != wanted:
        raise UserError(f"{where}.{kind}: expected {wanted} numbers, got {len(numbers)}")
    return _make(kind, numbers, where)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _make(kind: str, numbers: list[float], where: str) -> Distribution:
    try:
        if kind == "choice":
            return Choice(tuple(numbers))
        return Uniform(numbers[0], numbers[1]) if kind == "uniform" else Normal(numbers[0], numbers[1])
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
