"""Plan modes: the stages themselves are wrong."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from failsafe.perturbations.distributions import Choice, Uniform
from failsafe.perturbations.mode import MODES, Mode, Scene
from failsafe.records import poses
from failsafe.records.perturbation import Level
from failsafe.records.plan import OPEN, Stage, StagePlan


class OffsetMode(Mode):
    """The targets of some consecutive stages are displaced or turned.

    The offset begins at the drawn stage and ends with the next stage that moves the fingers. The gripper thus
    closes or opens at the wrong pose, as with a wrong calibration or a biased policy.
    """

    level = Level.PLAN
    signed = True
    axis = 0
    """Index in `[dx, dy, dz, rx, ry, rz]`, robot base frame."""

    @classmethod
    def applies(cls, scene: Scene, stage: int) -> bool:
        """Return whether the tool travels. See `Mode.applies`."""
        if cls.axis >= 3 and not scene.spec.embodiment.controls_rotation:
            return False
        return scene.spans[stage].travel > 0.005

    def edit(self, plan: StagePlan) -> StagePlan:
        """Return the plan with the offset targets."""
        delta = np.zeros(6)
        delta[self.axis] = self.perturbation.magnitude
        stages = list(plan.stages)
        for i in range(self.perturbation.stage, len(stages)):
            moved = poses.apply_delta(stages[i].pose, delta)
            stages[i] = dataclasses.replace(stages[i], target=tuple(moved.tolist()))
            if i > self.perturbation.stage and stages[i].gripper != stages[i - 1].gripper:
                break
        return dataclasses.replace(plan, stages=tuple(stages))


class Translation(OffsetMode):
    """The target is displaced along an axis."""

    unit = "m"
    magnitude = Uniform(0.02, 0.1)


class Rotation(OffsetMode):
    """The target is turned about an axis."""

    unit = "rad"
    magnitude = Uniform(0.2, 1.0)
    bounds = (0.0, math.pi)


@MODES.register("translation_x")
class TranslationX(Translation):
    """Along x of the robot base frame: towards or away from the robot."""

    axis = 0


@MODES.register("translation_y")
class TranslationY(Translation):
    """Along y of the robot base frame: sideways."""

    axis = 1


@MODES.register("translation_z")
class TranslationZ(Translation):
    """Along z of the robot base frame: too high or too low."""

    axis = 2


@MODES.register("rotation_x")
class RotationX(Rotation):
    """About x of the robot base frame."""

    axis = 3


@MODES.register("rotation_y")
class RotationY(Rotation):
    """About y of the robot base frame."""

    axis = 4


@MODES.register("rotation_z")
class RotationZ(Rotation):
    """About z of the robot base frame: the yaw of a tool that points down."""

    axis = 5


@MODES.register("step_omitted")
class StepOmitted(Mode):
    """A stage is omitted."""

    level = Level.PLAN
    unit = "stages"
    magnitude = Choice((1.0,))
    bounds = (1.0, 1.0)

    @classmethod
    def applies(cls, scene: Scene, stage: int) -> bool:
        """Return whether the stage moves the tool or the gripper. See `Mode.applies`."""
        span = scene.spans[stage]
        return span.travel > 0.005 or span.closes or span.opens

    def edit(self, plan: StagePlan) -> StagePlan:
        """Replace the stage by staying at the target of the one before, so that stages keep their numbers."""
        index = self.perturbation.stage
        if index >= len(plan.stages):  # a plan for a believed scene may be shorter than the nominal one
            return plan
        target, gripper = tuple(self.scene.tcp_pose.tolist()), OPEN
        if index:
            before = plan.stages[index - 1]
            target, gripper = before.target, before.gripper
        left_out = plan.stages[index]
        stages = list(plan.stages)
        stages[index] = Stage(f"{left_out.name} (left out)", target, gripper, 0, left_out.speed)
        return dataclasses.replace(plan, stages=tuple(stages))
