"""The offline table: how well a model reads single moments, overall and by task, mode and kind of moment."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from failsafe.errors import UserError
from failsafe.evaluation.metrics import BINS, COMPOUND, Rows, compute
from failsafe.evaluation.predictions import Prediction
from failsafe.evaluation.statistics import RESAMPLES, SeedBootstrap, interval
from failsafe.perturbations import MODES
from failsafe.records.assessment import Status
from failsafe.records.provenance import Provenance
from failsafe.samples.sample import Kind

HEADLINE_LEAVES_OUT = (Kind.LONG_AFTER,)
"""Kinds of moments that the headline leaves out, and with it the tables by task and by mode.

A decision: long after the onset a monitor has looked three times already, so that whether a failure is seen
there says little about whether it is seen in time. These moments have a row of their own among the kinds,
and the row "every moment" holds all.
"""
HEADLINE, EVERY = "headline", "every moment"
NO_FAILURE, NO_ANSWER = "no failure", "no answer"
"""Columns of the confusion matrix that are no modes; the first is a row too."""
_ROC_POINTS = 200


@dataclass(frozen=True)
class Estimate:
    """A figure with its uncertainty.

    Attributes:
        value: The figure, None where there is nothing to compute it from.
        low: Lower end of its 95 % interval by bootstrap over seeds, None where there is none.
        high: Upper end of it.
        rows: Number of moments that it rests on.
    """

    value: float | None
    low: float | None
    high: float | None
    rows: int


@dataclass(frozen=True)
class Group:
    """The figures of some moments.

    Attributes:
        by: "all", "task", "mode" or "kind".
        name: Which of those.
        counts: Moments, seeds, failing ones; and what figures leave out: failing moments with a compound
            cause, those without a proven correction, and corrections without a direction.
        figures: By name of the metric.
    """

    by: str
    name: str
    counts: dict[str, int]
    figures: dict[str, Estimate]


@dataclass(frozen=True)
class Confusion:
    """How often each true mode (row) was answered with each mode (column), on the headline's moments."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Bin:
    """Answers whose probability is in one bin: their number, mean probability, and share that is failing."""

    count: int
    probability: float
    failing: float


@dataclass(frozen=True)
class SetScore:
    """One model on one set of samples.

    Attributes:
        name: Name of the set.
        groups: The headline first, then every moment, then by task, mode and kind.
        differences: Headline figure minus that on the first set, by name of the metric; empty for the first.
        confusion: Modes as named, of the headline.
        reliability: Probability against frequency, of the headline; bins without answers are left out.
        roc: Points (false-alarm rate, recall) of the headline, from (0, 0) to (1, 1).
    """

    name: str
    groups: tuple[Group, ...]
    differences: dict[str, Estimate]
    confusion: Confusion
    reliability: tuple[Bin, ...]
    roc: tuple[tuple[float, float], ...]

    @property
    def headline(self) -> Group:
        """All moments but those of `HEADLINE_LEAVES_OUT`."""
        return self.groups[0]


@dataclass(frozen=True)
class ModelScore:
    """One model on every set of samples, the one that it is compared with first."""

    model: str
    sets: tuple[SetScore, ...]


@dataclass(frozen=True)
class Published:
    """A published figure beside ours, measured by others on data of their own."""

    model: str
    figures: dict[str, float]


PUBLISHED = (
    Published("published system", {"accuracy": 0.909, "mode": 0.837, "cosine": 0.652}),
    Published("GPT-4o, published", {"accuracy": 0.70, "mode": 0.20, "cosine": 0.01}),
)
PUBLISHED_NOTE = (
    "Published figures are their authors', on data of their own: PickCube, PushCube and StackCube, seven "
    "labels, 20 held-out seeds, 1,712 entries. Three quarters of those are failures: always saying yes "
    "scores 0.76 there."
)


@dataclass(frozen=True)
class ScoreTable:
    """Everything that `failsafe score` found; tables and pages are made from it alone.

    Attributes:
        scores: The model that is asked about first, then the baselines.
        split: The split that was scored.
        resamples: Resamples of the bootstrap.
        command: The command that makes it again.
        sources: For each set of samples the command that makes it, or where it lies.
        provenance: Commit and versions.
        published: Figures of others.
    """

    scores: tuple[ModelScore, ...]
    split: str
    resamples: int
    command: str
    sources: dict[str, str]
    provenance: Provenance
    published: tuple[Published, ...] = PUBLISHED


def score(
    model: str, predictions: Mapping[str, Sequence[Prediction]], resamples: int = RESAMPLES
) -> ModelScore:
    """All figures of one model.

    Args:
        model: Its name.
        predictions: Its predictions by name of the sample set. The others are compared with the first set,
            seed by seed where both hold the same seeds.
        resamples: Resamples of the bootstrap over seeds.

    Raises:
        UserError: If a set holds no moment for the headline.
    """
    sets: list[SetScore] = []
    first: dict[str, Float[np.ndarray, "R1"]] = {}
    for name, given in predictions.items():
        rows = Rows.of(given)
        headline = [i for i, a in enumerate(given) if a.sample.kind not in HEADLINE_LEAVES_OUT]
        if not headline:
            raise UserError(f"expected moments to score in '{name}', got none; is the split empty?")
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
    """Modes in the order of the levels of cause, moments as they follow one another, tasks by name."""
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
    # Moments of one probability are told apart by no threshold, so they are one step.
    last = np.flatnonzero(np.concatenate([np.diff(rows.probability[order]) != 0, [True]]))
    recall = np.cumsum(truth)[last] / truth.sum()
    alarms = np.cumsum(1 - truth)[last] / (1 - truth).sum()
    points = [(0.0, 0.0), *zip(alarms.tolist(), recall.tolist(), strict=True)]
    keep = np.unique(np.linspace(0, len(points) - 1, min(len(points), _ROC_POINTS)).round().astype(int))
    return tuple(points[i] for i in keep)
