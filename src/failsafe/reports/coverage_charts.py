"""Histograms of the coverage page: moment and magnitude of each mode, by result."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from failsafe.generation.config import GenerationConfig
from failsafe.perturbations import MODES
from failsafe.records.case import FailureCase, Outcome

BARS = 12
"""Bars over the range of a distribution."""
KINDS = ("verified", "failure", "harmless", "other")
"""Results of a case, from the bottom of a bar to its top."""


@dataclass(frozen=True)
class Segment:
    """A segment of a bar; positions are shares of the width and height, from the lower left corner.

    Attributes:
        kind: Result of the cases, one of `KINDS`.
        x: Left edge, share of the width.
        y: Lower edge, share of the height.
        width: Share of the width.
        height: Share of the height.
        description: Text of the tooltip.
    """

    kind: str
    x: float
    y: float
    width: float
    height: float
    description: str


@dataclass(frozen=True)
class Histogram:
    """A histogram: bar segments, labels of the axis' ends, and the count of the highest bar.

    Attributes:
        title: What the histogram counts.
        low: Label of the axis' lower end.
        high: Label of the axis' upper end.
        most: Count of the highest bar.
        segments: Segments of all bars.
    """

    title: str
    low: str
    high: str
    most: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class ModeCharts:
    """The histograms of one mode.

    Attributes:
        mode: Name of the mode.
        cases: Number of its cases.
        histograms: One for each quantity.
    """

    mode: str
    cases: int
    histograms: tuple[Histogram, ...]


def mode_charts(cases: Sequence[FailureCase], config: GenerationConfig) -> list[ModeCharts]:
    """Return histograms of moment and magnitude for every mode with an attempt.

    Args:
        cases: The cases; those with two perturbations are left out.
        config: The configuration that made them.
    """
    groups: dict[str, list[FailureCase]] = defaultdict(list)
    for case in cases:
        if len(case.perturbations) == 1:
            groups[case.perturbations[0].mode].append(case)
    found: list[ModeCharts] = []
    for mode in MODES.in_order(groups):
        group, settings = groups[mode], config.modes[mode]
        histograms: list[Histogram] = []
        if MODES[mode].timed:
            values = [(c.perturbations[0].moment, _kind(c)) for c in group]
            histograms.append(histogram("moment in the stage", values, (0.0, 1.0), ""))
        low, high = settings.magnitude.quantile(0.0), settings.magnitude.quantile(1.0)
        ends = (-max(abs(low), abs(high)), max(abs(low), abs(high))) if MODES[mode].signed else (low, high)
        values = [(c.perturbations[0].magnitude, _kind(c)) for c in group]
        histograms.append(histogram("magnitude", values, ends, MODES[mode].unit))
        found.append(ModeCharts(mode, len(group), tuple(histograms)))
    return found


def histogram(
    title: str,
    values: Sequence[tuple[float, str]],
    ends: tuple[float, float],
    unit: str,
    kinds: Sequence[str] = KINDS,
) -> Histogram:
    """Return a histogram of numbers, stacked by kind.

    Args:
        title: Quantity on the axis.
        values: The numbers, each with its kind; those beyond the ends count for the outermost bars.
        ends: Ends of the axis; equal ends give a single bar.
        unit: Unit of the numbers.
        kinds: The kinds, from the bottom of a bar to its top.
    """
    low, high = ends
    bars = BARS if high > low else 1
    counts: Counter[tuple[int, str]] = Counter()
    for value, kind in values:
        share = (value - low) / (high - low) if high > low else 0.0
        counts[min(max(int(share * bars), 0), bars - 1), kind] += 1
    most = max((sum(counts[i, kind] for kind in kinds) for i in range(bars)), default=0)
    segments: list[Segment] = []
    for i in range(bars):
        base = 0
        start, end = low + (high - low) * i / bars, low + (high - low) * (i + 1) / bars
        for kind in kinds:
            if number := counts[i, kind]:
                description = f"{number} {kind}, {start:.3g} to {end:.3g} {unit}".rstrip()
                segments.append(Segment(kind, i / bars, base / most, 1 / bars, number / most, description))
                base += number
    return Histogram(
        title, f"{low:.3g} {unit}".rstrip(), f"{high:.3g} {unit}".rstrip(), most, tuple(segments)
    )


def _kind(case: FailureCase) -> str:
    if case.outcome is Outcome.FAILURE:
        return "verified" if case.verified else "failure"
    return "harmless" if case.outcome is Outcome.HARMLESS else "other"
