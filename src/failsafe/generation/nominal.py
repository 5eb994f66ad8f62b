"""Rollouts of one task: the unperturbed twin, and the same episode with something wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from failsafe.errors import DivergedError, PlanError
from failsafe.experts.contract import Expert, PlanExpert
from failsafe.experts.segmentation import segment
from failsafe.experts.tasks import Task
from failsafe.perturbations import MODES, Mode, Scene
from failsafe.records import poses
from failsafe.records.case import NominalRecord
from failsafe.records.perturbation import Perturbation
from failsafe.records.plan import StagePlan, StageSpan
from failsafe.records.poses import Pose
from failsafe.records.trace import Disturbance, Trace
from failsafe.rollouts.hooks import Command, Hook, StepContext
from failsafe.rollouts.runner import RolloutRunner


@dataclass(frozen=True)
class NominalRollout:
    """The nominal rollout of a task and seed, with what perturbations need to know of it."""

    record: NominalRecord
    trace: Trace
    scene: Scene


@dataclass(frozen=True)
class PerturbedRollout:
    """A rollout with something wrong.

    Attributes:
        trace: What happened, settling included.
        success: The task's judgement at its end.
        plan: The stages that were carried out.
        spans: Where in the trace each of them lies.
        injection_step: First step on which a cause acted, None if none did.
        last_injection_step: First step on which the last of the causes acted.
    """

    trace: Trace
    success: bool
    plan: StagePlan
    spans: tuple[StageSpan, ...]
    injection_step: int | None
    last_injection_step: int | None = None


def run_nominal(task: Task, seed: int) -> NominalRollout:
    """Let the expert solve the task, and record what it did.

    A plan that fails, and physics that diverges, make a twin without success, with the reason. An expert
    that names no stages, such as a closed-loop policy, has its rollout cut into stages, which are the plan.
    """
    simulator = task.simulator
    runner, success, reason = _drive(task, seed, task.expert)
    if success and not runner.stages:  # a closed-loop policy: its rollout is cut into stages, and they are it
        plan = segment(runner.trace(), simulator.spec, simulator.spec.instruction)
        runner, success, reason = _drive(task, seed, PlanExpert(plan))
    plan = StagePlan(simulator.spec.instruction, tuple(runner.stages))
    spans = tuple(runner.spans)
    licence = simulator.spec.asset_licence
    record = NominalRecord(task.name, seed, success, reason, plan, spans, licence)
    return make_nominal(task, record, runner.trace())


def _drive(task: Task, seed: int, expert: Expert) -> tuple[RolloutRunner, bool, str]:
    """An undisturbed rollout; whether it ended in success, and why not."""
    task.simulator.reset(seed)
    runner = RolloutRunner(task.simulator, watch_grip=True)
    try:
        expert.solve(runner)
        runner.settle()
    except PlanError as error:
        return runner, False, f"planner: {error}"
    except DivergedError as error:
        return runner, False, f"physics: {error}"
    success = task.simulator.evaluate().success
    return runner, success, "" if success else "the expert's rollout did not end in success"


def crashed_nominal(task: Task, seed: int) -> NominalRollout:
    """The twin of a seed whose nominal rollout kills the process: no state, no success, and no second try."""
    plan = StagePlan(task.simulator.spec.instruction, ())
    reason = "the process died twice while at work on it"
    record = NominalRecord(task.name, seed, False, reason, plan, ())
    nothing = np.zeros((0, 7), dtype=np.float32)
    none = np.zeros(0, dtype=np.float32)
    objects, states = np.zeros((0, 0, 7), dtype=np.float32), np.zeros((0, 0), dtype=np.float32)
    trace = Trace(states, nothing, none, none.astype(np.int16), nothing, none, objects, states)
    return make_nominal(task, record, trace)


def make_nominal(task: Task, record: NominalRecord, trace: Trace) -> NominalRollout:
    """A twin from its parts; the simulator must have been reset to its seed, for sizes may depend on it."""
    if not len(trace.states):
        scene = Scene(task.simulator.spec, record.plan, record.spans, np.zeros((0, 7)), poses.IDENTITY)
        return NominalRollout(record, trace, scene)
    scene = Scene(
        spec=task.simulator.spec,
        plan=record.plan,
        spans=record.spans,
        objects=trace.objects[0].astype(np.float64),
        tcp_pose=trace.tcp_poses[0].astype(np.float64),
    )
    return NominalRollout(record, trace, scene)


def run_perturbed(
    task: Task, nominal: NominalRollout, perturbations: Sequence[Perturbation]
) -> PerturbedRollout:
    """Carry out the twin's plan with something wrong.

    Raises:
        PlanError: If the expert finds no plan for what it takes the scene to be.
        DivergedError: If the physics diverges.
    """
    simulator = task.simulator
    modes = [MODES[p.mode](p, nominal.scene) for p in perturbations]
    plan = _plan_on_belief(task, nominal, modes)
    for mode in modes:
        plan = mode.edit(plan)
    watched = [_Watched(mode) for mode in modes]
    simulator.reset(nominal.record.seed)
    runner = RolloutRunner(simulator, watched)
    PlanExpert(plan).solve(runner)
    runner.settle()
    changed = _first_change(nominal.record.plan, plan)
    steps = [w.first_step for w in watched if w.first_step is not None]
    if changed is not None and changed < len(runner.spans):
        steps.append(runner.spans[changed].start)
    return PerturbedRollout(
        trace=runner.trace(),
        success=simulator.evaluate().success,
        plan=plan,
        spans=tuple(runner.spans),
        injection_step=min(steps, default=None),
        last_injection_step=max(steps, default=None),
    )


def _plan_on_belief(task: Task, nominal: NominalRollout, modes: Sequence[Mode]) -> StagePlan:
    """The plan that the expert makes for what it takes the scene to be, by acting in that world."""
    believed: dict[str, Pose] = {}
    for mode in modes:
        believed.update(mode.believe())
    if not believed:
        return nominal.record.plan
    task.simulator.reset(nominal.record.seed, objects=believed)
    runner = RolloutRunner(task.simulator)
    try:
        task.expert.solve(runner)
    except DivergedError as error:
        raise PlanError(f"the believed scene is not one that physics allows ({error})") from error
    return StagePlan(nominal.record.plan.instruction, tuple(runner.stages))


def _first_change(nominal: StagePlan, plan: StagePlan) -> int | None:
    for i, (before, after) in enumerate(zip(nominal.stages, plan.stages, strict=False)):
        if before.gripper != after.gripper or not np.allclose(before.target, after.target, atol=1e-4):
            return i
    same = len(nominal.stages) == len(plan.stages)
    return None if same else min(len(nominal.stages), len(plan.stages))


class _Watched(Hook):
    """Notes the first step on which a mode acts."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self.first_step: int | None = None

    def before_step(self, context: StepContext, command: Command) -> Command:
        changed = self._mode.before_step(context, command)
        if changed is not command and self.first_step is None:
            self.first_step = context.step
        return changed

    def disturb(self, context: StepContext) -> Sequence[Disturbance]:
        disturbances = self._mode.disturb(context)
        if disturbances and self.first_step is None:
            self.first_step = context.step
        return disturbances
