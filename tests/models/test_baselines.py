"""The baselines, on windows whose right answer is known by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.models.made_up import CLOSED, LIFT, SPEC, line, sample, window

from failsafe.errors import AssessmentError, UserError
from failsafe.models.baselines import (
    NearestNominal,
    Oracle,
    RandomGuess,
    Reversals,
    always,
    best_threshold,
    fit_baselines,
    never,
    reversal_rate,
    spread,
)
from failsafe.models.contract import MAX_ACTIONS, RecoveryModel
from failsafe.records import poses
from failsafe.records.assessment import Window
from failsafe.records.embodiment import LIBERO_PANDA, MANISKILL_PANDA, EmbodimentSpec
from failsafe.samples.sample import Kind

# Seeds 0 to 5: a good moment on the line each, and a failing one 60 mm beside it.
SEEDS = range(6)
HEIGHTS = [0.10 + 0.02 * seed for seed in SEEDS]
SAMPLES = [sample(f"good-{seed}", seed=seed, stage="descend") for seed in SEEDS] + [
    sample(f"bad-{seed}", failing=True, seed=seed) for seed in SEEDS
]
WINDOWS = [window(line(h), name=f"good-{i}") for i, h in enumerate(HEIGHTS)] + [
    window(line(h, 0.06), name=f"bad-{i}") for i, h in enumerate(HEIGHTS)
]


def zigzag() -> list[list[float]]:
    return [[0.4 + 0.01 * (step % 2), 0.0, 0.3] for step in range(SPEC.history + 1)]


def test_never_and_always_say_one_thing() -> None:
    assert never(SPEC).assess(window()).failing is False
    assessment = always(SPEC, "slip", "lift").assess(window())
    assert (assessment.failing, assessment.mode, assessment.stage, assessment.actions) == (
        True,
        "slip",
        "lift",
        (),
    )


def test_a_guess_repeats_and_depends_on_what_the_tool_did() -> None:
    model = RandomGuess(SPEC, MANISKILL_PANDA, ("slip", "drift"), ("reach", "lift"))
    windows = [window(line(0.1 + 0.001 * i)) for i in range(200)]
    guesses = [model.assess(w) for w in windows]
    assert guesses == [model.assess(w) for w in windows]
    assert 70 <= sum(g.failing for g in guesses) <= 130  # half of 200, within four standard deviations
    assert {g.mode for g in guesses} == {"", "slip", "drift"}
    assert {g.stage for g in guesses} == {"reach", "lift"}
    assert all(bool(g.actions) == g.failing for g in guesses)


@pytest.mark.parametrize(
    ("positions", "rate"),
    [
        (line(0.1), 0.0),
        (zigzag(), 1.0),  # four movements, each against the one before
        ([[0.4, 0.0, 0.3]] * 5, 0.0),
        # forth, forth, back, (rest): one of two turns
        ([[0.0, 0, 0], [0.01, 0, 0], [0.02, 0, 0], [0.01, 0, 0], [0.01, 0.0001, 0]], 0.5),
    ],
)
def test_reversal_rate(positions: list[list[float]], rate: float) -> None:
    assert reversal_rate(window(positions), 20.0) == rate


def test_reversals_learn_where_the_line_is() -> None:
    half = [[0.0, 0, 0], [0.01, 0, 0], [0.02, 0, 0], [0.01, 0, 0], [0.0, 0, 0]]  # one turn of three
    samples = [sample("a"), sample("b"), sample("c", True), sample("d", True)]
    windows = [window(line(0.1)), window(half), window(zigzag()), window(zigzag())]
    model = Reversals.fit(samples, windows, SPEC, 20.0)
    assert model.threshold == pytest.approx((1 / 3 + 1) / 2)
    assert [model.assess(w).failing for w in windows] == [False, False, True, True]
    assert model.assess(windows[2]).failure_probability == pytest.approx(1 / (1 + 2 / 3))


def test_return_to_nominal_leads_back_to_the_line() -> None:
    model = NearestNominal.fit(SAMPLES, WINDOWS, SPEC, MANISKILL_PANDA)
    lost = window(line(0.14, beside=0.06))
    assessment = model.assess(lost)
    assert assessment.failing
    assert (assessment.mode, assessment.stage) == ("translation_x", "descend")
    # 60 mm at 25 mm a step are three actions of -20 mm along x, with the gripper open as it was then.
    assert len(assessment.actions) == 3
    np.testing.assert_allclose(assessment.actions, [[-0.02, 0, 0, 0, 0, 0, 1.0]] * 3, atol=1e-6)
    fine = model.assess(window(line(0.145, beside=0.001)))
    assert (fine.failing, fine.actions, fine.stage) == (False, (), "descend")


def test_return_to_nominal_also_looks_at_the_gripper_and_the_turn() -> None:
    model = NearestNominal.fit(SAMPLES, WINDOWS, SPEC, MANISKILL_PANDA)
    shut = model.assess(window(line(0.14), width=CLOSED - 0.04))
    assert shut.failing
    assert shut.actions[-1][6] == 1.0  # there, the gripper was open
    turn = poses.quaternion_multiply(poses.from_rotation_vector((0.0, 0.0, 0.5)), np.array([0.0, 1, 0, 0]))
    turned = model.assess(window(line(0.14), quaternion=turn.tolist()))
    assert (turned.failing, turned.mode) == (True, "rotation_z")
    np.testing.assert_allclose(np.sum(turned.actions, axis=0)[:6], [0, 0, 0, 0, 0, -0.5], atol=1e-6)


def test_return_to_nominal_learns_its_threshold_from_other_seeds() -> None:
    model = NearestNominal.fit(SAMPLES, WINDOWS, SPEC, MANISKILL_PANDA)
    # To the nearest good moment of another seed it is 20 mm, from the bad ones sqrt(60^2 + 20^2) mm.
    near, far = 0.02 / 0.025, np.hypot(0.06, 0.02) / 0.025
    assert model.threshold == pytest.approx((near + far) / 2, rel=1e-4)


def test_return_to_nominal_learns_from_training_samples_alone() -> None:
    moved = [replace(s, split="test") if s.seed == 5 else s for s in SAMPLES]
    assert len(NearestNominal.fit(moved, WINDOWS, SPEC, MANISKILL_PANDA).memory[LIFT].poses) == 5
    with pytest.raises(UserError, match="in the split train, got none"):
        NearestNominal.fit([replace(s, kind=Kind.HARMLESS) for s in SAMPLES], WINDOWS, SPEC, MANISKILL_PANDA)


def test_return_to_nominal_refuses_a_task_that_it_never_saw() -> None:
    model = NearestNominal.fit(SAMPLES, WINDOWS, SPEC, MANISKILL_PANDA)
    with pytest.raises(AssessmentError, match="got the task 'push the cube'"):
        model.assess(window(instruction="push the cube"))


def test_the_oracle_knows_what_it_was_told() -> None:
    lost = sample("lost", True, actions=(), recoverable=False, mode="slip", stage="lift")
    model = Oracle(SPEC, {s.name: s for s in [*SAMPLES, lost]})
    assessment = model.assess(window(name="lost"))
    assert (assessment.failing, assessment.mode, assessment.stage, assessment.needs_help) == (
        True,
        "slip",
        "lift",
        True,
    )
    assert model.assess(window(name="bad-0")).actions == SAMPLES[-1].actions
    assert model.assess(window(name="good-0")).failing is False
    with pytest.raises(AssessmentError, match="got 'unheard of'"):
        model.assess(window(name="unheard of"))


def test_no_baseline_uses_images() -> None:
    models = fit_baselines(SAMPLES, WINDOWS, SPEC, SAMPLES, MANISKILL_PANDA)
    assert [m.name for m in models] == [
        "never",
        "always",
        "random",
        "direction reversals",
        "return to nominal",
        "oracle",
    ]
    assert all(isinstance(model, RecoveryModel) for model in models)
    assert models[1].assess(WINDOWS[0]).mode == "translation_x"
    for model in models:
        dark, bright = (window(line(0.12, 0.03), name="bad-1", brightness=b) for b in (0, 255))
        assert model.assess(dark) == model.assess(bright)


@pytest.mark.parametrize(
    ("scores", "truth", "expected"),
    [
        ([0.0, 1.0, 2.0, 3.0], [False, False, True, True], 1.5),
        ([3.0, 0.0, 2.0, 1.0], [True, False, False, False], 2.5),
        ([1.0, 1.0, 1.0, 2.0], [False, True, False, True], 1.5),  # never between equals
        ([0.0, 1.0], [True, False], 0.0),  # of no use: yes to all
    ],
)
def test_best_threshold(scores: list[float], truth: list[bool], expected: float) -> None:
    assert best_threshold(np.array(scores), np.array(truth)) == expected


def test_a_threshold_needs_both_sorts() -> None:
    with pytest.raises(UserError, match="one class only"):
        best_threshold(np.array([0.0, 1.0]), np.array([True, True]))


numbers = st.lists(st.floats(-1.0, 1.0), min_size=6, max_size=6)


@pytest.mark.parametrize("robot", [MANISKILL_PANDA, LIBERO_PANDA], ids=["maniskill", "libero"])
@given(total=numbers)
def test_spread_keeps_the_limits_and_arrives(total: list[float], robot: EmbodimentSpec) -> None:
    actions = np.array(spread(np.array(total), -1.0, robot))
    assert 1 <= len(actions) <= MAX_ACTIONS
    assert np.linalg.norm(actions[:, :3], axis=1).max() <= robot.max_translation + 1e-6
    assert np.linalg.norm(actions[:, 3:6], axis=1).max() <= robot.max_rotation + 1e-6
    if len(actions) < MAX_ACTIONS:
        np.testing.assert_allclose(actions[:, :6].sum(axis=0), total, atol=1e-9)


def test_windows_that_are_not_as_wanted_are_refused() -> None:
    other = replace(SPEC, history=SPEC.history + 1)
    wrong = window()
    for model in fit_baselines(SAMPLES, WINDOWS, SPEC, SAMPLES, MANISKILL_PANDA):
        with pytest.raises(AssessmentError, match="history"):
            model.assess(Window(LIFT, other, wrong.frames, wrong.tcp_poses, wrong.gripper_widths))


def test_baselines_take_the_limits_of_the_robot() -> None:
    """60 mm are three steps of ManiSkill's Panda and one of LIBERO's; a step is a speed at a control rate."""
    model = NearestNominal.fit(SAMPLES, WINDOWS, SPEC, LIBERO_PANDA)
    lost = model.assess(window(line(0.14, beside=0.06)))
    np.testing.assert_allclose(lost.actions, [[-0.06, 0, 0, 0, 0, 0, 1.0]], atol=1e-6)
    near, far = (x / LIBERO_PANDA.max_translation for x in (0.02, np.hypot(0.06, 0.02)))
    assert model.threshold == pytest.approx((near + far) / 2, rel=1e-4)
    guesses = [RandomGuess(SPEC, LIBERO_PANDA).assess(window(line(0.1 + 0.001 * i))) for i in range(40)]
    longest = max(np.linalg.norm(action[:3]) for guess in guesses for action in guess.actions)
    assert MANISKILL_PANDA.max_translation < longest <= LIBERO_PANDA.max_translation + 1e-9
    slow = [[0.0006 * (step % 2), 0.0, 0.3] for step in range(SPEC.history + 1)]
    assert (reversal_rate(window(slow), 20.0), reversal_rate(window(slow), 10.0)) == (1.0, 0.0)


def test_an_opening_counts_by_the_travel_of_the_gripper() -> None:
    wide = replace(MANISKILL_PANDA, gripper_travel=0.16)
    fixed = replace(MANISKILL_PANDA, gripper_travel=0.0, action_dimensions=(True,) * 6 + (False,))
    models = {
        robot: NearestNominal.fit(SAMPLES, WINDOWS, SPEC, robot) for robot in (MANISKILL_PANDA, wide, fixed)
    }
    now = window(line(0.10)).tcp_poses[-1].astype(np.float64)
    width = float(WINDOWS[0].gripper_widths[-1])
    far = [model.memory[LIFT].nearest(now, width - 0.04)[1] for model in models.values()]
    assert far == pytest.approx([2.0, 1.0, 0.0], abs=1e-4)
