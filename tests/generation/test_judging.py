import numpy as np
import pytest
from tests.generation.made_up import make_nominal, make_perturbed, make_spans, make_trace

from failsafe.generation.judging import failure_step, judge_times, onset_step
from failsafe.records.case import Times

STILL = [0.5] * 9


def change(values, at, by):
    """The values, with `by` added from one of them on."""
    return [v + (by if i >= at else 0.0) for i, v in enumerate(values)]


# ---------------------------------------------------------------- onset


@pytest.mark.parametrize(
    ("perturbed", "onset"),
    [
        (make_trace(STILL), None),
        (make_trace(change(STILL, 5, 0.0009)), None),
        (make_trace(change(STILL, 5, 0.0011)), 5),
        (make_trace(change(STILL, 5, -0.0011)), 5),
        (make_trace(STILL, tool=change([0.0] * 9, 3, 0.0011)), 3),
        (make_trace(STILL, widths=change([0.08] * 9, 7, -0.0011)), 7),
        (make_trace(STILL, widths=change([0.08] * 9, 7, -0.0009)), None),
        (make_trace(STILL, yaw=change([0.0] * 9, 4, 0.012)), 4),
        (make_trace(STILL, yaw=change([0.0] * 9, 4, 0.008)), None),
        (make_trace(STILL, goal=change([1.0] * 9, 6, 0.01)), 6),
    ],
    ids=[
        "same",
        "hardly",
        "cube",
        "back",
        "tool",
        "fingers",
        "fingers-hardly",
        "turn",
        "turn-hardly",
        "mark",
    ],
)
def test_onset_is_the_first_effect_that_can_be_measured(perturbed, onset):
    assert onset_step(make_trace(STILL), perturbed, 0) == onset


def test_there_is_no_onset_before_the_injection():
    perturbed = make_trace(change(STILL, 2, 0.01))
    assert [onset_step(make_trace(STILL), perturbed, injection) for injection in (0, 2, 3, 8)] == [2, 2, 3, 8]


def test_an_effect_that_vanishes_again_is_one():
    perturbed = make_trace([0.5, 0.5, 0.5, 0.55, 0.5, 0.5, 0.5, 0.5, 0.5])
    assert onset_step(make_trace(STILL), perturbed, 0) == 3


def test_a_rollout_that_goes_on_is_compared_with_where_the_nominal_ended():
    nominal = make_trace([0.0, 0.1, 0.2])
    assert onset_step(nominal, make_trace([0.0, 0.1, 0.2, 0.2, 0.2]), 0) is None
    assert onset_step(nominal, make_trace([0.0, 0.1, 0.2, 0.2, 0.3]), 0) == 4
    assert (
        onset_step(nominal, make_trace([0.0, 0.1]), 0) is None
    )  # nor is a shorter one compared beyond its end


# ---------------------------------------------------------------- failure step


SPANS = make_spans(("reach", 4), ("lift", 4))


def judge(perturbed, spans=SPANS, nominal=STILL, nominal_spans=SPANS, onset=0):
    return failure_step(
        make_nominal(make_trace(nominal), nominal_spans), make_perturbed(perturbed, spans), onset
    )


@pytest.mark.parametrize(
    ("cube", "step"),
    [
        (change(STILL, 3, 0.03), 3),
        (change(STILL, 3, 0.019), 8),  # within 2 cm it is in place: the failure is at the plan's end
        ([0.5, 0.5, 0.6, 0.6, 0.5, 0.5, 0.6, 0.6, 0.6], 6),  # it came back, and was lost for good later
        ([0.6] * 9, 0),
        ([*STILL[:8], 0.6], 8),
    ],
    ids=["lost", "nudged", "twice", "always", "last"],
)
def test_failure_is_where_an_object_is_lost_for_good(cube, step):
    assert judge(make_trace(cube)) == step


def test_a_turned_object_is_lost():
    assert judge(make_trace(STILL, yaw=change([0.0] * 9, 5, 0.4))) == 5
    assert judge(make_trace(STILL, yaw=change([0.0] * 9, 5, 0.3))) == 8


def test_failure_is_not_before_the_onset():
    assert judge(make_trace(change(STILL, 3, 0.03)), onset=5) == 5
    assert judge(make_trace(STILL), onset=8) == 8


def test_a_mark_is_not_an_object_that_can_be_lost():
    assert judge(make_trace(STILL, goal=[2.0] * 9)) == 8


def test_with_nothing_out_of_place_the_failure_is_at_the_end_of_the_last_stage():
    settled = [0.5] * 12  # three steps of settling after the eight of the plan
    assert judge(make_trace(settled)) == 8
    assert judge(make_trace(settled), spans=()) == 11


def test_stages_of_different_length_are_compared_at_equal_shares():
    # The nominal rollout carries the cube 10 cm a step in its second stage, of 2 steps; here it takes 8.
    nominal = [0.0, 0.0, 0.0, 0.1, 0.2]
    nominal_spans = make_spans(("reach", 2), ("carry", 2))
    spans = make_spans(("reach", 2), ("carry", 8))
    # shares 0, 1/8 .. 7/8 of 2 steps: the nominal steps 2 2 2 2 3 3 3 3, and then its end
    slow = [0.0, 0.0, *[0.0] * 4, *[0.1] * 4, 0.2]
    assert judge(make_trace(slow), spans, nominal, nominal_spans) == 10
    assert judge(make_trace(change(slow, 7, -0.05)), spans, nominal, nominal_spans) == 7
    # without the alignment it would have been lost when the nominal rollout lifted it, at step 3
    assert judge(make_trace(change(slow, 10, -0.05)), spans, nominal, nominal_spans) == 10


def test_a_shorter_stage_is_compared_with_all_of_the_nominals():
    nominal = [0.0, 0.1, 0.2, 0.3, 0.4, 0.4]
    nominal_spans, spans = make_spans(("carry", 4), ("wait", 1)), make_spans(("carry", 2), ("wait", 1))
    # shares 0 and 1/2 of 4 steps: the nominal steps 0 and 2
    assert judge(make_trace([0.0, 0.2, 0.4, 0.4]), spans, nominal, nominal_spans) == 3
    assert judge(make_trace([0.0, 0.1, 0.3, 0.3]), spans, nominal, nominal_spans) == 1


def test_the_moments_are_put_together():
    nominal = make_nominal(make_trace(STILL), SPANS)
    lost = make_perturbed(
        make_trace(np.add(STILL, [0, 0, 0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.05]).tolist()), SPANS, 2
    )
    assert judge_times(nominal, lost) == Times(injection_step=2, onset_step=3, failure_step=5)
    same = make_perturbed(make_trace(STILL), SPANS, None)
    assert judge_times(nominal, same) == Times()
