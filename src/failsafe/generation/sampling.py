"""The sampler: draws the next case from the emptiest coverage cells, and learns the yield of each cell.

A run is divided into partitions. What a partition draws depends only on the configuration and on the cases
that the partition itself has found. Partitions therefore run in any order, on any number of workers or
machines, and an interrupted partition resumes by reading its stored cases: the dataset is the same, byte for
byte.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from failsafe.errors import RecordError
from failsafe.generation.cases import CaseSpec
from failsafe.generation.config import GenerationConfig
from failsafe.generation.nominal import NominalRollout
from failsafe.perturbations import MODES, Mode
from failsafe.perturbations.mode import Scene
from failsafe.records.case import FailureCase
from failsafe.records.perturbation import Perturbation

BINS = ("early", "middle", "late")
"""Thirds of the distribution of moments."""
SIZES = ("small", "medium", "large")
"""Thirds of the distribution of magnitudes."""
COMPOUND = "compound"
"""Name of the cases with two causes at once, where modes are listed."""
CASES_PER_SEED = 4
"""Cases tried on one initial state, which share its nominal rollout."""
PATIENCE = 12
"""Tries without a verified failure after which a partition tries a mode last."""
WASTE = 0.1
"""Cost of a try without a verified failure, in verified failures."""


@dataclass(frozen=True)
class CoverageCell:
    """A cell of the coverage table.

    Attributes:
        task: Name of the task.
        mode: Name of the mode, or `COMPOUND`.
        stage: Name of the stage.
        moment: Third of the moments, or "with the stage" for a mode without one.
        magnitude: Third of the magnitudes, or "fixed" for a mode without one.
    """

    task: str
    mode: str
    stage: str
    moment: str
    magnitude: str


def coverage_cell(case: FailureCase, config: GenerationConfig) -> CoverageCell:
    """Return the cell of a case, by its perturbation and the configured distributions.

    Two causes at once form a mode of their own, because either may have caused the failure.

    Args:
        case: The case.
        config: The configuration that the case was drawn from.

    Raises:
        RecordError: If the configuration does not have the case's mode.
    """
    p = case.perturbations[0]
    if len(case.perturbations) > 1:
        return CoverageCell(case.task, COMPOUND, p.stage_name, "any", "any")
    if p.mode not in config.modes:
        raise RecordError(f"{case.case_id}: mode '{p.mode}' is not one of those in the manifest")
    settings = config.modes[p.mode]
    sizes = [settings.magnitude.quantile(share) for share in (1 / 3, 2 / 3)]
    moments = [settings.moment.quantile(share) for share in (1 / 3, 2 / 3)]
    timed = MODES[p.mode].timed
    fixed = settings.magnitude.quantile(0.0) == settings.magnitude.quantile(1.0)
    return CoverageCell(
        task=case.task,
        mode=p.mode,
        stage=p.stage_name,
        moment=BINS[int(np.searchsorted(moments, p.moment, side="right"))] if timed else "with the stage",
        magnitude="fixed"
        if fixed
        else SIZES[int(np.searchsorted(sorted(sizes), abs(p.magnitude), side="right"))],
    )


def partition_targets(config: GenerationConfig, partition: int) -> list[int]:
    """Return the numbers of a partition's targets.

    Args:
        config: The configuration of the dataset.
        partition: Number of the partition, from 0.
    """
    return list(range(partition, config.failures, config.partition_count))


def reaches_target(case: FailureCase, config: GenerationConfig) -> bool:
    """Return whether a case is wanted: a verified failure, or one with a needed correction if asked for.

    Args:
        case: The case.
        config: The configuration of the dataset.
    """
    return case.needed if config.needed else case.verified


def target_task(config: GenerationConfig, target: int) -> str:
    """Return the task of a target; every task gets the same share of the targets.

    Args:
        config: The configuration of the dataset.
        target: Number of the target, from 0.
    """
    return config.tasks[target % len(config.tasks)]


class PartitionSampler:
    """Draws the cases of one partition.

    Args:
        config: The configuration of the dataset.
        partition: Number of the partition.
    """

    def __init__(self, config: GenerationConfig, partition: int) -> None:
        self._config = config
        self._partition = partition
        self._tries: Counter[tuple[str, ...]] = Counter()
        self._verified: Counter[tuple[str, ...]] = Counter()
        self._draws = 0
        names = [n for n, m in config.modes.items() if m.weight > 0]
        # Each partition begins at another mode, so that all modes are tried early.
        turn = partition * len(names) // config.partition_count
        self._order = names[turn:] + names[:turn]
        self._seed_at: Counter[str] = Counter()

    def seed(self, task: str) -> int:
        """Return the present seed: the partition cycles through its own share of the seed range."""
        config = self._config
        own = range(config.first_seed + self._partition, config.last_seed, config.partition_count)
        return own[self._seed_at[task] // CASES_PER_SEED % len(own)]

    def skip_seed(self, task: str) -> None:
        """Skip the rest of an initial state that the expert does not solve."""
        self._seed_at[task] += CASES_PER_SEED - self._seed_at[task] % CASES_PER_SEED

    def seeds_tried(self, task: str) -> int:
        """Return how many initial states were begun or skipped so far."""
        return self._seed_at[task] // CASES_PER_SEED

    def draw(self, nominal: NominalRollout, target: int) -> CaseSpec | None:
        """Draw the next case for a target.

        Args:
            nominal: The nominal rollout of the present seed.
            target: Number of the target.

        Returns:
            The case, or None if no mode applies to the task at all.
        """
        task, scene = nominal.record.task, nominal.scene
        self._seed_at[task] += 1
        self._draws += 1
        rng = np.random.default_rng([self._config.stream, self._partition, self._draws])
        mode = self._emptiest_mode(task, scene)
        if mode is None:
            return None
        perturbations = [self._draw_perturbation(task, mode, scene, rng)]
        if rng.random() < self._config.compound:
            partners = [n for n in self._order if self._fits(MODES[n], mode, scene)]
            if partners:
                second = MODES[partners[int(rng.integers(len(partners)))]]
                perturbations.append(self._draw_perturbation(task, second, scene, rng))
        return CaseSpec(task, nominal.record.seed, tuple(perturbations), self._partition, target)

    def learn(self, case: FailureCase) -> None:
        """Take note of a case's result; a case with two causes says nothing about either."""
        if len(case.perturbations) > 1:
            return
        cell = coverage_cell(case, self._config)
        mode = (case.task, cell.mode)
        details = ((cell.stage,), ("moment", cell.moment), ("magnitude", cell.magnitude))
        for key in (mode, *((*mode, *detail) for detail in details)):
            self._tries[key] += 1
            self._verified[key] += reaches_target(case, self._config)

    def _emptiest_mode(self, task: str, scene: Scene) -> type[Mode] | None:
        def need(name: str) -> tuple[int, float, float, int]:
            weight = self._config.modes[name].weight
            tries, verified = self._tries[(task, name)], self._verified[(task, name)]
            # First the share of the dataset, then of the task: a mode that one task alone offers gets as many
            # cases as the others. A try without a verified failure counts a little, so that a mode that
            # hardly ever fails does not take all the time.
            in_all_tasks = sum(self._verified[(other, name)] for other in self._config.tasks)
            wasted = WASTE * (tries - verified)
            return (
                # A mode without any verified failure is tried last, but still tried.
                tries if verified == 0 and tries >= PATIENCE else 0,
                (in_all_tasks + wasted) / weight,
                (verified + wasted) / weight,
                self._order.index(name),
            )

        applying = [n for n in self._order if _stages(MODES[n], scene)]
        return MODES[min(applying, key=need)] if applying else None

    def _fits(self, second: type[Mode], first: type[Mode], scene: Scene) -> bool:
        """Whether a second cause applies; two causes of one level would be one cause drawn twice."""
        return second.level is not first.level and bool(_stages(second, scene))

    def _draw_perturbation(
        self, task: str, mode: type[Mode], scene: Scene, rng: np.random.Generator
    ) -> Perturbation:
        settings = self._config.modes[mode.name]
        names = {i: scene.spans[i].name for i in _stages(mode, scene)}
        stage = self._emptiest([(task, mode.name, names[i]) for i in names], list(names), rng)
        size = self._emptiest([(task, mode.name, "magnitude", s) for s in SIZES], [0, 1, 2], rng)
        magnitude = settings.magnitude.quantile((size + rng.random()) / 3)
        moment = 0.0
        if mode.timed:
            third = self._emptiest([(task, mode.name, "moment", b) for b in BINS], [0, 1, 2], rng)
            moment = settings.moment.quantile((third + rng.random()) / 3)
        sign = -1.0 if mode.signed and rng.random() < 0.5 else 1.0
        objects = mode.candidates(scene, stage)
        return Perturbation(
            mode=mode.name,
            stage=stage,
            stage_name=names[stage],
            moment=float(moment),
            magnitude=float(sign * magnitude),
            unit=mode.unit,
            direction=float(rng.uniform(-np.pi, np.pi)) if mode.directed else 0.0,
            object=objects[int(rng.integers(len(objects)))],
        )

    def _emptiest(self, keys: list[tuple[str, ...]], values: list[int], rng: np.random.Generator) -> int:
        """Return the value of the cell with the fewest verified failures, tries counted in part."""
        ties = rng.random(len(keys))
        worth = [self._verified[k] + 0.25 * (self._tries[k] - self._verified[k]) for k in keys]
        return values[min(range(len(keys)), key=lambda i: (worth[i], ties[i]))]


def _stages(mode: type[Mode], scene: Scene) -> list[int]:
    return [i for i in range(len(scene.spans)) if mode.applies(scene, i)]
