"""A small dataset on the toy, made by hand: every result, several labels, two causes at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from failsafe.datasets.frames import render_case, render_nominal
from failsafe.datasets.store import Dataset
from failsafe.experts.toy import ToyPickExpert, ToyPushExpert
from failsafe.records.case import (
    FAILING,
    Attempt,
    Correction,
    FailureCase,
    Label,
    NominalRecord,
    Outcome,
    RecoveryStrategy,
    Times,
    Verification,
)
from failsafe.records.perturbation import Perturbation
from failsafe.records.plan import OPEN, StagePlan
from failsafe.records.trace import Trace
from failsafe.rollouts.hooks import Command, Hook, StepContext
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators import toy

SIZE = 64
CAMERAS = ("front", "side", "hand")
EXPERTS = {"ToyPick-v0": ToyPickExpert, "ToyPush-v0": ToyPushExpert}
PICK_SEED, PUSH_SEED = 3, 1
ACTIONS = ((0.0, 0.0, 0.02, 0.0, 0.0, 0.0, 1.0), (0.005, -0.0025, 0.02, 0.0, 0.0, 0.1, 1.0))
"""What every correction here is: up, then up with a little to the side and a turn of 5.73 degrees."""


class OpenGripper(Hook):
    """The gripper does not close in one stage and after."""

    def __init__(self, stage: int) -> None:
        self.stage = stage

    def before_step(self, context: StepContext, command: Command) -> Command:
        return Command(command.target, OPEN) if context.stage >= self.stage else command


def rollout(task: str, seed: int, *hooks: Hook) -> tuple[RolloutRunner, Trace]:
    simulator = toy.make(task)
    simulator.reset(seed)
    runner = RolloutRunner(simulator, hooks, watch_grip=True)
    EXPERTS[task]().solve(runner)
    runner.settle()
    return runner, runner.trace()


def recovered(task: str, seed: int, failing: Trace, step: int) -> tuple[Trace, bool]:
    """The failing rollout up to a step, then `ACTIONS`, then the expert anew."""
    simulator = toy.make(task)
    simulator.reset(seed)
    runner = RolloutRunner(simulator)
    assert runner.replay(failing, step)
    runner.restart_from_measured_pose()
    for action in ACTIONS:
        runner.act(np.array(action[:6]), action[6])
    EXPERTS[task]().solve(runner)
    runner.settle()
    return runner.trace(), simulator.evaluate().success


def label(step: int, stage: str, *, proven: bool, successes: int = 5, recovery: str = "") -> Label:
    attempts = (
        Attempt(RecoveryStrategy.NOMINAL_PATH, 2, False, "the box <b>stayed</b> behind"),
        Attempt(RecoveryStrategy.FRESH_PLAN, 2, proven),
    )
    verification = Verification(True, False, proven, 5, successes, attempts, "2 mm, 1 degree, one step late")
    correction = Correction(
        ACTIONS, "robot_base", RecoveryStrategy.FRESH_PLAN, "grasp", -1, ("reach", "grasp", "lift")
    )
    return Label(step, stage, correction if proven else None, verification, recovery)


def make_dataset(folder: Path, copies: int = 1) -> Dataset:
    """Seven cases of two tasks, each `copies` times under names of their own."""
    dataset = Dataset(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text("{}")
    nominals: dict[str, tuple[RolloutRunner, Trace]] = {}
    for task, seed in (("ToyPick-v0", PICK_SEED), ("ToyPush-v0", PUSH_SEED)):
        runner, trace = nominals[task] = rollout(task, seed)
        plan = StagePlan(runner.simulator.episode.instruction, tuple(runner.stages))
        dataset.write_nominal(NominalRecord(task, seed, True, "", plan, tuple(runner.spans)), trace)
    for case, traces in _cases(nominals):
        for i in range(copies):
            copy = replace(case, case_id=f"{case.case_id}-{i}" if i else case.case_id)
            dataset.write_case(copy, traces)
    return dataset


def _cases(nominals: dict[str, tuple[RolloutRunner, Trace]]) -> list[tuple[FailureCase, dict[str, Trace]]]:
    pick, nominal = nominals["ToyPick-v0"]
    names = tuple(span.name for span in pick.spans)
    closing = next(i for i, span in enumerate(pick.spans) if span.closes)
    start, stop = pick.spans[closing].start, pick.spans[closing].stop
    _, failing = rollout("ToyPick-v0", PICK_SEED, OpenGripper(closing))
    first, success = recovered("ToyPick-v0", PICK_SEED, failing, stop + 4)
    assert success
    second, _ = recovered("ToyPick-v0", PICK_SEED, failing, len(failing) - 8)
    unclosed = Perturbation("gripper_stays_open", closing, names[closing], 0.0, 40.0, "steps")
    shifted = Perturbation("translation_x", 1, names[1], 0.5, -0.06, "m")
    slip = Perturbation("slip", closing + 1, names[closing + 1], 0.25, 0.1, "m/s", object="box")
    times = Times(start, start + 2, stop)
    common = dict(
        task="ToyPick-v0", seed=PICK_SEED, instruction=pick.simulator.episode.instruction, stage_names=names
    )

    def case(
        case_id: str, *causes: Perturbation, outcome: Outcome, labels=(), reason="", times=times, **more
    ):
        fields = common | more
        return FailureCase(
            case_id=case_id,
            perturbations=causes,
            outcome=outcome,
            reason=reason,
            times=times,
            labels=labels,
            **fields,
        )

    labels = (
        label(stop + 4, names[closing], proven=True, recovery="recovery-0"),
        label(len(failing) - 8, names[-1], proven=True, successes=3, recovery="recovery-1"),
    )
    both = {FAILING: failing, "recovery-0": first, "recovery-1": second}
    lost = (label(stop + 4, names[closing], proven=False, successes=0),)
    push = nominals["ToyPush-v0"]
    pushed = Perturbation("translation_y", 1, push[0].spans[1].name, 0.5, 0.02, "m")
    push_case = dict(task="ToyPush-v0", seed=PUSH_SEED, instruction=push[0].simulator.episode.instruction)
    return [
        (case("pick-open", unclosed, outcome=Outcome.FAILURE, labels=labels), both),
        (
            case("pick-two", shifted, slip, outcome=Outcome.FAILURE, labels=labels[:1]),
            {k: both[k] for k in list(both)[:2]},
        ),
        (
            case("pick-lost", slip, outcome=Outcome.FAILURE, labels=lost, reason="dropped behind"),
            {FAILING: failing},
        ),
        (case("pick-harmless", shifted, outcome=Outcome.HARMLESS, times=Times(5, 7)), {FAILING: nominal}),
        (case("pick-diverged", slip, outcome=Outcome.DIVERGED, times=Times(5), reason="joint speed 1e9"), {}),
        (
            case(
                "push-harmless", pushed, outcome=Outcome.HARMLESS, times=Times(6), stage_names=(), **push_case
            ),
            {FAILING: push[1]},
        ),
        (
            case(
                "push-crashed",
                pushed,
                outcome=Outcome.CRASHED,
                times=Times(),
                reason="signal 11",
                **push_case,
            ),
            {},
        ),
    ]


def render_dataset(dataset: Dataset, cameras: tuple[str, ...] = CAMERAS, size: int = SIZE) -> None:
    """Frames of everything in a dataset."""
    for nominal in dataset.nominals():
        simulator = toy.make(nominal.task)
        views = [simulator.camera(name) for name in cameras]
        render_nominal(dataset, simulator, nominal.task, nominal.seed, views, size)
    for case in dataset.cases():
        simulator = toy.make(case.task)
        render_case(dataset, simulator, case, [simulator.camera(name) for name in cameras], size)
