"""When the model is queried: at the interval, and sooner if the tool has stalled or reversed."""

import pytest
from tests.monitors.scripted import observation, seconds

from failsafe.monitors.timing import QueryTiming

TIMING = QueryTiming(
    interval=seconds(10), min_interval=seconds(5), stall_distance=0.004, reversal_cosine=-0.5
)


def path(*places, widths=None):
    widths = widths or [0.08] * len(places)
    return tuple(
        observation(i, (0.5 + x, y, 0.3), width)
        for i, ((x, y), width) in enumerate(zip(places, widths, strict=True))
    )


STRAIGHT = path((0, 0), (0.01, 0), (0.02, 0), (0.03, 0), (0.04, 0))
STILL = path((0, 0), (0.001, 0), (0.002, 0), (0.003, 0), (0.0039, 0))
SLOW = path((0, 0), (0.001, 0), (0.002, 0), (0.003, 0), (0.0041, 0))
BACK = path((0, 0), (0.01, 0), (0.02, 0), (0.01, 0), (0, 0.001))
GRIPPING = path(*[(0, 0)] * 5, widths=[0.08, 0.07, 0.06, 0.05, 0.04])


@pytest.mark.parametrize(("since", "due"), [(9, False), (10, True), (11, True)])
def test_at_the_interval(since, due):
    assert TIMING.due(since, STRAIGHT, 20.0) is due


@pytest.mark.parametrize("history", [STILL, BACK])
@pytest.mark.parametrize(("since", "due"), [(0, False), (4, False), (5, True)])
def test_never_before_the_shortest_interval(history, since, due):
    assert TIMING.due(since, history, 20.0) is due


def test_a_tool_that_moves_or_grips_has_not_stalled():
    assert not TIMING.due(5, SLOW, 20.0)
    assert not TIMING.due(5, GRIPPING, 20.0)
    assert TIMING.due(5, path(*[(0, 0)] * 5, widths=[0.08, 0.08, 0.08, 0.08, 0.077]), 20.0)


@pytest.mark.parametrize(
    ("end", "due"),
    [
        ((0.02, 0.02), False),  # a right angle
        ((0.015, 0.02), False),  # 104 degrees, cosine -0.24
        ((0.005, 0.02), True),  # 127 degrees, cosine -0.6
        ((0.0165, 0), False),  # reversed by less than 4 mm: jitter
    ],
)
def test_a_reversal_is_measured_by_its_cosine(end, due):
    # 20 mm along x in the first half, then to the end point.
    assert TIMING.due(5, path((0, 0), (0.01, 0), (0.02, 0), (0.02, 0), end), 20.0) is due
