"""The sampler: shares by target, emptiest cells first, yields learned, and the same draws every time."""

from __future__ import annotations

from collections import Counter

import pytest

from failsafe.experts.tasks import load_task
from failsafe.generation.cases import CaseSpec
from failsafe.generation.config import GenerationConfig, ModeConfig, default_modes
from failsafe.generation.nominal import NominalRollout, run_nominal
from failsafe.generation.sampling import (
    PATIENCE,
    PartitionSampler,
    coverage_cell,
    partition_targets,
    reaches_target,
    target_task,
)
from failsafe.perturbations.distributions import Uniform
from failsafe.records.case import (
    Attempt,
    Correction,
    FailureCase,
    Label,
    Outcome,
    RecoveryStrategy,
    Times,
    Verification,
)


@pytest.fixture(scope="module")
def nominal() -> NominalRollout:
    return run_nominal(load_task("ToyPick-v0"), 0)


def config(failures: int = 400, **settings: object) -> GenerationConfig:
    return GenerationConfig(tasks=("ToyPick-v0",), failures=failures, **settings)  # type: ignore[arg-type]


def result(item: CaseSpec, verified: bool, needed: bool = False) -> FailureCase:
    """What a try came to, made up."""
    attempts = (Attempt(RecoveryStrategy.NOMINAL_PATH, 1, True),)
    evidence = Verification(
        True, False, True, 1, 1, attempts, cause_ended_succeeds=False, replanned_succeeds=not needed
    )
    correction = Correction(((0.0,) * 7,), "robot_base", RecoveryStrategy.NOMINAL_PATH, "reach", 0, ())
    labels = (Label(1, "reach", correction, evidence),) if verified else ()
    outcome = Outcome.FAILURE if verified else Outcome.HARMLESS
    return FailureCase(
        item.case_id, item.task, item.seed, "", item.perturbations, outcome, "", Times(), labels
    )


def test_every_wanted_failure_belongs_to_one_partition_and_tasks_share_alike() -> None:
    asked = GenerationConfig(tasks=("A", "B", "C"), failures=100)
    targets = [
        target for partition in range(asked.partition_count) for target in partition_targets(asked, partition)
    ]
    assert sorted(targets) == list(range(100))
    assert Counter(target_task(asked, target) for target in targets) == {"A": 34, "B": 33, "C": 33}


def test_the_same_partition_draws_the_same(nominal: NominalRollout) -> None:
    first = [PartitionSampler(config(), 3).draw(nominal, 3) for _ in range(2)]
    assert first[0] == first[1]
    assert PartitionSampler(config(), 4).draw(nominal, 4) != first[0]


def test_modes_are_filled_evenly(nominal: NominalRollout) -> None:
    sampler = PartitionSampler(config(compound=0.0), 0)
    got: Counter[str] = Counter()
    for target in range(85):
        item = sampler.draw(nominal, target)
        assert item is not None
        got[item.perturbations[0].mode] += 1
        sampler.learn(result(item, verified=True))
    assert max(got.values()) - min(got.values()) <= 1


def test_weights_set_the_shares(nominal: NominalRollout) -> None:
    modes = {
        "no_op": ModeConfig(3.0, Uniform(8.0, 60.0), Uniform(0.0, 1.0)),
        "drift": ModeConfig(1.0, Uniform(0.001, 0.005), Uniform(0.0, 1.0)),
    }
    sampler = PartitionSampler(config(modes=modes, compound=0.0), 0)
    got: Counter[str] = Counter()
    for target in range(40):
        item = sampler.draw(nominal, target)
        assert item is not None
        got[item.perturbations[0].mode] += 1
        sampler.learn(result(item, verified=True))
    assert got == {"no_op": 30, "drift": 10}


def test_needed_corrections_fill_the_target_where_they_are_asked_for(nominal: NominalRollout) -> None:
    asked = config(modes=default_modes(("no_op", "drift")), compound=0.0, needed=True)
    sampler = PartitionSampler(asked, 0)
    got: Counter[str] = Counter()
    tries: Counter[str] = Counter()
    for target in range(60):
        item = sampler.draw(nominal, target)
        assert item is not None
        mode = item.perturbations[0].mode
        tries[mode] += 1
        needed = mode == "no_op" or tries[mode] % 3 == 0
        case = result(item, verified=True, needed=needed)
        assert reaches_target(case, asked) is case.needed is needed
        assert reaches_target(case, config())
        got[mode] += needed
        sampler.learn(case)
    assert tries["drift"] > 1.5 * tries["no_op"]


def test_a_mode_that_gives_nothing_waits_its_turn(nominal: NominalRollout) -> None:
    sampler = PartitionSampler(config(modes=default_modes(("no_op", "rotation_z")), compound=0.0), 0)
    tried: list[str] = []
    for target in range(60):
        item = sampler.draw(nominal, target)
        assert item is not None
        mode = item.perturbations[0].mode
        tried.append(mode)
        sampler.learn(result(item, verified=mode == "no_op"))
    assert tried.count("rotation_z") == PATIENCE
    assert tried[-20:] == ["no_op"] * 20


def test_a_mode_that_seldom_fails_does_not_take_all_the_time(nominal: NominalRollout) -> None:
    sampler = PartitionSampler(config(modes=default_modes(("no_op", "rotation_z")), compound=0.0), 0)
    tries: Counter[str] = Counter()
    got: Counter[str] = Counter()
    for target in range(400):
        item = sampler.draw(nominal, target)
        assert item is not None
        mode = item.perturbations[0].mode
        tries[mode] += 1
        verified = mode == "no_op" or tries[mode] % 10 == 1
        got[mode] += verified
        sampler.learn(result(item, verified=verified))
    assert 0.4 < got["rotation_z"] / got["no_op"] < 0.6


def test_thirds_of_magnitude_and_moment_are_filled_evenly(nominal: NominalRollout) -> None:
    asked = config(modes=default_modes(("no_op",)), compound=0.0)
    sampler = PartitionSampler(asked, 0)
    sizes: Counter[str] = Counter()
    moments: Counter[str] = Counter()
    for target in range(30):
        item = sampler.draw(nominal, target)
        assert item is not None
        case = result(item, verified=True)
        cell = coverage_cell(case, asked)
        sizes[cell.magnitude] += 1
        moments[cell.moment] += 1
        sampler.learn(case)
    assert sizes == {"small": 10, "medium": 10, "large": 10}
    assert moments == {"early": 10, "middle": 10, "late": 10}


def test_magnitudes_stay_within_what_the_user_set(nominal: NominalRollout) -> None:
    modes = {"translation_x": ModeConfig(1.0, Uniform(0.03, 0.04), Uniform(0.0, 1.0))}
    sampler = PartitionSampler(config(modes=modes, compound=0.0), 0)
    drawn = []
    for target in range(40):
        item = sampler.draw(nominal, target)
        assert item is not None
        drawn.append(item.perturbations[0].magnitude)
    assert all(0.03 <= abs(m) <= 0.04 for m in drawn)
    assert any(m < 0 for m in drawn)
    assert any(m > 0 for m in drawn)


def test_compound_cases_come_from_two_levels(nominal: NominalRollout) -> None:
    from failsafe.perturbations import MODES

    sampler = PartitionSampler(config(compound=1.0), 0)
    for target in range(30):
        item = sampler.draw(nominal, target)
        assert item is not None
        assert len(item.perturbations) == 2
        levels = {MODES[p.mode].level for p in item.perturbations}
        assert len(levels) == 2


def test_seeds_are_the_partitions_own_and_go_round(nominal: NominalRollout) -> None:
    sampler = PartitionSampler(config(first_seed=10, last_seed=14, failures=4), 1)
    assert sampler.seed("ToyPick-v0") == 11
    sampler.skip_seed("ToyPick-v0")
    assert sampler.seed("ToyPick-v0") == 11, "four seeds over four lanes: each has one"
    wide = PartitionSampler(config(first_seed=0, last_seed=64), 5)
    assert wide.seed("ToyPick-v0") == 5
    wide.skip_seed("ToyPick-v0")
    assert wide.seed("ToyPick-v0") == 21
