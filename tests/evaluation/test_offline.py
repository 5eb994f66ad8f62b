"""Every figure against a handful of answers, counted by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.models.made_up import SPEC, sample, window

from failsafe.errors import UserError
from failsafe.evaluation.metrics import METRICS, cosine, displacement, has_direction
from failsafe.evaluation.offline import (
    EVERY,
    HEADLINE,
    NO_ANSWER,
    NO_FAILURE,
    Group,
    ModelScore,
    ScoreTable,
    SetScore,
    score,
)
from failsafe.evaluation.predictions import Prediction
from failsafe.models.baselines import Oracle
from failsafe.records import codec
from failsafe.records.assessment import Assessment, Status
from failsafe.records.embodiment import LIBERO_PANDA, MANISKILL_PANDA
from failsafe.records.provenance import Provenance
from failsafe.samples.sample import Kind


def said(probability: float, **fields: Any) -> Assessment:
    return Assessment(failure_probability=probability, **fields)


def row(x: float = 0.0, y: float = 0.0, z: float = 0.0, turn: float = 0.0, gripper: float = 1.0) -> Any:
    return (x, y, z, 0.0, 0.0, turn, gripper)


def bad(seed: int, assessment: Assessment, **fields: Any) -> Prediction:
    return Prediction(sample(f"bad-{seed}", True, seed=seed, **fields), assessment)


def good(seed: int, assessment: Assessment, **fields: Any) -> Prediction:
    return Prediction(sample(f"good-{seed}", seed=seed, **fields), assessment)


def score_one(predictions: list[Prediction]) -> SetScore:
    return score("model", {"held out": predictions}, 50).sets[0]


def value(predictions: list[Prediction], name: str) -> float | None:
    return score_one(predictions).headline.figures[name].value


def group(found: SetScore, by: str, name: str) -> Group:
    return next(g for g in found.groups if (g.by, g.name) == (by, name))


# Three failing samples, one of them missed; five others, one of them with a false alarm.
MIXED = [
    bad(0, said(0.9)),
    bad(1, said(0.5)),
    bad(2, said(0.3)),
    *(good(seed, said(0.1)) for seed in range(4)),
    good(4, said(0.6)),
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", 6 / 8),
        ("balanced", (2 / 3 + 4 / 5) / 2),
        ("precision", 2 / 3),
        ("recall", 2 / 3),
        # Of 15 pairs: 0.9 above all five, 0.5 and 0.3 above four each.
        ("auroc", 13 / 15),
        ("brier", (0.1**2 + 0.5**2 + 0.7**2 + 4 * 0.1**2 + 0.6**2) / 8),
        # One bin for each but the four: |0.9-1|, |0.5-1|, |0.3-1|, 4 x |0.1-0|, |0.6-0|
        ("ece", (0.1 + 0.5 + 0.7 + 0.4 + 0.6) / 8),
        ("unreadable", 0.0),
        ("refused", 0.0),
    ],
)
def test_failing_or_not(name: str, expected: float) -> None:
    assert value(MIXED, name) == pytest.approx(expected)


def test_errors_within_a_bin_of_calibration_cancel() -> None:
    # 0.75 each in one bin: three of four are failing, as they should be.
    predictions = [*(bad(seed, said(0.75)) for seed in range(3)), good(3, said(0.75))]
    assert value(predictions, "ece") == pytest.approx(0.0)
    assert value(predictions, "brier") == pytest.approx((3 * 0.25**2 + 0.75**2) / 4)


def test_what_cannot_be_read_is_wrong_everywhere() -> None:
    nothing, broken = Assessment(status=Status.UNREADABLE), Assessment(status=Status.REFUSED)
    predictions = [
        bad(0, nothing),
        bad(1, said(1.0, mode="translation_x", stage="reach", actions=(row(x=0.02),))),
        good(2, broken),
        good(3, said(0.0, stage="reach")),
    ]
    expected = {
        "accuracy": 0.5,
        "balanced": 0.5,
        "precision": 0.5,
        "recall": 0.5,
        "auroc": (0.0 + 0.5 + 0.5 + 1.0) / 4,  # 0 and 1 against 1 and 0
        "mode": 0.5,
        "stage": 0.5,
        "cosine": 0.5,
        "millimetres": 10.0,
        "gripper": 0.5,
        "brier": 0.5,
        "unreadable": 0.25,
        "refused": 0.25,
    }
    headline = score_one(predictions).headline
    assert {name: headline.figures[name].value for name in expected} == pytest.approx(expected)


def test_an_unreadable_answer_asks_for_help_where_none_is_needed() -> None:
    predictions = [
        bad(0, said(1.0, needs_help=True), recoverable=False, actions=()),
        bad(1, Assessment(status=Status.UNREADABLE), recoverable=False, actions=()),
        bad(2, Assessment(status=Status.UNREADABLE)),
        bad(3, said(1.0)),
    ]
    # One right, one missed, one too many: 2 / (2 + 1 + 1).
    assert value(predictions, "help") == 0.5


def test_the_mode_is_asked_of_failures_with_one_cause() -> None:
    predictions = [
        bad(0, said(1.0, mode="slip"), mode="slip"),
        bad(1, said(0.2, mode="drift"), mode="drift"),  # given that it fails, it is named rightly
        bad(2, said(1.0, mode="translation_y"), mode="translation_x"),
        bad(3, said(1.0, mode="compound"), mode="compound"),
        good(4, said(0.0)),
    ]
    found = score_one(predictions)
    assert found.headline.figures["mode"].value == pytest.approx(2 / 3)
    assert found.headline.figures["mode"].rows == 3
    assert found.headline.counts["compound"] == 1
    assert group(found, "mode", "compound").figures["mode"].value is None
    assert group(found, "mode", "drift").figures["recall"].value == 0.0


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ((row(x=0.02),), 1.0),
        ((row(x=0.01), row(x=0.015)), 1.0),  # however long
        ((row(y=0.02),), 0.0),
        ((row(x=-0.01),), -1.0),
        ((row(x=0.01, y=0.01),), math.sqrt(0.5)),
        # 0.01 m is 0.4 of a step, 0.05 rad as well
        ((row(x=0.01, turn=0.05),), math.sqrt(0.5)),
        ((), 0.0),
        ((row(),), 0.0),
    ],
)
def test_cosine(actions: Any, expected: float) -> None:
    # The truth is 20 mm along x.
    assert value([bad(0, said(1.0, actions=actions))], "cosine") == pytest.approx(expected)


def test_deltas_in_another_frame_count_as_none() -> None:
    predictions = [bad(0, said(1.0, actions=(row(x=0.02),), frame="tcp"))]
    assert (value(predictions, "cosine"), value(predictions, "millimetres")) == (0.0, pytest.approx(20.0))


def test_corrections_without_a_direction_are_left_out_and_counted() -> None:
    small = (row(x=0.003, turn=0.019, gripper=-1.0),)
    predictions = [
        bad(0, said(1.0, actions=(row(x=0.02),))),
        bad(1, said(1.0, actions=(row(z=0.02, gripper=-1.0),)), actions=small),
        bad(2, said(1.0), recoverable=False, actions=()),
        good(3, said(0.0)),
    ]
    headline = score_one(predictions).headline
    assert (headline.figures["cosine"].value, headline.figures["cosine"].rows) == (1.0, 1)
    assert headline.counts["without direction"] == 1
    assert headline.counts["without correction"] == 1
    assert headline.figures["millimetres"].rows == 2
    assert headline.figures["millimetres"].value == pytest.approx(math.hypot(3, 20) / 2)
    assert headline.figures["degrees"].value == pytest.approx(math.degrees(0.019) / 2)
    assert headline.figures["gripper"].value == 1.0


def test_directions_begin_at_5_mm_or_0_02_rad() -> None:
    assert has_direction(np.array([0.0, 0.005, 0, 0, 0, 0]))
    assert has_direction(np.array([0.0, 0, 0, 0.02, 0, 0]))
    assert not has_direction(np.array([0.0049, 0, 0, 0.019, 0, 0]))


def test_rotations_are_composed_not_added() -> None:
    quarter = math.pi / 2
    total = displacement([(0.01, 0.0, 0.0, quarter, 0.0, 0.0, 1.0), row(y=0.02, turn=quarter)])
    # A quarter turn about x, then one about z, is a third of a turn about (1, 1, 1).
    third = 2 * math.pi / 3 / math.sqrt(3)
    np.testing.assert_allclose(total, [0.01, 0.02, 0, third, third, third], atol=1e-12)
    predictions = [
        bad(0, said(1.0, actions=(row(turn=0.1),)), actions=((0.02, 0.0, 0.0, 0.1, 0.0, 0.0, 1.0),)),
    ]
    # exp(-0.1 z) exp(0.1 x): nearly at right angles, so nearly 0.1 * sqrt(2)
    assert value(predictions, "degrees") == pytest.approx(math.degrees(0.1 * math.sqrt(2)), rel=1e-3)


def test_cosine_of_nothing_is_nothing() -> None:
    assert cosine(np.zeros(6), np.ones(6), MANISKILL_PANDA) == 0.0


def test_cosine_takes_the_limits_of_the_sample_s_robot() -> None:
    """0.01 m and 0.05 rad: 0.4 of a step of ManiSkill's Panda each; of LIBERO's 0.115 and 0.058."""
    predictions = {"held out": [bad(0, said(1.0, actions=(row(x=0.01, turn=0.05),)))]}
    robots = {predictions["held out"][0].sample.task: LIBERO_PANDA}
    found = score("model", predictions, 10, robots).sets[0].headline.figures["cosine"].value
    assert found == pytest.approx(2 / math.sqrt(5))


def test_latency_in_milliseconds() -> None:
    predictions = [good(seed, said(0.0, latency=0.001 * (seed + 1))) for seed in range(5)]
    assert value(predictions, "latency") == pytest.approx(3.0)
    assert value(predictions, "latency_p95") == pytest.approx(4.8)


def test_no_data_is_none_and_not_zero() -> None:
    figures = score_one([good(0, said(0.0)), good(1, said(0.0))]).headline.figures
    without = ("balanced", "precision", "recall", "auroc", "mode", "cosine", "millimetres", "help")
    assert all(figures[name].value is None and figures[name].low is None for name in without)
    assert figures["accuracy"].value == 1.0


def test_among_failing_moments_alone_there_is_no_precision_and_no_calibration() -> None:
    figures = group(score_one(MIXED), "mode", "translation_x").figures
    assert figures["recall"].value == pytest.approx(2 / 3)
    assert figures["precision"].value is None
    assert figures["ece"].value is None


def test_long_after_has_its_own_row_and_is_not_in_the_headline() -> None:
    late = bad(9, said(0.0), kind=Kind.LONG_AFTER, mode="slip")
    found = score_one([*MIXED, late])
    assert found.headline.name == HEADLINE
    assert found.headline.counts["moments"] == 8
    assert found.headline.figures["accuracy"].value == 6 / 8
    assert group(found, "all", EVERY).figures["accuracy"].value == pytest.approx(6 / 9)
    assert group(found, "kind", "long_after").figures["recall"].value == 0.0
    assert group(found, "task", "Pick-v0").counts["moments"] == 8
    assert not [g for g in found.groups if g.name == "slip"]
    assert [g.name for g in found.groups if g.by == "kind"] == ["nominal", "just_after", "long_after"]


def test_intervals_come_from_seeds() -> None:
    # One seed out of ten is wholly wrong, of 5 rows each: as if there were ten rows.
    predictions = [good(seed, said(0.9 if seed == 0 else 0.1)) for seed in range(10) for _ in range(5)]
    figure = score("model", {"a": predictions}, 2000).sets[0].headline.figures["accuracy"]
    assert figure.value == pytest.approx(0.9)
    # The wrong seed is drawn Binomial(10, 1/10) times: at most 3 in 98.7 % of the draws, 0 in 35 %.
    assert (figure.low, figure.high) == pytest.approx((0.7, 1.0))
    single = score_one(predictions[5:10]).headline.figures["accuracy"]
    assert (single.value, single.low, single.high) == (1.0, 1.0, 1.0)


def test_differences_are_taken_seed_by_seed_where_the_seeds_are_the_same() -> None:
    rng = np.random.default_rng(0)
    first = [good(seed, said(float(rng.random()) if seed else 0.1)) for seed in range(40)]
    worse = [Prediction(a.sample, said(0.9)) if a.sample.seed == 0 else a for a in first]
    sets = score("model", {"a": first, "b": worse, "c": first}, 500).sets
    assert sets[0].differences == {}
    paired = sets[1].differences["accuracy"]
    assert paired.value == pytest.approx(-1 / 40)
    assert paired.low is not None
    assert paired.low >= -0.15  # the difference rests on one seed; unpaired it would be as wide as the figure
    same = sets[2].differences["brier"]
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    others = [replace(a, sample=replace(a.sample, seed=a.sample.seed + 100)) for a in first]
    apart = score("model", {"a": first, "b": others}, 500).sets[1].differences["accuracy"]
    assert apart.value == 0.0
    assert apart.low is not None
    assert apart.low < -0.1


def test_confusion_of_modes() -> None:
    predictions = [
        bad(0, said(1.0, mode="slip"), mode="slip"),
        bad(1, said(1.0, mode="drift"), mode="slip"),
        bad(2, said(0.1, mode="slip"), mode="slip"),
        good(3, said(1.0)),
        good(4, Assessment(status=Status.UNREADABLE)),
    ]
    found = score_one(predictions).confusion
    assert found.rows == ("slip", NO_FAILURE)
    assert found.columns == ("drift", "slip", "unnamed", NO_FAILURE, NO_ANSWER)
    assert found.counts == ((1, 1, 0, 1, 0), (0, 0, 1, 0, 1))


def test_reliability_and_roc() -> None:
    found = score_one(MIXED)
    assert [(b.count, b.probability, b.failing) for b in found.reliability] == [
        (4, pytest.approx(0.1), 0.0),
        (1, 0.3, 1.0),
        (1, 0.5, 1.0),
        (1, 0.6, 0.0),
        (1, 0.9, 1.0),
    ]
    expected = [(0, 0), (0, 1 / 3), (0.2, 1 / 3), (0.2, 2 / 3), (0.2, 1), (1, 1)]
    np.testing.assert_allclose(found.roc, expected)
    assert score_one([good(0, said(0.0))]).roc == ()


def test_the_oracle_is_perfect_and_its_score_reads_back() -> None:
    samples = [
        sample("a", True, seed=0),
        sample("b", True, seed=1, mode="slip", actions=(), recoverable=False),
        sample("c", seed=2),
        sample("d", seed=3, kind=Kind.HARMLESS),
    ]
    oracle = Oracle(SPEC, {s.name: s for s in samples})
    result = score(
        "oracle", {"held out": [Prediction(s, oracle.assess(window(name=s.name))) for s in samples]}
    )
    figures = result.sets[0].headline.figures
    for name in ("accuracy", "balanced", "precision", "recall", "auroc", "mode", "stage", "cosine", "help"):
        assert figures[name].value == pytest.approx(1.0)
    for name in ("millimetres", "degrees", "ece", "brier", "unreadable"):
        assert figures[name].value == pytest.approx(0.0)
    assert set(figures) == {metric.name for metric in METRICS}
    assert codec.loads(ModelScore, codec.dumps(result)) == result


def test_an_empty_split_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="got none: is the split empty"):
        score("model", {"held out": []})
    with pytest.raises(UserError, match="samples to score in 'late'"):
        score("model", {"late": [bad(0, said(1.0), kind=Kind.LONG_AFTER)]})


def test_a_stored_table_loses_the_published_figures_of_earlier_versions() -> None:
    found = score("model", {"all": [bad(0, said(1.0)), good(1, said(0.0))]}, 10)
    table = ScoreTable((found,), "test", 10, "", {}, Provenance("0123abc", False, {}, "Linux"))
    old = json.loads(codec.dumps(table))
    old |= {"format": "ScoreTable/1", "published": [{"model": "other", "figures": {"accuracy": 0.9}}]}
    assert codec.loads(ScoreTable, json.dumps(old)) == table
