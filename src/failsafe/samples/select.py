"""Select samples: which steps of which rollouts of a dataset become windows, with their ground truth.

Samples are taken where a monitor could query a model: before anything fails, just after, late, long after,
after a recovery, and in rollouts that succeed, perturbed or not. By default there are a few per rollout;
image-free sets take one every few steps. Random-exploration rollouts give samples for the object localizer
alone.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from failsafe.datasets.store import Dataset
from failsafe.errors import UserError
from failsafe.records.case import FAILING, NOMINAL, FailureCase, Label, NominalRecord, Outcome
from failsafe.records.trace import Trace
from failsafe.samples.manifest import SampleConfig
from failsafe.samples.sample import Kind, Sample
from failsafe.samples.splits import split_of

JUST_AFTER = 10
"""Control steps after a failure sets in that count as just after it: about one query of a monitor."""
LATE = 30
"""Control steps after which a failure is long past: a monitor has queried three times."""
CONTINUATION_STEPS = 12
"""Number of future expert commands that are stored, where the rollout is neither perturbed nor failing."""
PER_ROLLOUT = 3
"""Samples taken from a rollout that succeeds."""


def select_samples(datasets: Sequence[Dataset], config: SampleConfig) -> list[Sample]:
    """Select the samples of some datasets, in a fixed order; equal datasets give equal samples.

    Args:
        datasets: The datasets to take samples from.
        config: The configuration of the sample set.

    Raises:
        UserError: If the datasets contain no such sample.
        RecordError: If a case is damaged.
    """
    found: list[Sample] = []
    for source, dataset in enumerate(datasets):
        dataset.require()
        select = _of_explorations if config.explore else _of_dataset
        for sample in select(dataset, source, config):
            split = config.only_split or sample.split
            if split in config.splits:
                found.append(replace(sample, split=split))
    if not found:
        folders = ", ".join(str(d.path) for d in datasets)
        raise UserError(
            f"expected episodes longer than {config.window.history} steps with seeds of the splits "
            f"{', '.join(config.splits)}, got none in {folders}"
        )
    return found if config.explore else _balance(found, config.failing_share, config.per_cell)


def explored_states(dataset: Dataset, config: SampleConfig) -> list[tuple[str, int]]:
    """Return task and seed of every initial state that a set of exploration samples is taken from.

    Args:
        dataset: The dataset.
        config: Configuration of the samples.
    """
    states = ((nominal.task, nominal.seed) for nominal in dataset.nominals())
    return [(task, seed) for task, seed in states if (config.only_split or split_of(seed)) in config.splits]


def failure_visible(case: FailureCase, failing: Trace) -> int:
    """Return the first step at which a failure can be seen: after its onset and after the last disturbance.

    Args:
        case: The case.
        failing: Its perturbed rollout.
    """
    disturbed = failing.disturbances[-1][0] if failing.disturbances else 0
    return min(max(case.times.onset_step or 0, disturbed) + 1, len(failing))


def _of_dataset(dataset: Dataset, source: int, config: SampleConfig) -> Iterable[Sample]:
    for path in dataset.nominal_files():
        task, seed = path.parent.name, int(path.stem)
        nominal, trace = dataset.nominal(task, seed)
        if nominal.success:
            yield from _of_nominal(nominal, trace, source, config)
    for path in dataset.case_files():
        case = dataset.case(path.parent.name, path.stem)
        if case.outcome in (Outcome.FAILURE, Outcome.HARMLESS):
            nominal, _ = dataset.nominal(case.task, case.seed)
            yield from _CaseSamples(case, dataset, nominal, source, config).select()


def _of_explorations(dataset: Dataset, source: int, config: SampleConfig) -> Iterable[Sample]:
    for task, seed in explored_states(dataset, config):
        if not dataset.has_exploration(task, seed):  # recording killed its worker twice
            continue
        nominal, _ = dataset.nominal(task, seed)
        trace = dataset.exploration(task, seed)
        rng = _rng(f"exploration {task} {seed}")
        for step in _draw(rng, config.window.history, len(trace) + 1, config.explore, 0):
            yield Sample(
                name=f"{source}-{task}-{seed:06d}-exploration-{step:04d}",
                source=source,
                task=task,
                seed=seed,
                split=split_of(seed),
                rollout="exploration",
                case_id="",
                step=step,
                kind=Kind.EXPLORATION,
                instruction=nominal.plan.instruction,
                stage="",
                failing=False,
            )


def _of_nominal(nominal: NominalRecord, trace: Trace, source: int, config: SampleConfig) -> Iterable[Sample]:
    names = [stage.name for stage in nominal.plan.stages]
    rng = _rng(f"{source} {nominal.task} {nominal.seed}")
    for step in _draw(rng, config.window.history, len(trace) + 1, PER_ROLLOUT, config.every):
        yield Sample(
            name=f"{source}-{nominal.task}-{nominal.seed:06d}-nominal-{step:04d}",
            source=source,
            task=nominal.task,
            seed=nominal.seed,
            split=split_of(nominal.seed),
            rollout=NOMINAL,
            case_id="",
            step=step,
            kind=Kind.NOMINAL,
            instruction=nominal.plan.instruction,
            stage=_stage(trace, step, names),
            failing=False,
        )


class _CaseSamples:
    """Selects the samples of one case."""

    def __init__(
        self, case: FailureCase, dataset: Dataset, nominal: NominalRecord, source: int, config: SampleConfig
    ) -> None:
        self._case = case
        self._traces = dataset.traces(case.task, case.case_id)
        self._failing = self._traces[FAILING]
        self._nominal = nominal
        self._source = source
        self._history, self._every = config.window.history, config.every
        self._rng = _rng(f"{source} {case.case_id}")
        self._visible = failure_visible(case, self._failing)

    def select(self) -> Iterable[Sample]:
        case, trace = self._case, self._failing
        if case.outcome is Outcome.HARMLESS:
            first = max(self._history, case.times.injection_step or 0)
            for step in self._draw(first, len(trace) + 1, PER_ROLLOUT):
                yield self._sample(FAILING, step, Kind.HARMLESS, _stage(trace, step, case.stage_names))
            return
        # Between the onset and the first possible label not every cause has acted: whether the episode fails
        # is not known there.
        onset = case.times.onset_step if case.times.onset_step is not None else len(trace)
        for step in self._draw(self._history, onset, 2):
            yield self._sample(FAILING, step, Kind.BEFORE, _stage(trace, step, case.stage_names))
        yield from self._of_failure()
        yield from self._of_recoveries()

    def _of_failure(self) -> Iterable[Sample]:
        case = self._case
        labels = {label.step: label for label in case.best_labels if label.step >= self._history}
        for step, label in labels.items():
            yield self._sample(FAILING, step, self._kind_after(step), label.stage, label)
        if not self._every:
            return
        # Between labels no correction was searched for, but the failure and its cause are known.
        for step in range(max(self._history, self._visible), max(labels, default=0), self._every):
            if step not in labels:
                stage = _stage(self._failing, step, case.stage_names)
                between = self._sample(FAILING, step, self._kind_after(step), stage)
                yield replace(between, failing=True, mode=case.mode, delay=step - self._visible)

    def _of_recoveries(self) -> Iterable[Sample]:
        nominal_stages = [stage.name for stage in self._nominal.plan.stages]
        for label in self._case.labels:
            if label.correction is None or label.recovery not in self._traces:
                continue
            trace, back = self._traces[label.recovery], label.step + len(label.correction.actions)
            # A fresh plan counts its stages from 0; otherwise the nominal plan continues.
            names = nominal_stages if label.correction.resume_index >= 0 else label.correction.plan_stages
            soon = self._draw(max(self._history, back), min(back + JUST_AFTER, len(trace) + 1), 1)
            later = self._draw(max(self._history, back + JUST_AFTER), len(trace) + 1, 1)
            for step in sorted({*soon, *later}):
                yield self._sample(label.recovery, step, Kind.RECOVERED, _stage(trace, step, names))

    def _sample(self, rollout: str, step: int, kind: Kind, stage: str, label: Label | None = None) -> Sample:
        case = self._case
        correction = label.correction if label else None
        return Sample(
            name=f"{self._source}-{case.case_id}-{rollout}-{step:04d}",
            source=self._source,
            task=case.task,
            seed=case.seed,
            split=split_of(case.seed),
            rollout=rollout,
            case_id=case.case_id,
            step=step,
            kind=kind,
            instruction=case.instruction,
            stage=stage,
            failing=label is not None,
            mode=case.mode if label else "",
            delay=label.step - self._visible if label else None,
            actions=correction.actions if correction else (),
            recoverable=correction is not None if label else None,
        )

    def _kind_after(self, step: int) -> Kind:
        delay = step - self._visible
        return Kind.JUST_AFTER if delay <= JUST_AFTER else Kind.LATE if delay <= LATE else Kind.LONG_AFTER

    def _draw(self, first: int, stop: int, count: int) -> list[int]:
        return _draw(self._rng, first, stop, count, self._every)


def _stage(trace: Trace, step: int, names: Sequence[str]) -> str:
    index = int(trace.stages[min(step, len(trace) - 1)])
    return names[min(max(index, 0), len(names) - 1)] if names else ""


def _draw(rng: np.random.Generator, first: int, stop: int, count: int, every: int) -> list[int]:
    """Draw up to `count` steps of [first, stop), or take one every `every` steps if that is above 0."""
    if stop <= first:
        return []
    if every:
        return list(range(first + int(rng.integers(every)), stop, every))
    return sorted(int(first + x) for x in rng.choice(stop - first, min(count, stop - first), replace=False))


def _balance(samples: list[Sample], failing_share: float, per_cell: int) -> list[Sample]:
    """Drop samples until every cell is within its limit and the failing share of every group is as asked."""
    # The order of dropping depends on each sample's name alone, so that it does not depend on the others.
    order = sorted(samples, key=lambda s: hashlib.sha256(s.name.encode()).digest())
    cells: Counter[tuple[str, ...]] = Counter()
    groups: dict[tuple[str, str], dict[bool, list[Sample]]] = defaultdict(lambda: {True: [], False: []})
    for sample in order:
        if sample.failing and per_cell:
            cell = (sample.task, sample.split, sample.mode, sample.stage)
            cells[cell] += 1
            if cells[cell] > per_cell:
                continue
        groups[(sample.task, sample.split)][sample.failing].append(sample)
    kept: list[Sample] = []
    odds = failing_share / (1 - failing_share)
    for group in groups.values():
        bad, good = group[True], group[False]
        if not odds:
            kept += bad + good
            continue
        kept += bad[: round(len(good) * odds)] if good else bad
        kept += good[: round(len(bad) / odds)] if bad else good
    return sorted(kept, key=lambda s: (s.task, s.seed, s.source, s.name))


def _rng(text: str) -> np.random.Generator:
    return np.random.default_rng(np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], dtype=np.uint32))
