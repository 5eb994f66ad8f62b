"""Rollouts written by hand: one object and a tool, metre by metre."""

import numpy as np

from failsafe.generation.nominal import NominalRollout
from failsafe.generation.perturbed import PerturbedRollout
from failsafe.perturbations import Scene
from failsafe.records.case import NominalRecord
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.plan import OPEN, Stage, StagePlan, StageSpan
from failsafe.records.trace import Trace
from failsafe.simulators.contract import EpisodeSpec, Exactness, ObjectSpec, Role, SimulatorSpec

ROBOT = EmbodimentSpec(
    robot="made up",
    control_hz=20.0,
    max_translation=0.02,
    max_rotation=0.1,
    gripper_travel=0.08,
    gripper_seconds=0.2,
    workspace_low=(-1.0, -1.0, -1.0),
    workspace_high=(1.0, 1.0, 1.0),
)
SPEC = SimulatorSpec(task="made up", exactness=Exactness.REPLAY, embodiment=ROBOT, command_size=1)
EPISODE = EpisodeSpec(
    seed=0,
    instruction="do it",
    objects=(
        ObjectSpec("goal", Role.GOAL, (0.0, 0.0, 0.0)),
        ObjectSpec("cube", Role.MOVABLE, (0.02, 0.02, 0.02)),
    ),
)


def turned(position, yaw=0.0):
    """A pose on the x axis, turned about z."""
    return [position, 0.0, 0.0, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]


def make_trace(cube, tool=None, yaw=None, widths=None, goal=None, grippers=None):
    """A trace from where things are along x before each step and after the last. [T+1]"""
    states = len(cube)
    tool = [0.0] * states if tool is None else tool
    cubes = [turned(x, y) for x, y in zip(cube, yaw or [0.0] * states, strict=True)]
    goals = [turned(x) for x in (goal or [1.0] * states)]
    targets = np.array([turned(x) for x in tool[1:]], dtype=np.float32).reshape(-1, 7)
    return Trace(
        commands=np.zeros((states - 1, 1), dtype=np.float32),
        targets=targets,
        gripper_commands=np.array(grippers or [OPEN] * (states - 1), dtype=np.float32),
        stages=np.zeros(states - 1, dtype=np.int16),
        tcp_poses=np.array([turned(x) for x in tool], dtype=np.float32),
        gripper_widths=np.array(widths or [0.08] * states, dtype=np.float32),
        objects=np.array([goals, cubes], dtype=np.float32).transpose(1, 0, 2),
        states=np.array(cube, dtype=np.float32)[:, None],
    )


def make_spans(*stages):
    """Spans from (name, steps) or (name, steps, held)."""
    spans, at = [], 0
    for name, steps, *held in stages:
        in_grip = tuple(held)
        spans.append(StageSpan(name, at, at + steps, 0.1, 0.0, OPEN, OPEN, in_grip, in_grip))
        at += steps
    return tuple(spans)


def make_nominal(trace, spans):
    plan = StagePlan("do it", tuple(Stage(s.name, tuple(turned(0.0)), OPEN, 0) for s in spans))
    scene = Scene(
        SPEC, EPISODE, plan, spans, trace.objects[0].astype(float), trace.tcp_poses[0].astype(float)
    )
    return NominalRollout(NominalRecord("made up", 0, True, "", plan, spans), trace, scene)


def make_perturbed(trace, spans, injection=0):
    return PerturbedRollout(trace, False, make_nominal(trace, spans).record.plan, spans, injection)
