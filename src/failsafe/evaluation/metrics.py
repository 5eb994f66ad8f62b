"""Offline metrics of single samples: from predictions to columns, from sums of columns to metrics.

All metrics but AUROC and latency are functions of sums over rows, so a bootstrap over seeds is one matrix
product. An unreadable or refused answer counts as the opposite of the truth with probability 1; it names no
mode and no stage, and has no actions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from failsafe.evaluation.predictions import Prediction
from failsafe.evaluation.statistics import SeedBootstrap
from failsafe.records import poses
from failsafe.records.assessment import Assessment, Status
from failsafe.records.embodiment import MANISKILL_PANDA, EmbodimentSpec

BINS = 15
"""Bins of equal width for the calibration error."""
NO_DIRECTION = (0.005, 0.02)
"""A true correction with less translation (m) and less rotation (rad) than this has no direction."""
COMPOUND = "compound"
"""Mode of a sample with two perturbations, which counts for no single mode."""
FRAME = "robot_base"
"""Frame of the true corrections."""


@dataclass(frozen=True)
class Metric:
    """One metric of the tables.

    Attributes:
        name: Its key.
        title: Its heading.
        unit: "" for a number from 0 to 1 (or -1 to 1), else "mm", "°" or "ms".
        better: "high" or "low".
        rows: Column whose sum is the number of rows that it is computed from.
        meaning: One sentence for the reader of the table.
    """

    name: str
    title: str
    unit: str
    better: str
    rows: str
    meaning: str


METRICS = (
    Metric("accuracy", "failing or not", "", "high", "rows", "Share of samples classified correctly."),
    Metric(
        "balanced",
        "balanced",
        "",
        "high",
        "rows",
        "Mean of the recall on failing samples and of the specificity on the others.",
    ),
    Metric(
        "precision",
        "precision",
        "",
        "high",
        "alarms",
        "Share of alarms on failing samples, where there are other samples.",
    ),
    Metric("recall", "recall", "", "high", "failing", "Share of failing samples with an alarm."),
    Metric(
        "auroc",
        "AUROC",
        "",
        "high",
        "rows",
        "Probability that a failing sample gets a higher failure probability than another sample.",
    ),
    Metric(
        "mode",
        "type with axis",
        "",
        "high",
        "typed",
        "Share of failing samples with one perturbation whose mode is named correctly, axis included.",
    ),
    Metric("stage", "stage", "", "high", "rows", "Share of samples whose stage is named correctly."),
    Metric(
        "cosine",
        "cosine",
        "",
        "high",
        "directed",
        "Cosine between the predicted and the true total displacement in 6-D, translation and rotation "
        "divided by the robot's limits per step; 0 without actions. Samples whose correction moves less "
        f"than {1000 * NO_DIRECTION[0]:g} mm and turns less than {NO_DIRECTION[1]:g} rad are left out.",
    ),
    Metric(
        "millimetres",
        "error",
        "mm",
        "low",
        "corrected",
        "Mean distance between the end points of the predicted and the true correction.",
    ),
    Metric(
        "degrees",
        "error",
        "°",
        "low",
        "corrected",
        "Mean angle between the final orientations of the predicted and the true correction.",
    ),
    Metric(
        "gripper",
        "gripper",
        "",
        "high",
        "corrected",
        "Share of corrections whose last gripper command is correct.",
    ),
    Metric(
        "help",
        "unrecoverable F1",
        "",
        "high",
        "failing",
        "F1 of asking for help on failing samples; positives are those without a proven correction.",
    ),
    Metric(
        "ece",
        "calibration error",
        "",
        "low",
        "rows",
        f"Expected calibration error of the probability of failure, {BINS} bins of equal width, "
        "where there are failing and other samples.",
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
    """Predictions as columns of numbers, one row per prediction.

    Attributes:
        seeds: Seed of the initial state. [N]
        truth: 1 if the sample is failing, else 0. [N]
        probability: Failure probability; the opposite of the truth for an unusable answer. [N]
        latency: Seconds per assessment. [N]
        columns: Summands by name, [N] each.
    """

    seeds: Int[np.ndarray, "N"]
    truth: Int[np.ndarray, "N"]
    probability: Float[np.ndarray, "N"]
    latency: Float[np.ndarray, "N"]
    columns: Mapping[str, Float[np.ndarray, "N"]]

    @classmethod
    def of(cls, predictions: Sequence[Prediction], robots: Mapping[str, EmbodimentSpec]) -> Rows:
        """Make the rows of predictions.

        Args:
            predictions: The predictions.
            robots: The robot of each task; ManiSkill's Panda for a task that is not in it.
        """
        truth = np.array([int(a.sample.failing) for a in predictions], dtype=np.int64)
        usable = [a.assessment.status is Status.OK for a in predictions]
        given = [a.assessment.failure_probability for a in predictions]
        probability = np.where(usable, np.array(given, dtype=np.float64), 1.0 - truth)
        found = [_columns(a, robots.get(a.sample.task, MANISKILL_PANDA)) for a in predictions]
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
        """Return the rows with these numbers."""
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
    """Compute every metric in every resample.

    Args:
        rows: The predictions; at least one.
        bootstrap: Resamples of their seeds; the first holds every seed once.

    Returns:
        The values by name of the metric, NaN if undefined, one value for latencies; and the number of rows
        that each metric is computed from.
    """
    names = list(rows.columns)
    sums = bootstrap.total(np.stack([rows.columns[name] for name in names], axis=1))
    t = {name: sums[:, i] for i, name in enumerate(names)}
    correct = t["hits"] + t["rows"] - t["failing"] - t["false alarms"]
    negatives = t["rows"] - t["failing"]
    # Precision and calibration error are undefined if all samples are failing.
    mixed = (t["failing"] > 0) & (negatives > 0)
    values = {
        "accuracy": _ratio(correct, t["rows"]),
        "balanced": (_ratio(t["hits"], t["failing"]) + _ratio(negatives - t["false alarms"], negatives)) / 2,
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


def _columns(prediction: Prediction, robot: EmbodimentSpec) -> dict[str, float]:
    """Return the summands of one prediction."""
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
        **_correction(sample.actions if sample.failing else (), assessment, robot),
    }


def _correction(
    true: Sequence[Sequence[float]], assessment: Assessment, robot: EmbodimentSpec
) -> dict[str, float]:
    names = ("corrected", "directed", "cosine", "millimetres", "degrees", "gripper right")
    if not true:
        return dict.fromkeys(names, 0.0)
    # Deltas in another frame are not comparable and count as no actions.
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
        cosine(wanted, got, robot) if directed else 0.0,
        1000.0 * float(np.linalg.norm(wanted[:3] - got[:3])),
        math.degrees(float(np.linalg.norm(poses.to_rotation_vector(off)))),
        float(same_way),
    )
    return dict(zip(names, values, strict=True))


def displacement(actions: Sequence[Sequence[float]]) -> Float[np.ndarray, "6"]:
    """Return the total displacement of actions: summed translation (m), composed rotation vector (rad)."""
    moved, turned = np.zeros(3), poses.IDENTITY[3:]
    for row in actions:
        moved = moved + np.asarray(row[:3], dtype=np.float64)
        turned = poses.quaternion_multiply(poses.from_rotation_vector(row[3:6]), turned)
    return np.concatenate([moved, poses.to_rotation_vector(turned)])


def has_direction(total: Float[np.ndarray, "6"]) -> bool:
    """Return whether a displacement (m, rad) is large enough for its direction to be meaningful."""
    metres, radians = NO_DIRECTION
    return bool(np.linalg.norm(total[:3]) >= metres or np.linalg.norm(total[3:]) >= radians)


def cosine(a: Float[np.ndarray, "6"], b: Float[np.ndarray, "6"], robot: EmbodimentSpec) -> float:
    """Return the cosine between two displacements (m, rad), each part divided by its limit per step.

    Args:
        a: One displacement.
        b: The other.
        robot: The robot, with its limits per step.

    Returns:
        The cosine; 0 if one of them is zero.
    """
    metres, radians = robot.step_limits
    limits = np.array([metres] * 3 + [radians] * 3)
    a, b = a / limits, b / limits
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths > 1e-12 else 0.0
