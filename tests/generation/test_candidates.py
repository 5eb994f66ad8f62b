"""Which candidates are tried, in which order, and which are screened."""

import dataclasses

import pytest

from failsafe.generation.candidates import MAX_ATTEMPTS, CandidateStatistics
from failsafe.generation.corrections import Candidate
from failsafe.records.case import (
    Attempt,
    FailureCase,
    Label,
    Outcome,
    RecoveryStrategy,
    Times,
    Verification,
)
from failsafe.records.perturbation import Perturbation

PATH, FRESH = RecoveryStrategy.NOMINAL_PATH, RecoveryStrategy.FRESH_PLAN


def candidate(strategy, actions, resume=0):
    return Candidate(strategy, ((0.0,) * 7,) * actions, resume, "reach")


def case(mode, *attempts):
    evidence = Verification(True, False, True, 1, 1, tuple(Attempt(s, 2, success) for s, success in attempts))
    cause = Perturbation(mode, 0, "reach", 0.0, 0.0, "")
    return FailureCase(
        "c", "t", 0, "", (cause,), Outcome.FAILURE, "", Times(), (Label(1, "reach", None, evidence),)
    )


def test_what_is_shorter_comes_first_and_of_equals_what_failed_less():
    statistics = CandidateStatistics()
    offered = [candidate(PATH, 2), candidate(PATH, 3), candidate(FRESH, 3), candidate(FRESH, 4)]
    assert statistics.select("slip", offered) == offered
    statistics.learn(case("slip", (PATH, False), (FRESH, True)))
    short, *_ = statistics.select("slip", offered)
    assert short == offered[0]
    assert statistics.select("slip", offered) == [offered[0], offered[2], offered[1], offered[3]]
    assert statistics.select("drift", offered) == offered  # another mode, about which nothing is known


def test_each_strategy_has_so_many_attempts():
    offered = [candidate(PATH, 1 + i) for i in range(MAX_ATTEMPTS + 3)] + [candidate(FRESH, 20)]
    assert CandidateStatistics().select("slip", offered) == [*offered[:MAX_ATTEMPTS], offered[-1]]


def test_failure_rates_are_counted_by_mode_and_strategy():
    statistics = CandidateStatistics()
    assert statistics.failure_rate("slip", PATH) == 0.25
    for _ in range(6):
        statistics.learn(case("slip", (PATH, False)))
    assert statistics.failure_rate("slip", PATH) == 0.7  # 1 + 6 of 4 + 6
    assert statistics.failure_rate("slip", FRESH) == 0.25
    assert statistics.failure_rate("drift", PATH) == 0.25


@pytest.mark.parametrize(("prefix", "rest", "screened"), [(60, 40, True), (10, 40, False), (0, 40, False)])
def test_a_candidate_is_screened_where_that_saves_steps(prefix, rest, screened):
    statistics = CandidateStatistics()
    for _ in range(6):
        statistics.learn(case("slip", (PATH, False)))
    # 0.7 of (60 + 40) steps is more than 40, of (10 + 40) is less.
    assert statistics.screens("slip", candidate(PATH, 2), prefix, rest) is screened
    assert not CandidateStatistics().screens("slip", candidate(PATH, 2), prefix, rest)


def test_equal_cases_in_equal_order_give_equal_numbers():
    """A resumed partition learns from stored cases what it learned when it made them."""
    cases = [case("slip", (PATH, False), (FRESH, True)), case("drift", (PATH, True))]
    made, stored = CandidateStatistics(), CandidateStatistics()
    for each in cases:
        made.learn(each)
        stored.learn(dataclasses.replace(each))
    assert vars(made) == vars(stored)
