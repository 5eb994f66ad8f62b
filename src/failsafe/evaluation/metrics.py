"""The offline metrics: from answers to sums by row, from sums to figures.

Every figure but two is a function of sums over rows, so that a bootstrap over seeds is one product of
matrices. One rule for what cannot be used: an unreadable or refused answer counts as the opposite of the
truth, said with certainty; it names no mode and no stage, and gives no actions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from failsafe.evaluation.predictions import Prediction
from failsafe.evaluation.statistics import SeedBootstrap
from failsafe.models.contract import MAX_ROTATION, MAX_TRANSLATION
from failsafe.records import poses
from failsafe.records.assessment import Assessment, Status

BINS = 15
"""Bins of equal width for the calibration error."""
NO_DIRECTION = (0.005, 0.02)
"""A true correction that moves less than this (m) and turns less than this (rad) has no direction."""
COMPOUND = "compound"
"""Mode of a sample with two causes at once: there is no one mode to name."""
FRAME = "robot_base"
"""Frame of the true corrections."""


@dataclass(frozen=True)
class Metric:
    """One figure of the tables.

    Attributes:
        name: Its key.
        title: Its heading.
        unit: "" for a number from 0 to 1 (or -1 to 1), else "mm", "°" or "ms".
        better: "high", "low".
        rows: Column that counts the rows on which it rests.
        meaning: What it is, in a sentence.
    """

    name: str
    title: str
    unit: str
    better: str
    rows: str
    meaning: str


METRICS = (
    Metric("accuracy", "failing or not", "", "high", "rows", "Share of moments judged rightly."),
    Metric(
        "balanced",
        "balanced",
        "",
        "high",
        "rows",
        "Mean of the share of failing moments that are noticed and of the share of others left alone.",
    ),
    Metric(
        "precision",
        "precision",
        "",
        "high",
        "alarms",
        "Share of alarms that are right, where there are other moments.",
    ),
    Metric("recall", "recall", "", "high", "failing", "Share of failing moments that are noticed."),
    Metric(
        "auroc",
        "AUROC",
        "",
        "high",
        "rows",
        "How often a failing moment is given a higher probability than another.",
    ),
    Metric(
        "mode",
        "type with axis",
        "",
        "high",
        "typed",
        "Share of failing moments with one cause whose mode is named rightly, axis included.",
    ),
    Metric("stage", "stage", "", "high", "rows", "Share of moments whose sub-task is named rightly."),
    Metric(
        "cosine",
        "cosine",
        "",
        "high",
        "directed",
        "Cosine between the predicted and the true total displacement in 6-D, translation and rotation "
        "divided by their limits a step; 0 where no actions are given. Moments whose correction moves less "
        f"than {1000 * NO_DIRECTION[0]:g} mm and turns less than {NO_DIRECTION[1]:g} rad are left out.",
    ),
    Metric(
        "millimetres",
        "error",
        "mm",
        "low",
        "corrected",
        "Mean distance between where the predicted and the true correction end.",
    ),
    Metric(
        "degrees",
        "error",
        "°",
        "low",
        "corrected",
        "Mean angle between where the predicted and the true correction end.",
    ),
    Metric(
        "gripper",
        "gripper",
        "",
        "high",
        "corrected",
        "Share of corrections that end with the gripper commanded the right way.",
    ),
    Metric(
        "help",
        "unrecoverable F1",
        "",
        "high",
        "failing",
        "F1 of asking for help, on failing moments of which some have no proven correction.",
    ),
    Metric(
        "ece",
        "calibration error",
        "",
        "low",
        "rows",
        f"Expected calibration error of the probability of failure, {BINS} bins of equal width, "
        "where there are failing and other moments.",
    ),
    Metric("brier", "Brier", "", "low", "rows", "Mean squared error of the probability of failure."),
    Metric("unreadable", "unreadable", "", "low", "rows", "Share of answers that do not parse."),
    Metric("refused", "refused", "", "low", "rows", "Share of windows that the model failed on."),
    Metric("latency", "latency median", "ms", "low", "rows", "Median time of one assessment."),
    Metric("latency_p95", "latency p95", "ms", "low", "rows", "95th percentile of that time."),
)
"""Every figure, in the order of the tables."""


@dataclass(frozen=True)
class Rows:
    """Answers as columns of numbers, one row each.

    Attributes:
        seeds: Seed of the initial state. [N]
        truth: 1 where the moment is failing. [N]
        probability: Probability of failure as it counts: the opposite of the truth where unusable. [N]
        latency: Seconds. [N]
        columns: What sums are taken of, by name: [N] each.
    """

    seeds: Int[np.ndarray, "N"]
    truth: Int[np.ndarray, "N"]
    probability: Float[np.ndarray, "N"]
    latency: Float[np.ndarray, "N"]
    columns: Mapping[str, Float[np.ndarray, "N"]]

    @classmethod
    def of(cls, predictions: Sequence[Prediction]) -> Rows:
        """The rows of some answers."""
        truth = np.array([int(a.sample.failing) for a in predictions], dtype=np.int64)
        usable = [a.assessment.status is Status.OK for a in predictions]
        given = [a.assessment.failure_probability for a in predictions]
        probability = np.where(usable, np.array(given, dtype=np.float64), 1.0 - truth)
        found = [_columns(prediction) for prediction in predictions]
        names = found[0] if found else {}
        columns = {name: np.array([row[name] for row in found], dtype=np.float64) for name in names}
        off = probability - truth.astype(np.float64)
        columns["brier"] = off**2
        bins = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
        for b in range(BINS):
            columns[f"bin {b}"] = np.where(bins == b, off, 0.0)
        return cls(
            seeds=np.array([a.sample.seed for a in predictions], dtype=np.int64),
            truth=truth,
            probability=probability,
            latency=np.array([a.assessment.latency for a in predictions], dtype=np.float64),
            columns=columns,
        )

    def take(self, which: Sequence[int]) -> Rows:
        """Some of the rows, by number."""
        index = np.array(which, dtype=np.int64)
        return Rows(
            seeds=self.seeds[index],
            truth=self.truth[index],
            probability=self.probability[index],
            latency=self.latency[index],
            columns={name: column[index] for name, column in self.columns.items()},
        )


def compute(
    rows: Rows, bootstrap: SeedBootstrap
) -> tuple[dict[str, Float[np.ndarray, "R1"]], dict[str, int]]:
    """Every metric in every resample, and on how many rows each rests.

    Args:
        rows: The answers; at least one.
        bootstrap: Resamples of their seeds, the first of them the seeds as they are.

    Returns:
        By name of the metric its values, NaN where there is nothing to compute it from; latencies once only.
        And by name of the metric the number of rows.
    """
    names = list(rows.columns)
    sums = bootstrap.total(np.stack([rows.columns[name] for name in names], axis=1))
    t = {name: sums[:, i] for i, name in enumerate(names)}
    right = t["hits"] + t["rows"] - t["failing"] - t["false alarms"]
    well = t["rows"] - t["failing"]
    # Among failing moments alone every alarm is right, and no probability below 1 can be believed.
    mixed = (t["failing"] > 0) & (well > 0)
    values = {
        "accuracy": _ratio(right, t["rows"]),
        "balanced": (_ratio(t["hits"], t["failing"]) + _ratio(well - t["false alarms"], well)) / 2,
        "precision": _ratio(t["hits"], (t["hits"] + t["false alarms"]) * mixed),
        "recall": _ratio(t["hits"], t["failing"]),
        "auroc": bootstrap.concordance(rows.probability, rows.truth),
        "mode": _ratio(t["mode right"], t["typed"]),
        "stage": _ratio(t["stage right"], t["rows"]),
        "cosine": _ratio(t["cosine"], t["directed"]),
        "millimetres": _ratio(t["millimetres"], t["corrected"]),
        "degrees": _ratio(t["degrees"], t["corrected"]),
        "gripper": _ratio(t["gripper right"], t["corrected"]),
        "help": _ratio(2 * t["help right"], t["help asked"] + t["unrecoverable"]),
        "ece": _ratio(np.sum([np.abs(t[f"bin {b}"]) for b in range(BINS)], axis=0), t["rows"] * mixed),
        "brier": _ratio(t["brier"], t["rows"]),
        "unreadable": _ratio(t["unreadable"], t["rows"]),
        "refused": _ratio(t["refused"], t["rows"]),
        "latency": np.array([1000.0 * np.median(rows.latency)]),
        "latency_p95": np.array([1000.0 * np.quantile(rows.latency, 0.95)]),
    }
    whole = {name: round(float(column[0])) for name, column in t.items() if name in _COUNTED}
    whole["alarms"] = round(float(t["hits"][0] + t["false alarms"][0]))
    return values, {metric.name: whole[metric.rows] for metric in METRICS}


_COUNTED = ("rows", "failing", "typed", "directed", "corrected")


def _ratio(above: Float[np.ndarray, "R1"], below: Float[np.ndarray, "R1"]) -> Float[np.ndarray, "R1"]:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)


def _columns(prediction: Prediction) -> dict[str, float]:
    """What one answer adds to the sums."""
    sample, assessment = prediction.sample, prediction.assessment
    usable = assessment.status is Status.OK
    alarm = assessment.failing if usable else not sample.failing
    asked = sample.failing and (assessment.needs_help if usable else sample.recoverable is not False)
    hopeless = sample.recoverable is False
    typed = sample.failing and sample.mode not in ("", COMPOUND)
    return {
        "rows": 1.0,
        "failing": float(sample.failing),
        "hits": float(alarm and sample.failing),
        "false alarms": float(alarm and not sample.failing),
        "typed": float(typed),
        "mode right": float(typed and usable and assessment.mode == sample.mode),
        "stage right": float(usable and assessment.stage == sample.stage),
        "unrecoverable": float(hopeless),
        "help asked": float(asked),
        "help right": float(asked and hopeless),
        "unreadable": float(assessment.status is Status.UNREADABLE),
        "refused": float(assessment.status is Status.REFUSED),
        **_correction(sample.actions if sample.failing else (), assessment),
    }


def _correction(true: Sequence[Sequence[float]], assessment: Assessment) -> dict[str, float]:
    names = ("corrected", "directed", "cosine", "millimetres", "degrees", "gripper right")
    if not true:
        return dict.fromkeys(names, 0.0)
    # Deltas in another frame lead elsewhere, so they count as none.
    given = assessment.actions if assessment.status is Status.OK and assessment.frame == FRAME else ()
    wanted, got = displacement(true), displacement(given)
    off = poses.quaternion_multiply(
        poses.from_rotation_vector(wanted[3:]),
        poses.quaternion_inverse(poses.from_rotation_vector(got[3:])),
    )
    directed = has_direction(wanted)
    same_way = bool(given) and (given[-1][6] > 0) == (true[-1][6] > 0)
    values = (
        1.0,
        float(directed),
        cosine(wanted, got) if directed else 0.0,
        1000.0 * float(np.linalg.norm(wanted[:3] - got[:3])),
        math.degrees(float(np.linalg.norm(poses.to_rotation_vector(off)))),
        float(same_way),
    )
    return dict(zip(names, values, strict=True))


def displacement(actions: Sequence[Sequence[float]]) -> Float[np.ndarray, "6"]:
    """Where actions lead altogether: the sum of their translations (m), their rotations one after another."""
    moved, turned = np.zeros(3), poses.IDENTITY[3:]
    for row in actions:
        moved = moved + np.asarray(row[:3], dtype=np.float64)
        turned = poses.quaternion_multiply(poses.from_rotation_vector(row[3:6]), turned)
    return np.concatenate([moved, poses.to_rotation_vector(turned)])


def has_direction(total: Float[np.ndarray, "6"]) -> bool:
    """Whether a displacement is large enough for its direction to mean something."""
    metres, radians = NO_DIRECTION
    return bool(np.linalg.norm(total[:3]) >= metres or np.linalg.norm(total[3:]) >= radians)


def cosine(a: Float[np.ndarray, "6"], b: Float[np.ndarray, "6"]) -> float:
    """Cosine between two displacements, metres and radians weighed by the limits of a step; 0 for none."""
    a, b = a / _LIMITS, b / _LIMITS
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths > 1e-12 else 0.0


_LIMITS = np.array([MAX_TRANSLATION] * 3 + [MAX_ROTATION] * 3)
