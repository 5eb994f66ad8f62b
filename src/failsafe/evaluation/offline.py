"""The offline table: metrics of single samples, overall and by task, mode and kind of sample."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from failsafe.errors import RecordError, UserError
from failsafe.evaluation.metrics import BINS, COMPOUND, Rows, compute
from failsafe.evaluation.predictions import Prediction
from failsafe.evaluation.statistics import RESAMPLES, SeedBootstrap, interval
from failsafe.perturbations import MODES
from failsafe.records.assessment import Status
from failsafe.records.codec import Migration
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.provenance import Provenance
from failsafe.samples.sample import Kind

HEADLINE_LEAVES_OUT = (Kind.LONG_AFTER,)
"""Kinds of samples that the headline and the tables by task and by mode leave out.

Long after the onset a monitor has queried the model three times already, so recall there says little about
timely detection. These samples have a row of their own among the kinds, and the row "every sample" holds all.
"""
HEADLINE, EVERY = "headline", "every sample"
NO_FAILURE, NO_ANSWER = "no failure", "no answer"
"""Columns of the confusion matrix beside the modes; the first is a row too."""
_ROC_POINTS = 200


@dataclass(frozen=True)
class Estimate:
    """A metric with its uncertainty.

    Attributes:
        value: The value, None if undefined.
        low: Lower end of the 95 % interval by bootstrap over seeds, None if undefined.
        high: Upper end of the interval.
        rows: Number of samples that it is computed from.
    """

    value: float | None
    low: float | None
    high: float | None
    rows: int


@dataclass(frozen=True)
class Group:
    """The metrics of a group of samples.

    Attributes:
        by: What defines the group: "all", "task", "mode" or "kind".
        name: Name of the group.
        counts: Number of samples, seeds and failing samples; and of failing samples that single metrics leave
            out: with two perturbations, without a proven correction, with a correction without direction.
        figures: Metrics by name.
    """

    by: str
    name: str
    counts: dict[str, int]
    figures: dict[str, Estimate]


@dataclass(frozen=True)
class Confusion:
    """Confusion matrix of modes on the headline's samples.

    Attributes:
        rows: True modes.
        columns: Predicted modes.
        counts: Number of samples, by row and column.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Bin:
    """One bin of the reliability diagram.

    Attributes:
        count: Number of predictions.
        probability: Their mean failure probability.
        failing: Share of failing samples among them.
    """

    count: int
    probability: float
    failing: float


@dataclass(frozen=True)
class SetScore:
    """The metrics of one model on one set of samples.

    Attributes:
        name: Name of the set.
        groups: The headline first, then every sample, then by task, mode and kind.
        differences: Headline metrics minus those on the first set, by name; empty for the first set.
        confusion: Confusion matrix of the headline.
        reliability: Reliability diagram of the headline, without empty bins.
        roc: ROC curve of the headline: points (false-alarm rate, recall) from (0, 0) to (1, 1).
    """

    name: str
    groups: tuple[Group, ...]
    differences: dict[str, Estimate]
    confusion: Confusion
    reliability: tuple[Bin, ...]
    roc: tuple[tuple[float, float], ...]

    @property
    def headline(self) -> Group:
        """All samples but those of `HEADLINE_LEAVES_OUT`."""
        return self.groups[0]


@dataclass(frozen=True)
class ModelScore:
    """The metrics of one model on every set of samples.

    Attributes:
        model: Name of the model.
        sets: One score per set; the others are compared with the first.
    """

    model: str
    sets: tuple[SetScore, ...]


def _without_published(fields: dict[str, Any]) -> dict[str, Any]:
    """Version 1 held published figures of other systems, which are not comparable."""
    return {name: value for name, value in fields.items() if name != "published"}


@dataclass(frozen=True)
class ScoreTable:
    """The result of `failsafe score`; tables and pages are made from it alone.

    Attributes:
        scores: The model first, then the baselines.
        split: The split that was scored.
        resamples: Number of resamples of the bootstrap.
        command: Command that makes it again.
        sources: For each set of samples the command that makes it, or its path.
        provenance: Commit and versions.
        checkpoint: What the first model was loaded from; empty in tables of earlier versions.
    """

    FORMAT: ClassVar[int] = 2
    MIGRATIONS: ClassVar[Mapping[str, Migration]] = {"ScoreTable/1": _without_published}

    scores: tuple[ModelScore, ...]
    split: str
    resamples: int
    command: str
    sources: dict[str, str]
    provenance: Provenance
    checkpoint: str = ""

    def __post_init__(self) -> None:
        """Refuse a table without a score.

        Raises:
            RecordError: On such a table.
        """
        if not self.scores:
            raise RecordError("expected the scores of at least one model, got none")


def score(
    model: str,
    predictions: Mapping[str, Sequence[Prediction]],
    resamples: int = RESAMPLES,
    robots: Mapping[str, EmbodimentSpec] | None = None,
) -> ModelScore:
    """Compute all metrics of one model.

    Args:
        model: Name of the model.
        predictions: Its predictions by name of the sample set. The others are compared with the first set,
            seed by seed where both hold the same seeds.
        resamples: Number of resamples of the bootstrap over seeds.
        robots: The robot of each task; ManiSkill's Panda for a task that is not in it, as in sample sets of
            version 1.

    Raises:
        UserError: If a set holds no sample for the headline.
    """
    sets: list[SetScore] = []
    first: dict[str, Float[np.ndarray, "R1"]] = {}
    for name, given in predictions.items():
        rows = Rows.of(given, robots or {})
        headline = [i for i, a in enumerate(given) if a.sample.kind not in HEADLINE_LEAVES_OUT]
        if not headline:
            raise UserError(f"expected samples to score in '{name}', got none: is the split empty?")
        failing = [i for i in headline if given[i].sample.failing]
        every = list(range(len(given)))
        whole, values = _group("all", HEADLINE, rows.take(headline), resamples)
        groups = [whole, _group("all", EVERY, rows, resamples)[0]]
        for by, parts in (
            ("task", _split(headline, lambda i, given=given: given[i].sample.task)),
            ("mode", _split(failing, lambda i, given=given: given[i].sample.mode)),
            ("kind", _split(every, lambda i, given=given: given[i].sample.kind.value)),
        ):
            groups += [_group(by, part, rows.take(found), resamples)[0] for part, found in parts.items()]
        differences = {
            key: _estimate(values[key] - before, whole.figures[key].rows) for key, before in first.items()
        }
        first = first or values
        sets.append(
            SetScore(
                name=name,
                groups=tuple(groups),
                differences=differences,
                confusion=_confusion([given[i] for i in headline]),
                reliability=_reliability(rows.take(headline)),
                roc=_roc(rows.take(headline)),
            )
        )
    return ModelScore(model, tuple(sets))


def _group(
    by: str, name: str, rows: Rows, resamples: int
) -> tuple[Group, dict[str, Float[np.ndarray, "R1"]]]:
    values, resting_on = compute(rows, SeedBootstrap(rows.seeds, resamples))
    figures = {key: _estimate(value, resting_on[key]) for key, value in values.items()}
    number = {key: round(float(column.sum())) for key, column in rows.columns.items()}
    counts = {
        "moments": number["rows"],
        "seeds": len(np.unique(rows.seeds)),
        "failing": number["failing"],
        "compound": number["failing"] - number["typed"],
        "without correction": number["failing"] - number["corrected"],
        "without direction": number["corrected"] - number["directed"],
    }
    return Group(by, name, counts, figures), values


def _estimate(values: Float[np.ndarray, "R1"], rows: int) -> Estimate:
    if not np.isfinite(values[0]):
        return Estimate(None, None, None, rows)
    low, high = interval(values[1:]) or (None, None)
    return Estimate(float(values[0]), low, high, rows)


def _split(rows: Sequence[int], key: Callable[[int], str]) -> dict[str, list[int]]:
    parts: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        parts[key(row)].append(row)
    return {name: parts[name] for name in sorted(parts, key=_place)}


def _place(name: str) -> tuple[int, str]:
    """Sort modes by level of cause, kinds in the order of an episode, tasks by name."""
    order = (*MODES, COMPOUND, *(kind.value for kind in Kind), "unnamed", NO_FAILURE, NO_ANSWER)
    return (order.index(name) if name in order else -1), name


def _confusion(predictions: Sequence[Prediction]) -> Confusion:
    pairs: Counter[tuple[str, str]] = Counter()
    for a in predictions:
        said = (a.assessment.mode or "unnamed") if a.assessment.failing else NO_FAILURE
        pairs[
            a.sample.mode if a.sample.failing else NO_FAILURE,
            said if a.assessment.status is Status.OK else NO_ANSWER,
        ] += 1
    rows = sorted({true for true, _ in pairs}, key=_place)
    columns = sorted({said for _, said in pairs} | set(rows), key=_place)
    return Confusion(
        tuple(rows), tuple(columns), tuple(tuple(pairs[row, column] for column in columns) for row in rows)
    )


def _reliability(rows: Rows) -> tuple[Bin, ...]:
    index = np.minimum((rows.probability * BINS).astype(np.int64), BINS - 1)
    return tuple(
        Bin(int(here.sum()), float(rows.probability[here].mean()), float(rows.truth[here].mean()))
        for here in (index == b for b in range(BINS))
        if here.any()
    )


def _roc(rows: Rows) -> tuple[tuple[float, float], ...]:
    order = np.argsort(-rows.probability, kind="stable")
    truth = rows.truth[order]
    if not 0 < truth.sum() < len(truth):
        return ()
    # No threshold separates samples of equal probability, so they are one step of the curve.
    last = np.flatnonzero(np.concatenate([np.diff(rows.probability[order]) != 0, [True]]))
    recall = np.cumsum(truth)[last] / truth.sum()
    alarms = np.cumsum(1 - truth)[last] / (1 - truth).sum()
    points = [(0.0, 0.0), *zip(alarms.tolist(), recall.tolist(), strict=True)]
    keep = np.unique(np.linspace(0, len(points) - 1, min(len(points), _ROC_POINTS)).round().astype(int))
    return tuple(points[i] for i in keep)
