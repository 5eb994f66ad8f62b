"""The robot as data: rates, limits and sizes, which no other module may assume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from failsafe.records.poses import Pose

ALL_DIMENSIONS = (True,) * 7
"""Action dimensions of an arm with full control of the tool pose and a gripper."""


@dataclass(frozen=True)
class EmbodimentSpec:
    """A robot with its controller, in one simulator or one real cell.

    A 7-DoF action is a translation (x, y, z), a rotation vector (x, y, z) and a gripper command, all in the
    robot's base frame. `action_dimensions` states which of these the robot can execute.

    Attributes:
        robot: Name of the robot.
        control_hz: Control steps per second.
        max_translation: Largest commanded translation of the tool in one control step, metres.
        max_rotation: Largest commanded rotation of the tool in one control step, radians.
        gripper_travel: Opening of the fully open gripper, metres; 0 without a gripper.
        gripper_seconds: Time in which the gripper opens or closes, seconds.
        workspace_low: Lower corner of the box in which the tool may move, robot base frame, metres.
        workspace_high: Upper corner of that box, robot base frame, metres.
        work_center: Center of the region in which tasks take place, robot base frame, metres; None: the
            center of the workspace box. Networks count tool positions from there.
        tool_axis: Direction in which the fingers point, in the tool frame, unit vector.
        action_dimensions: Which of the 7 action dimensions exist.
        pace: Metres and radians that the tool covers in one control step at most, where the arm lags behind
            its target; None: the step limits.
        settle_seconds: Time that such an arm takes to arrive at its last target, seconds.

    Raises:
        ValueError: If a rate, limit or pace is not positive, the workspace box is empty, or the work center
            is outside the box.
    """

    robot: str
    control_hz: float
    max_translation: float
    max_rotation: float
    gripper_travel: float
    gripper_seconds: float
    workspace_low: tuple[float, float, float]
    workspace_high: tuple[float, float, float]
    work_center: tuple[float, float, float] | None = None
    tool_axis: tuple[float, float, float] = (0.0, 0.0, 1.0)
    action_dimensions: tuple[bool, ...] = ALL_DIMENSIONS
    pace: tuple[float, float] | None = None
    settle_seconds: float = 0.0

    def __post_init__(self) -> None:
        for name in ("control_hz", "max_translation", "max_rotation"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"expected {name} to be positive, got {getattr(self, name)}")
        if not (self.settle_seconds >= 0 and all(0 < limit < float("inf") for limit in self.pace or ())):
            raise ValueError(
                f"expected a pace above 0 and a time to settle of at least 0, got {self.pace} and "
                f"{self.settle_seconds}"
            )
        if len(self.action_dimensions) != len(ALL_DIMENSIONS):
            raise ValueError(f"expected 7 action dimensions, got {len(self.action_dimensions)}")
        if self.has_gripper and not (self.gripper_travel > 0 and self.gripper_seconds > 0):
            raise ValueError(
                f"expected a gripper with a travel and a closing time above 0, got {self.gripper_travel} m "
                f"and {self.gripper_seconds} s"
            )
        if not all(low < high for low, high in zip(self.workspace_low, self.workspace_high, strict=True)):
            raise ValueError(
                f"expected a workspace box with low < high, got {self.workspace_low} to {self.workspace_high}"
            )
        edges = zip(
            self.workspace_low, self.work_center or self.workspace_low, self.workspace_high, strict=True
        )
        if not all(low <= center <= high for low, center, high in edges):
            raise ValueError(f"expected the work center inside the workspace box, got {self.work_center}")

    @property
    def controls_rotation(self) -> bool:
        """Whether any rotation of the tool can be commanded."""
        return any(self.action_dimensions[3:6])

    @property
    def has_gripper(self) -> bool:
        """Whether there is a gripper to command."""
        return self.action_dimensions[6]

    @property
    def step_limits(self) -> tuple[float, float]:
        """Largest translation (metres) and rotation (radians) in one control step."""
        return self.max_translation, self.max_rotation

    def steps(self, seconds: float) -> int:
        """Return how many control steps a duration takes: the nearest number, at least 1."""
        return max(1, round(seconds * self.control_hz))

    def clip_to_workspace(self, pose: Pose) -> Pose:
        """Return the pose [7] with its position clipped to the workspace box."""
        inside = pose.copy()
        inside[:3] = np.clip(pose[:3], self.workspace_low, self.workspace_high)
        return inside


MANISKILL_PANDA = EmbodimentSpec(
    robot="panda",
    control_hz=20.0,
    max_translation=0.025,
    max_rotation=0.125,
    gripper_travel=0.08,
    gripper_seconds=0.2,
    workspace_low=(0.15, -0.6, 0.005),
    workspace_high=(0.95, 0.6, 0.7),
    work_center=(0.6, 0.0, 0.15),
)
"""The Panda of ManiSkill's tabletop tasks, on which the shipped checkpoints were trained. It is the default
where no simulator and no checkpoint states the embodiment, as for a policy behind a server. A test checks
that it equals the embodiment of the simulator."""

LIBERO_PANDA = EmbodimentSpec(
    robot="panda",
    control_hz=20.0,
    # An action of 1 along all three axes, which a policy may ask for. The arm lags behind.
    max_translation=0.05 * 3**0.5,
    max_rotation=0.5 * 3**0.5,
    gripper_travel=0.08,
    gripper_seconds=0.5,
    # What the arm covers in a control step at an action of 1; about x it turns faster.
    pace=(0.0125, 0.065),
    # Until the tool is within 5 mm and 2 degrees of its last target: measured were 5 control steps after a
    # translation along an axis, up to 16 after one along three, and 19 after a turn by 30 degrees about y.
    settle_seconds=1.0,
    workspace_low=(0.05, -0.65, -0.1),
    workspace_high=(0.95, 0.65, 0.8),
    work_center=(0.6, 0.0, 0.15),
)
"""The Panda of LIBERO's tasks under robosuite's OSC_POSE controller."""
