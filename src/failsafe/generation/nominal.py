"""Nominal rollouts: a task solved by its expert, without a perturbation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from failsafe.errors import DivergedError, PlanError
from failsafe.experts.contract import Expert, PlanExpert
from failsafe.experts.segmentation import TOLERANCES, segment
from failsafe.experts.tasks import Task
from failsafe.perturbations import Scene
from failsafe.records import poses
from failsafe.records.case import NominalRecord
from failsafe.records.plan import StagePlan
from failsafe.records.trace import Trace
from failsafe.rollouts.runner import RolloutRunner


@dataclass(frozen=True)
class NominalRollout:
    """The nominal rollout of a task and seed.

    Attributes:
        record: The record, as it is stored.
        trace: The rollout, settling included.
        scene: What perturbations need to know about the rollout.
    """

    record: NominalRecord
    trace: Trace
    scene: Scene


def run_nominal(task: Task, seed: int) -> NominalRollout:
    """Let the expert solve a task, and return the rollout.

    If the expert finds no plan, or the physics diverges, the rollout has no success and says why. An expert
    without stages, such as a closed-loop policy, has its rollout cut into stages, which become the plan.

    Args:
        task: The task.
        seed: Seed of the initial state.
    """
    simulator = task.simulator
    runner, success, reason = _run_expert(task, seed, task.expert)
    if success and not runner.stages:
        acted = runner.trace()
        for tolerance in TOLERANCES:
            plan = segment(acted, simulator.spec.embodiment, simulator.episode, tolerance)
            runner, success, reason = _run_expert(task, seed, PlanExpert(plan))
            if success:
                break
    plan = StagePlan(simulator.episode.instruction, tuple(runner.stages))
    spans = tuple(runner.spans)
    licence = simulator.spec.asset_licence
    record = NominalRecord(task.name, seed, success, reason, plan, spans, licence)
    return make_nominal(task, record, runner.trace())


def make_nominal(task: Task, record: NominalRecord, trace: Trace) -> NominalRollout:
    """Return a nominal rollout from what is stored about it.

    Args:
        task: The task, whose simulator has been reset to the rollout's seed: sizes may depend on it.
        record: The record.
        trace: The trace; without states if the rollout crashed.
    """
    first = bool(len(trace.states))
    scene = Scene(
        spec=task.simulator.spec,
        episode=task.simulator.episode,
        plan=record.plan,
        spans=record.spans,
        objects=trace.objects[0].astype(np.float64) if first else np.zeros((0, 7)),
        tcp_pose=trace.tcp_poses[0].astype(np.float64) if first else poses.IDENTITY,
    )
    return NominalRollout(record, trace, scene)


def make_crashed_nominal(task: Task, seed: int) -> NominalRollout:
    """Return the nominal rollout of a seed that ends the process: no state, no success.

    Args:
        task: The task.
        seed: Seed of the initial state, which is not tried again.
    """
    plan = StagePlan(task.simulator.episode.instruction, ())
    record = NominalRecord(task.name, seed, False, "the process died twice during this rollout", plan, ())
    nothing = np.zeros((0, 7), dtype=np.float32)
    none = np.zeros(0, dtype=np.float32)
    objects, states = np.zeros((0, 0, 7), dtype=np.float32), np.zeros((0, 0), dtype=np.float32)
    trace = Trace(states, nothing, none, none.astype(np.int16), nothing, none, objects, states)
    return make_nominal(task, record, trace)


def _run_expert(task: Task, seed: int, expert: Expert) -> tuple[RolloutRunner, bool, str]:
    """Run an expert without a perturbation; return its success and the reason where there is none."""
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
