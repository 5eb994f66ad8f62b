"""What a study comes to, against numbers counted by hand, and what must hold for any study."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failsafe.errors import RecordError, UserError
from failsafe.evaluation.paired import ALL_TASKS, PERTURBED, Change, pairs_of, summarise
from failsafe.evaluation.statistics import mcnemar, sign_flip, wilson
from failsafe.records import codec
from failsafe.records.episode import Ending, Episode, EpisodeKey
from failsafe.records.event import Event, EventKind
from failsafe.reports.evaluation_tables import headlines

WORKED, FAILED = Ending.SUCCESS, Ending.FAILURE


def made(
    seed: int,
    ending: Ending,
    condition: str = "never",
    events: Sequence[Event] = (),
    steps: int = 100,
    task: str = "Pick",
    scenario: str = "nominal",
    waited: float = 0.0,
    onset: int | None = None,
) -> Episode:
    key = EpisodeKey(task, scenario, "weak", condition, seed)
    return Episode(key, "pick", ending, steps, steps / 20, 0.1, waited, tuple(events), injection_step=onset)


def alarm(step: int, *more: EventKind) -> list[Event]:
    return [Event(step, EventKind.ALARM), *(Event(step, kind) for kind in more)]


TAKE_OVER, HELP = EventKind.TAKE_OVER, EventKind.HELP
BY_HAND = [
    *(made(seed, WORKED if seed < 3 else FAILED) for seed in range(6)),
    made(0, WORKED, "monitor", steps=40, waited=0.5),  # still succeeded, 2 s on the robot
    made(1, WORKED, "monitor", alarm(10, TAKE_OVER) + alarm(30), steps=60, waited=0.5),  # a false alarm, 3 s
    made(2, FAILED, "monitor", alarm(20, TAKE_OVER)),  # harmed
    made(3, WORKED, "monitor", alarm(40, TAKE_OVER), steps=100, waited=1.0),  # rescued, 5 s
    made(4, FAILED, "monitor", alarm(50, HELP)),
    made(5, Ending.CRASHED, "monitor"),
    made(6, WORKED, "monitor"),  # has not been run without the monitor
]


def test_a_row_counted_by_hand() -> None:
    row = summarise(BY_HAND).find("Pick", "nominal", "weak", "monitor")
    assert row is not None
    assert (row.episodes, row.successes, row.alone, row.rescued, row.harmed) == (6, 3, 3, 1, 1)
    assert (row.rate, row.gain) == (0.5, 0.0)
    assert row.p == 1.0
    assert row.harm_rate == pytest.approx(1 / 3)
    assert row.false_alarm_rate == pytest.approx(2 / 3)  # on seeds 1 and 2 of 0, 1 and 2
    assert row.alarms == pytest.approx(5 / 6)
    assert row.take_overs == pytest.approx(3 / 6)
    assert row.first_alarm == 30  # the median of 10, 20, 40 and 50
    assert row.steps == pytest.approx((40 + 60 + 100 + 100 + 100 + 100) / 6)
    assert row.overhead == pytest.approx((0.5 + 0.5 + 1.0) / (2 + 3 + 5))
    assert row.asked_for_help == 1
    assert row.endings == {"crashed": 1}
    assert row.interval == wilson(3, 6)
    assert row.harm_interval == wilson(1, 3)
    assert row.false_alarm_interval == wilson(2, 3)


def test_the_delay_is_of_perturbations_that_make_the_policy_fail() -> None:
    episodes = [
        *(made(seed, FAILED if seed == 7 else WORKED) for seed in range(9)),
        made(0, WORKED, scenario="dropped", onset=20),
        made(0, WORKED, "monitor", alarm(90), scenario="dropped", onset=20),  # it does no harm: not late
        *(made(seed, FAILED, scenario="dropped", onset=20) for seed in range(1, 9)),
        made(1, WORKED, "monitor", alarm(25) + alarm(80), scenario="dropped", onset=20),  # 5 steps
        made(2, FAILED, "monitor", alarm(35), scenario="dropped", onset=20),  # 15 steps
        made(3, FAILED, "monitor", scenario="dropped", onset=20),  # not seen
        made(4, FAILED, "monitor", alarm(10) + alarm(30), scenario="dropped", onset=20),  # an alarm before
        made(5, FAILED, "monitor", alarm(20), scenario="dropped", onset=20),  # the query comes first
        made(6, FAILED, "monitor", alarm(40), scenario="dropped", onset=30),  # another onset than alone
        made(7, FAILED, "monitor", alarm(40), scenario="dropped", onset=20),  # fails without it, too
        made(8, FAILED, "monitor", alarm(10), scenario="dropped"),  # what it did kept it from happening
    ]
    row = summarise(episodes).find("Pick", "dropped", "weak", "monitor")
    assert row is not None
    assert (row.onsets, row.detected, row.delay) == (3, 2, 10)
    assert row.false_alarm_rate is None  # an alarm after a disturbance is not false
    assert sum(pair.delay is not None for pair in pairs_of(episodes)) == 2
    quiet = summarise(BY_HAND).find("Pick", "nominal", "weak", "monitor")
    assert quiet is not None
    assert (quiet.onsets, quiet.detected, quiet.delay) == (0, 0, None)


def test_episodes_from_before_the_monitor_handed_back_are_of_another_condition() -> None:
    for condition, now in (
        ("monitor", "assist"),
        ("oracle-detector", "oracle-detector-assist"),
        ("never", "never"),
        ("fixed-retry", "fixed-retry"),
    ):
        text = codec.dumps(made(1, WORKED, condition, alarm(10, TAKE_OVER))).replace("Episode/3", "Episode/2")
        assert codec.loads(Episode, text) == made(1, WORKED, now, alarm(10, TAKE_OVER))
        assert codec.loads(Episode, text.replace("Episode/2", "Episode/3")).key.condition == condition


def takeover(start: int, stop: int | None) -> list[Event]:
    back = [] if stop is None else [Event(stop, EventKind.HAND_BACK)]
    return [*alarm(start, TAKE_OVER), *back]


def test_who_acts_counted_by_hand() -> None:
    episodes = [
        *(made(seed, WORKED if seed < 2 else FAILED, steps=200) for seed in range(6)),
        made(0, WORKED, "monitor", steps=50),
        made(1, FAILED, "monitor", takeover(10, 30), steps=200),  # 20 steps, harmed
        made(2, WORKED, "monitor", takeover(20, 30), steps=100),  # 10 steps, rescued
        made(3, WORKED, "monitor", takeover(20, 30) + takeover(60, 88), steps=100),  # 38, the policy ends
        made(4, WORKED, "monitor", takeover(60, 89), steps=100),  # 29, within the last 0.6 s
        made(5, WORKED, "monitor", takeover(60, None), steps=150),  # 90, the monitor ends
    ]
    row = summarise(episodes).find("Pick", "nominal", "weak", "monitor")
    assert row is not None
    part = row.intervention
    assert part.share == pytest.approx(187 / 700)
    assert part.rescued_share == pytest.approx(167 / 450)
    assert (part.rescued, part.policy_ends, part.policy_ends_share) == (4, 2, 0.5)
    assert part.policy_ends_interval == wilson(2, 4)
    for share, interval in (
        (part.share, part.share_interval),
        (part.rescued_share, part.rescued_interval),
    ):
        assert interval is not None
        assert share is not None
        assert interval[0] < share < interval[1]
    assert [(point.steps, point.successes) for point in row.curve] == [
        (50, 1),
        (100, 4),
        (150, 5),
        (200, 5),
        (400, 5),
    ]
    assert row.curve[1].interval == wilson(4, 6)
    alone = summarise(episodes).find("Pick", "nominal", "weak", "never")
    assert alone is not None
    assert (alone.intervention.share, alone.intervention.rescued_share) == (0.0, None)
    assert [point.successes for point in alone.curve] == [0, 0, 0, 2, 2]


def test_alarms_in_perturbed_episodes_that_the_policy_survives_are_counted() -> None:
    episodes = [
        *(made(seed, WORKED, scenario="dropped", onset=20) for seed in range(3)),
        made(3, WORKED, scenario="dropped"),  # it did not happen
        made(4, FAILED, scenario="dropped", onset=20),
        made(0, WORKED, "monitor", alarm(25), scenario="dropped", onset=20),
        made(1, FAILED, "monitor", alarm(30), scenario="dropped", onset=20),
        made(2, WORKED, "monitor", scenario="dropped", onset=20),
        made(3, WORKED, "monitor", alarm(30), scenario="dropped"),
        made(4, WORKED, "monitor", alarm(30), scenario="dropped", onset=20),
    ]
    row = summarise(episodes).find("Pick", "dropped", "weak", "monitor")
    assert row is not None
    assert (row.survived, row.survived_alarms) == (3, 2)
    assert row.false_alarm_rate == 1.0  # of the one success that was not perturbed


def test_the_policy_alone_is_paired_with_itself() -> None:
    row = summarise(BY_HAND).find("Pick", "nominal", "weak", "never")
    assert row is not None
    assert (row.episodes, row.successes, row.alone, row.rescued, row.harmed) == (6, 3, 3, 0, 0)
    assert (row.gain, row.p, row.harm_rate) == (0.0, 1.0, 0.0)


def test_only_pairs_count() -> None:
    lonely = [made(seed, WORKED, "monitor") for seed in range(10, 15)]
    unpaired = [made(seed, FAILED) for seed in range(20, 25)]
    assert summarise([*BY_HAND, *lonely]).find("Pick", "nominal", "weak", "monitor") == summarise(
        BY_HAND
    ).find("Pick", "nominal", "weak", "monitor")
    assert summarise([*BY_HAND, *unpaired]).find("Pick", "nominal", "weak", "monitor") == summarise(
        BY_HAND
    ).find("Pick", "nominal", "weak", "monitor")
    assert summarise(lonely).rows == ()
    # The same seed of another task, scenario or policy is no pair.
    assert (
        summarise([made(0, WORKED), made(0, WORKED, "monitor", task="Push")]).find(
            "Push", "nominal", "weak", "monitor"
        )
        is None
    )
    assert (
        summarise([made(0, WORKED), made(0, WORKED, "monitor", scenario="noise")]).find(
            "Pick", "noise", "weak", "monitor"
        )
        is None
    )


def test_all_tasks_together_are_the_sum_of_them_and_only_of_several() -> None:
    assert summarise(BY_HAND).find(ALL_TASKS, "nominal", "weak", "monitor") is None
    push = [made(0, FAILED, task="Push"), made(0, WORKED, "monitor", task="Push")]
    summary = summarise([*BY_HAND, *push])
    row = summary.find(ALL_TASKS, "nominal", "weak", "monitor")
    assert row is not None
    assert (row.episodes, row.successes, row.alone, row.rescued, row.harmed) == (7, 4, 3, 2, 1)
    assert [r.task for r in summary.rows] == ["Pick", "Pick", "Push", "Push", ALL_TASKS, ALL_TASKS]


def test_all_perturbations_together_are_the_sum_of_them_and_not_of_other_scenarios() -> None:
    episodes = [
        made(0, WORKED, scenario="nominal"),
        made(0, FAILED, "monitor", scenario="nominal"),
        *(made(seed, FAILED, scenario="dropped") for seed in range(2)),
        *(made(seed, WORKED, "monitor", scenario="dropped") for seed in range(2)),
        made(0, WORKED, scenario="slip"),
        made(0, FAILED, "monitor", scenario="slip"),
        made(0, WORKED, scenario="noise"),
        made(0, FAILED, "monitor", scenario="noise"),
    ]
    row = summarise(episodes).find("Pick", PERTURBED, "weak", "monitor")
    assert row is not None
    assert (row.episodes, row.alone, row.successes, row.rescued, row.harmed) == (3, 1, 2, 2, 1)
    # State 0 is rescued once and harmed once, state 1 is rescued: the sums are 0 and 1.
    assert row.p == 1.0
    assert [headline.row.scenario for headline in headlines(summarise(episodes))] == [PERTURBED]
    one = summarise(episodes[:6])  # a single perturbation is its own row
    assert one.find("Pick", PERTURBED, "weak", "monitor") is None


def test_a_state_that_counts_several_times_is_one_unit() -> None:
    modes = ("dropped", "slip", "drift", "no_op")
    episodes = [
        made(seed, ending, condition, scenario=mode)
        for seed in range(3)
        for mode in modes
        for condition, ending in (("never", FAILED), ("monitor", WORKED))
    ]
    row = summarise(episodes).find("Pick", PERTURBED, "weak", "monitor")
    assert row is not None
    assert row.rescued == 12
    assert row.p == 2 * 0.5**3  # of three states, not of twelve pairs
    assert row.gain_interval == (1.0, 1.0)
    assert row.interval == wilson(3, 3)


@settings(deadline=None)  # the first call imports SciPy
@given(st.integers(0, 30), st.integers(0, 30))
def test_with_one_pair_per_state_the_sign_flip_test_is_mcnemars(better: int, worse: int) -> None:
    assert sign_flip([1] * better + [-1] * worse) == pytest.approx(mcnemar(better, worse), abs=1e-12)


def test_the_sign_flip_test_counted_by_hand() -> None:
    # Of the eight sums of +-3, +-1 and +-1, those as large as 3: 5, 3, 3, and their opposites.
    assert sign_flip([3, 1, -1]) == 6 / 8
    assert sign_flip([0, 0]) == 1.0


def test_where_the_policy_never_succeeds_there_is_no_rate_of_harm() -> None:
    row = summarise([made(0, FAILED), made(0, FAILED, "monitor")]).find("Pick", "nominal", "weak", "monitor")
    assert row is not None
    assert (row.harm_rate, row.harm_interval, row.false_alarm_rate, row.first_alarm, row.overhead) == (
        None,
        None,
        None,
        None,
        None,
    )


ENDINGS = st.sampled_from(list(Ending))
STUDIES = st.lists(
    st.tuples(st.sampled_from(["Pick", "Push"]), st.integers(0, 5), ENDINGS | st.none(), ENDINGS | st.none()),
    unique_by=lambda cell: cell[:2],
    max_size=12,
)


@settings(deadline=None)
@given(STUDIES)
def test_rescued_less_harmed_is_what_is_gained(
    cells: list[tuple[str, int, Ending | None, Ending | None]],
) -> None:
    episodes = [made(seed, ending, task=task) for task, seed, ending, _ in cells if ending]
    episodes += [made(seed, ending, "monitor", task=task) for task, seed, _, ending in cells if ending]
    summary = summarise(episodes)
    assert summary == summarise(episodes[::-1]), "the order of the records does not matter"
    for row in summary.rows:
        assert row.rescued - row.harmed == row.successes - row.alone
        assert row.gain == pytest.approx((row.rescued - row.harmed) / row.episodes)
        assert row.harmed <= row.alone
        assert row.p == mcnemar(row.rescued, row.harmed)
        assert row.interval is not None
        assert row.interval[0] <= row.rate <= row.interval[1]
    pairs = pairs_of(episodes)
    assert len(pairs) == sum(a is not None and b is not None for *_, a, b in cells)
    assert sum(pair.change is Change.RESCUED for pair in pairs) == sum(
        row.rescued for row in summary.rows if row.condition == "monitor" and row.task != ALL_TASKS
    )


# ------------------------------------------------------------------ the records themselves

FULL = Episode(
    EpisodeKey("Pick", "noise", "openvla://127.0.0.1:8000?chunk=4", "monitor", 7),
    "pick up the “cube”",
    Ending.POLICY_ERROR,
    41,
    2.05,
    0.25,
    0.5,
    (
        Event(10, EventKind.QUERY, 0.25, None, 0.25, "reach", "", 0, 0.125, "fine"),
        Event(20, EventKind.ALARM, 0.75, 0.5, 0.875, "grasp", "slip", 3, 0.25, "slipped"),
        Event(20, EventKind.TAKE_OVER),
    ),
    "the server is gone",
)


def test_a_record_comes_back() -> None:
    text = codec.dumps(FULL)
    assert codec.loads(Episode, text) == FULL
    assert codec.dumps(codec.loads(Episode, text)) == text
    assert (FULL.success, FULL.count(EventKind.ALARM), FULL.top_score) == (False, 1, 0.75)
    assert made(0, WORKED).top_score is None


@pytest.mark.parametrize(
    ("old", "new", "error", "description"),
    [
        ("Episode/3", "Episode/4", RecordError, "expected format 'Episode/3'"),
        ('"seed":7', '"seed":"7"', RecordError, "expected int, got '7'"),
        ('"ending":"policy_error"', '"ending":"polcy_error"', UserError, "did you mean 'policy_error'"),
        ('"latency":0.125', '"latencies":0.125', UserError, "did you mean 'latency'"),
        ('"seed":7', '"seeds":7', UserError, "did you mean 'seed'"),
    ],
)
def test_a_damaged_record_is_refused(old: str, new: str, error: type[Exception], description: str) -> None:
    text = codec.dumps(FULL)
    assert old in text
    with pytest.raises(error, match=description):
        codec.loads(Episode, text.replace(old, new))
