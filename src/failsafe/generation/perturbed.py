"""Perturbed rollouts: the plan of a nominal rollout, carried out with something wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from failsafe.errors import DivergedError, PlanError
from failsafe.experts.contract import PlanExpert
from failsafe.experts.segmentation import segment
from failsafe.experts.tasks import Task
from failsafe.generation.nominal import NominalRollout
from failsafe.perturbations import MODES, Mode
from failsafe.perturbations.injection import Injection
from failsafe.records.perturbation import Level, Perturbation
from failsafe.records.plan import StagePlan, StageSpan
from failsafe.records.poses import Pose
from failsafe.records.trace import Trace
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.contract import Exactness
from failsafe.sources import is_own


@dataclass(frozen=True)
class PerturbedRollout:
    """A rollout with something wrong.

    Attributes:
        trace: The rollout, settling included.
        success: The task's judgement at its end.
        plan: The stages that were carried out.
        spans: Where in the trace each stage lies.
        injection_step: First control step on which a cause acted, None if none did.
        last_injection_step: First control step on which the last of the causes acted.
        last_cause_step: Last control step on which a cause acted, where only the world was disturbed. None
            where the plan or the commands were changed: such a cause lasts to the end.
    """

    trace: Trace
    success: bool
    plan: StagePlan
    spans: tuple[StageSpan, ...]
    injection_step: int | None
    last_injection_step: int | None = None
    last_cause_step: int | None = None

    def cause_is_over(self, step: int) -> bool:
        """Return whether no cause acts from a control step on."""
        return self.last_cause_step is not None and step > self.last_cause_step


def run_perturbed(
    task: Task, nominal: NominalRollout, perturbations: Sequence[Perturbation]
) -> PerturbedRollout:
    """Carry out the plan of a nominal rollout with something wrong.

    Args:
        task: The task.
        nominal: Its nominal rollout.
        perturbations: The causes.

    Raises:
        PlanError: If the expert finds no plan for the scene as the expert believes it to be.
        DivergedError: If the physics diverges.
    """
    simulator = task.simulator
    modes = [MODES[p.mode](p, nominal.scene) for p in perturbations]
    plan = _plan_on_belief(task, nominal, modes)
    for mode in modes:
        plan = mode.edit(plan)
    watched = [Injection(mode) for mode in modes]
    simulator.reset(nominal.record.seed)
    runner = RolloutRunner(simulator, watched)
    same = _stages_in_common(task, nominal, plan, modes)
    if same:
        runner.skip(nominal.trace, plan.stages[:same], nominal.record.spans[:same])
    PlanExpert(plan, same).solve(runner)
    runner.settle()
    trace = runner.trace()
    changed = _first_changed_stage(nominal.record.plan, plan)
    steps = [w.step for w in watched if w.step is not None]
    if changed is not None and changed < len(runner.spans):
        steps.append(runner.spans[changed].start)
    only_world = all(mode.level is Level.WORLD for mode in modes)
    return PerturbedRollout(
        trace=trace,
        success=simulator.evaluate().success,
        plan=plan,
        spans=tuple(runner.spans),
        injection_step=min(steps, default=None),
        last_injection_step=max(steps, default=None),
        last_cause_step=trace.disturbances[-1][0] if only_world and trace.disturbances else None,
    )


def _plan_on_belief(task: Task, nominal: NominalRollout, modes: Sequence[Mode]) -> StagePlan:
    """Return the plan that the expert makes in the scene as the expert believes it to be."""
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
        raise PlanError(f"the physics diverged in the believed scene ({error})") from error
    stages = tuple(runner.stages)
    if not stages:  # the expert acts in closed loop
        simulator = task.simulator
        stages = segment(runner.trace(), simulator.spec.embodiment, simulator.episode).stages
    return StagePlan(nominal.record.plan.instruction, stages)


def _stages_in_common(task: Task, nominal: NominalRollout, plan: StagePlan, modes: Sequence[Mode]) -> int:
    """Return how many stages of the nominal rollout the perturbed one repeats, and need not be simulated.

    The last stage before a mode sets in does not count: a mode may look at the commands before.
    """
    if task.simulator.spec.exactness is not Exactness.RESTORE:
        return 0
    if not modes or any(mode.perturbation.event or not is_own(mode) for mode in modes):
        return 0
    stages, spans = nominal.record.plan.stages, nominal.record.spans
    pairs = zip(stages, plan.stages, strict=False)
    changed = next((i for i, (before, after) in enumerate(pairs) if before != after), len(spans))
    same = min(changed, *(mode.perturbation.stage for mode in modes)) - 1
    # A stage that begins at the commanded pose needs it as exact as it was.
    while same > 0 and (spans[same].steps == 0 or stages[same].from_commanded):
        same -= 1
    return max(same, 0)


def _first_changed_stage(nominal: StagePlan, plan: StagePlan) -> int | None:
    for i, (before, after) in enumerate(zip(nominal.stages, plan.stages, strict=False)):
        if before.gripper != after.gripper or not np.allclose(before.target, after.target, atol=1e-4):
            return i
    same = len(nominal.stages) == len(plan.stages)
    return None if same else min(len(nominal.stages), len(plan.stages))
