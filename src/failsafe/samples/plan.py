"""Samples for learning: which moments of which rollouts, what is true there, and in which split.

Only moments that a monitor would meet: before anything is wrong, just after, late, long after, after a
recovery, and in episodes that go well, perturbed or not: a few of each rollout, or, for learning without
pictures, one every so many steps; besides, moments of a tool that wanders about, to find objects by. Seeds
are what splits are made of: whatever happened from one initial state is in one split, for every task.
"""

from __future__ import annotations

import enum
import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from failsafe.datasets.store import FAILING, Dataset
from failsafe.errors import RecordError, UserError
from failsafe.generation.exploration import STEPS
from failsafe.records.case import FailureCase, Label, NominalRecord, Outcome
from failsafe.records.trace import Trace

SPLITS = ("train", "validation", "calibration", "test")
_SHARES = (0.70, 0.05, 0.10, 0.15)
"""Shares of the seeds."""
JUST_AFTER = 10
"""Control steps after a failure has set in within which it has just done so: one look of a monitor."""
LATE = 30
"""Steps after which it is long past: a monitor has looked three times."""
CONTINUATION_STEPS = 12
"""Control steps for which is kept what the expert did next, where it was neither perturbed nor failing."""
PER_ROLLOUT = 3
"""Moments taken from an episode that goes well."""


class Kind(str, enum.Enum):
    """Where in what sort of rollout a moment lies."""

    NOMINAL = "nominal"
    HARMLESS = "harmless"
    BEFORE = "before"
    JUST_AFTER = "just_after"
    LATE = "late"
    LONG_AFTER = "long_after"
    RECOVERED = "recovered"
    WANDERING = "wandering"


@dataclass(frozen=True)
class Sample:
    """One moment, and what is true of it.

    Attributes:
        name: Its name, unique among all samples.
        source: Number of the dataset that it comes from.
        task: Name of the task.
        seed: Seed of the initial state.
        split: "train", "validation", "calibration" or "test".
        rollout: Name of the trace: "nominal", "failing", "recovery_0" and so on, or "wandering".
        case_id: The work item, empty for a nominal twin.
        step: The moment, in control steps of the rollout.
        kind: Where in what sort of rollout it lies.
        instruction: The task in words.
        stage: The sub-task that is going on.
        failing: Whether the episode fails if nothing is done; of one that wanders nobody knows.
        mode: The cause, "compound" for two at once, empty where nothing is failing.
        delay: Control steps since the failure set in, None where nothing is failing.
        actions: The proven correction, empty where there is none.
        recoverable: Whether there is one; None where nothing is failing, or where none was looked for.
    """

    name: str
    source: int
    task: str
    seed: int
    split: str
    rollout: str
    case_id: str
    step: int
    kind: Kind
    instruction: str
    stage: str
    failing: bool
    mode: str = ""
    delay: int | None = None
    actions: tuple[tuple[float, ...], ...] = ()
    recoverable: bool | None = None


def split_of(seed: int) -> str:
    """The split that a seed belongs to, whatever the task and the dataset."""
    share = int.from_bytes(hashlib.sha256(f"split {seed}".encode()).digest()[:4], "big") / 2**32
    for name, edge in zip(SPLITS, np.cumsum(_SHARES), strict=True):
        if share < edge:
            return name
    return SPLITS[-1]


def plan_samples(
    datasets: Sequence[Dataset],
    history: int,
    splits: Collection[str] = SPLITS,
    failing_share: float = 0.5,
    per_cell: int | None = None,
    only_split: str = "",
    every: int = 0,
    wander: int = 0,
) -> list[Sample]:
    """All samples of some datasets, in a fixed order; the same datasets give the same samples.

    Args:
        datasets: Where they come from.
        history: Control steps that a window reaches back; earlier moments are no samples.
        splits: The splits that are wanted.
        failing_share: Share of failing moments in every task and split; moments of the more frequent sort
            are left out at random. 0 leaves out none.
        per_cell: The most failing moments of one task, split, mode and stage; None for no limit.
        only_split: Put every seed into this split, whatever the seeds say: for a task left out of training.
        every: Take a moment every so many control steps of each rollout; 0 for a few of each.
        wander: Take so many moments of a tool that wanders about from each initial state, and no others.

    Raises:
        UserError: If there is nothing to take samples from.
    """
    if not 0 <= failing_share < 1:
        raise UserError(
            f"expected a share of failing moments from 0 (as they come) to below 1, got {failing_share}"
        )
    if every < 0:
        raise UserError(f"expected a moment every 1 or more control steps, or 0 for a few, got {every}")
    found: list[Sample] = []
    for source, dataset in enumerate(datasets):
        moments = (
            _wandering(dataset, source, history, wander)
            if wander
            else _of_dataset(dataset, source, history, every)
        )
        for sample in moments:
            split = only_split or sample.split
            if split in splits:
                found.append(replace(sample, split=split))
    if not found:
        where = ", ".join(str(d.path) for d in datasets)
        raise UserError(
            f"expected episodes longer than {history} steps with seeds of the splits {', '.join(splits)}, "
            f"got none in {where}"
        )
    return found if wander else _balance(found, failing_share, per_cell)


def check_leaks(samples: Iterable[Sample]) -> None:
    """Make sure that no initial state is in two splits, and no moment in two samples.

    Raises:
        RecordError: Naming the first one that is.
    """
    split_by_seed: dict[int, str] = {}
    names: set[str] = set()
    for sample in samples:
        before = split_by_seed.setdefault(sample.seed, sample.split)
        if before != sample.split:
            raise RecordError(
                f"seed {sample.seed} is in the splits {before} and {sample.split}: what is learned from one "
                "is tested on the other"
            )
        if sample.name in names:
            raise RecordError(f"sample {sample.name} is there twice")
        names.add(sample.name)


def _of_dataset(dataset: Dataset, source: int, history: int, every: int) -> Iterable[Sample]:
    dataset.require()
    for path in dataset.nominal_files():
        task, seed = path.parent.name, int(path.stem)
        nominal, trace = dataset.nominal(task, seed)
        if nominal.success:
            yield from _of_nominal(nominal, trace, source, history, every)
    for path in dataset.case_files():
        case = dataset.case(path.parent.name, path.stem)
        if case.outcome in (Outcome.FAILURE, Outcome.HARMLESS):
            nominal, _ = dataset.nominal(case.task, case.seed)
            traces = dataset.traces(case.task, case.case_id)
            yield from _of_case(case, traces, nominal, source, history, every)


def _wandering(dataset: Dataset, source: int, history: int, number: int) -> Iterable[Sample]:
    dataset.require()
    for path in dataset.nominal_files():
        task, seed = path.parent.name, int(path.stem)
        nominal, _ = dataset.nominal(task, seed)
        rng = _rng(f"wandering {task} {seed}")
        for step in _draw(rng, history, STEPS + 1, number, 0):
            yield Sample(
                name=f"{source}-{task}-{seed:06d}-wandering-{step:04d}",
                source=source,
                task=task,
                seed=seed,
                split=split_of(seed),
                rollout="wandering",
                case_id="",
                step=step,
                kind=Kind.WANDERING,
                instruction=nominal.plan.instruction,
                stage="",
                failing=False,
            )


def _of_nominal(
    nominal: NominalRecord, trace: Trace, source: int, history: int, every: int
) -> Iterable[Sample]:
    names = [stage.name for stage in nominal.plan.stages]
    rng = _rng(f"{source} {nominal.task} {nominal.seed}")
    for step in _draw(rng, history, len(trace) + 1, PER_ROLLOUT, every):
        yield Sample(
            name=f"{source}-{nominal.task}-{nominal.seed:06d}-nominal-{step:04d}",
            source=source,
            task=nominal.task,
            seed=nominal.seed,
            split=split_of(nominal.seed),
            rollout="nominal",
            case_id="",
            step=step,
            kind=Kind.NOMINAL,
            instruction=nominal.plan.instruction,
            stage=_stage(trace, step, names),
            failing=False,
        )


def _of_case(
    case: FailureCase, traces: dict[str, Trace], nominal: NominalRecord, source: int, history: int, every: int
) -> Iterable[Sample]:
    rng = _rng(f"{source} {case.case_id}")
    failing = traces[FAILING]
    modes = [p.mode for p in case.perturbations]
    mode = modes[0] if len(modes) == 1 else "compound"

    def make(rollout: str, step: int, kind: Kind, stage: str, label: Label | None = None) -> Sample:
        correction = label.correction if label else None
        return Sample(
            name=f"{source}-{case.case_id}-{rollout}-{step:04d}",
            source=source,
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
            mode=mode if label else "",
            delay=label.step - first if label else None,
            actions=correction.actions if correction else (),
            recoverable=correction is not None if label else None,
        )

    def set_in_for(step: int) -> Kind:
        delay = step - first
        return Kind.JUST_AFTER if delay <= JUST_AFTER else Kind.LATE if delay <= LATE else Kind.LONG_AFTER

    onset = case.times.onset_step if case.times.onset_step is not None else len(failing)
    if case.outcome is Outcome.HARMLESS:
        injected = case.times.injection_step or 0
        for step in _draw(rng, max(history, injected), len(failing) + 1, PER_ROLLOUT, every):
            stage = _stage(failing, step, case.stage_names)
            yield make(FAILING, step, Kind.HARMLESS, stage)
        return
    # Between the onset and the first moment that can be a label not every cause has set in: nobody can say
    # yet that the episode fails.
    first = set_in(case, failing)
    for step in _draw(rng, history, onset, 2, every):
        yield make(FAILING, step, Kind.BEFORE, _stage(failing, step, case.stage_names))
    labels = {label.step: label for label in case.labels if label.step >= history}
    for step, label in labels.items():
        yield make(FAILING, step, set_in_for(step), label.stage, label)
    # Nobody looked for a correction at the moments between, but the kind of failure is known there as well.
    for step in range(max(history, first), max(labels, default=0), every) if every else ():
        if step not in labels:
            stage = _stage(failing, step, case.stage_names)
            between = make(FAILING, step, set_in_for(step), stage)
            yield replace(between, failing=True, mode=mode, delay=step - first)
    names = [stage.name for stage in nominal.plan.stages]
    for label in case.labels:
        if label.correction is None or label.recovery not in traces:
            continue
        trace, back = traces[label.recovery], label.step + len(label.correction.actions)
        # A fresh plan counts its stages anew; the nominal one goes on at its own.
        after = names if label.correction.resume_index >= 0 else list(label.correction.plan_stages)
        soon = _draw(rng, max(history, back), min(back + JUST_AFTER, len(trace) + 1), 1, every)
        later = _draw(rng, max(history, back + JUST_AFTER), len(trace) + 1, 1, every)
        for step in sorted({*soon, *later}):
            yield make(label.recovery, step, Kind.RECOVERED, _stage(trace, step, after))


def set_in(case: FailureCase, failing: Trace) -> int:
    """The first moment at which a failure can be seen: after its onset, once the world is left alone."""
    disturbed = failing.disturbances[-1][0] if failing.disturbances else 0
    return min(max(case.times.onset_step or 0, disturbed) + 1, len(failing))


def _stage(trace: Trace, step: int, names: Sequence[str]) -> str:
    index = int(trace.stages[min(step, len(trace) - 1)])
    return names[min(max(index, 0), len(names) - 1)] if names else ""


def _draw(rng: np.random.Generator, first: int, stop: int, count: int, every: int) -> list[int]:
    """Up to `count` moments from `first` on and before `stop`; or one every so many steps, unless 0."""
    if stop <= first:
        return []
    if every:
        return list(range(first + int(rng.integers(every)), stop, every))
    return sorted(int(first + x) for x in rng.choice(stop - first, min(count, stop - first), replace=False))


def _balance(samples: list[Sample], failing_share: float, per_cell: int | None) -> list[Sample]:
    # The order in which samples are left out is drawn by name, so that it does not depend on the others.
    order = sorted(samples, key=lambda s: hashlib.sha256(s.name.encode()).digest())
    cells: Counter[tuple[str, ...]] = Counter()
    groups: dict[tuple[str, str], dict[bool, list[Sample]]] = defaultdict(lambda: {True: [], False: []})
    for sample in order:
        if sample.failing and per_cell is not None:
            cell = (sample.task, sample.split, sample.mode, sample.stage)
            cells[cell] += 1
            if cells[cell] > per_cell:
                continue
        groups[(sample.task, sample.split)][sample.failing].append(sample)
    kept: list[Sample] = []
    odds = failing_share / (1 - failing_share)
    for group in groups.values():
        bad, good = group[True], group[False]
        if not odds:  # as they come
            kept += bad + good
            continue
        kept += bad[: round(len(good) * odds)] if good else bad
        kept += good[: round(len(bad) / odds)] if bad else good
    return sorted(kept, key=lambda s: (s.task, s.seed, s.source, s.name))


def _rng(text: str) -> np.random.Generator:
    return np.random.default_rng(np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], dtype=np.uint32))
