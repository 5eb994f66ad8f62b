"""Motions of the tool as stages: over obstacles, to a grasp, to a place."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from failsafe.errors import PlanError
from failsafe.experts.libero.kinematics import Attachment
from failsafe.experts.libero.scene import LiberoScene
from failsafe.records import poses
from failsafe.records.plan import CLOSED, OPEN, Stage
from failsafe.records.poses import Pose
from failsafe.rollouts.runner import RolloutRunner

BACK_OFF = 0.08
"""Distance from a grasp at which the tool turns in, metres."""
_CORRIDOR = 0.075
"""Half the width of the hand's way over obstacles, metres."""
_CLEARANCE = 0.02
_FINGERS = 0.014
"""How far the fingers reach beyond the tool, metres."""
_SLOW = 0.5
_REST_SECONDS = 0.35
"""Time after which the arm has caught up with its command."""
_FASTEST = (0.24, 1.2)
"""Speed of the tool (m/s, rad/s) that the controller follows with a lag of 4 cm."""
_WAIT_SECONDS = 3.0
_FINGER_SECONDS = 0.1
"""Time for the fingers beyond that of the embodiment: the grip has to become firm."""
_HIGHEST = 0.55
"""Largest height above the robot's base to which the tool rises, metres."""


class Motion:
    """Moves the tool of a runner.

    Args:
        scene: The scene of the runner's simulator.
        runner: The runner.
    """

    def __init__(self, scene: LiberoScene, runner: RolloutRunner) -> None:
        self.scene, self.runner = scene, runner
        robot = scene.simulator.spec.embodiment
        self._limits = robot.step_limits
        self._step = tuple(speed / robot.control_hz for speed in _FASTEST)
        # A stage whose way is short keeps this speed: the same stage may begin far away after a perturbation.
        self._slowest = min(step / limit for step, limit in zip(self._step, self._limits, strict=True))
        self._rest = robot.steps(_REST_SECONDS)
        self._limit_of_waiting = robot.steps(_WAIT_SECONDS)
        self._fingers = robot.steps(robot.gripper_seconds + _FINGER_SECONDS)

    @property
    def tool(self) -> Pose:
        """Tool pose [7] in the world frame."""
        return self.scene.world(self.runner.observation.tcp_pose)

    def go(self, name: str, target: Pose, gripper: float, hold: int = 0, speed: float = 1.0) -> None:
        """Move on a straight line.

        Args:
            name: Name of the stage.
            target: Tool pose, world frame. [7]
            gripper: Gripper command.
            hold: Control steps for which the target is held.
            speed: Share of the speed that the controller can follow.
        """
        goal = self.scene.robot(target)
        way = poses.distance(self.runner.observation.tcp_pose, goal)
        steps = max(length / step for length, step in zip(way, self._step, strict=True)) / speed
        needed = max(length / limit for length, limit in zip(way, self._limits, strict=True))
        share = min(1.0, max(speed * self._slowest, needed / max(1.0, math.ceil(steps))) * (1 + 1e-9))
        self.runner.do(Stage(name, tuple(goal.tolist()), gripper, hold, share))

    def travel(
        self, names: tuple[str, str], target: Pose, gripper: float, attached: Attachment | None = None
    ) -> None:
        """Move to a pose, over what is in between.

        Args:
            names: Names of the stage that rises, and of the stages that cross and descend.
            target: Tool pose, world frame. [7]
            gripper: Gripper command.
            attached: An object that moves with the tool.
        """
        start = self.tool
        level = self._level(start, target, attached)
        if start[2] < level - 0.01 and math.dist(start[:2], target[:2]) > 0.02:
            up = start.copy()
            up[2] = level
            self.go(names[0], up, gripper, hold=1)
        if max(level, start[2]) > target[2] + 0.04 and math.dist(start[:2], target[:2]) > 0.02:
            over = target.copy()
            over[2] = max(level, target[2])
            self.go(names[1], over, gripper)
        self.go(names[1], target, gripper, hold=1)

    def _level(self, start: Pose, target: Pose, attached: Attachment | None) -> float:
        """Return the height of the tool at which it crosses all obstacles between two poses."""
        scene = self.scene
        hang, radius = _FINGERS, _CORRIDOR
        without: tuple[int, ...] = ()
        if attached is not None:
            without = (attached.body,)
            points = scene.surface(attached.body).points - start[:3]
            hang = max(hang, -float(points[:, 2].min()))
            radius = max(radius, float(np.abs(points[:, :2]).max()) + 0.01)
        points = scene.obstacles(without)
        way = target[:2] - start[:2]
        length = float(way @ way)
        along = np.clip((points[:, :2] - start[:2]) @ way / max(length, 1e-9), 0.0, 1.0)
        away = np.linalg.norm(points[:, :2] - start[:2] - along[:, None] * way, axis=1)
        near = points[away < radius]
        top = float(near[:, 2].max()) if len(near) else -math.inf
        return min(top + hang + _CLEARANCE, float(scene.base[2]) + _HIGHEST)

    def back_off(self, tool: Pose, distance: float = BACK_OFF) -> Pose:
        """Return a pose farther back along the fingers.

        Args:
            tool: Tool pose, world frame. [7]
            distance: Metres.
        """
        back = tool.copy()
        back[:3] -= distance * self.scene.forward(tool)
        return back

    def pick(self, name: str, body: int, grasp: Pose, aside: np.ndarray | None = None) -> None:
        """Grasp an object and raise it a little.

        Args:
            name: What to call the object.
            body: Id of its body.
            grasp: Tool pose of the grasp, world frame. [7]
            aside: Vector by which the object is moved before it rises further, metres. [3]

        Raises:
            PlanError: If the object is not held afterwards.
        """
        self.travel(("rise", f"reach {name}"), self.back_off(grasp), OPEN)
        self.go(f"grasp {name}", grasp, OPEN, hold=self._rest, speed=_SLOW)
        self.go("close gripper", grasp, CLOSED, hold=self._fingers)
        raised = grasp.copy()
        rise = 0.03 if aside is not None and aside.any() else 0.05
        raised[2] += rise
        self.go(f"lift {name}", raised, CLOSED, hold=2, speed=_SLOW)
        held = self.scene.simulator.held()
        if not any(self.scene.is_loose(other) and self.scene.body(other) == body for other in held):
            raise PlanError(f"the grasp of {name} did not hold")
        if aside is not None and aside.any():
            raised[:3] += aside
            self.go(f"lift {name}", raised, CLOSED, hold=2, speed=_SLOW)

    def close_gripper(self) -> None:
        """Close the gripper where the tool is."""
        self.go("close gripper", self.tool, CLOSED, hold=self._fingers)

    def leave(self, way: np.ndarray, opens: bool) -> None:
        """Move away from a part that was moved.

        Args:
            way: Vector of the way, world frame, metres. [3]
            opens: Whether the gripper holds the part.
        """
        tool = self.tool
        if opens:
            self.go("open gripper", tool, OPEN, hold=self._fingers)
        away = tool.copy()
        away[:3] += way
        self.go("retreat", away, OPEN if opens else CLOSED, hold=1)

    def wait(self, rests: Callable[[], bool]) -> None:
        """Hold the tool still until something is at rest, but not for long.

        Args:
            rests: Whether it is at rest.
        """
        steps = self._limit_of_waiting
        while steps > 0 and not rests():
            self.go("wait", self.scene.world(self.runner.commanded), self.runner.gripper, hold=self._rest)
            steps -= self._rest

    def attachment(self, body: int) -> Attachment:
        """Return an object as it is in the grip now.

        Args:
            body: Id of its body.
        """
        return Attachment(body, poses.relative(self.tool, self.scene.pose(body)))

    def place(self, name: str, tool: Pose, departure: np.ndarray, attached: Attachment) -> None:
        """Carry a held object to where it is put, release it and move away.

        Args:
            name: What to call the object.
            tool: Tool pose at which it is released, world frame. [7]
            departure: Vector from there to where the object comes from, metres. [3]
            attached: The object.
        """
        above = tool.copy()
        above[:3] += departure
        self.travel((f"lift {name}", f"carry {name}"), above, CLOSED, attached)
        self.go(f"place {name}", tool, CLOSED, hold=self._rest, speed=_SLOW)
        self.release(departure)

    def release(self, departure: np.ndarray | None = None) -> None:
        """Open the gripper and move away.

        Args:
            departure: Direction in which the tool leaves; by default back along the fingers.
        """
        tool = self.tool
        self.go("open gripper", tool, OPEN, hold=self._fingers)
        away = self.back_off(tool)
        if departure is not None and departure[2] < 0.5 * float(np.linalg.norm(departure)):
            away = tool.copy()
            away[:3] += departure
        self.go("retreat", away, OPEN, hold=1)

    def set_down(self, body: int, name: str) -> None:
        """Lower a held object until it touches something, and release it.

        Args:
            body: Id of its body.
            name: What to call it.
        """
        attached, tool = self.attachment(body), self.tool
        self.scene.arm.begin()
        low = tool.copy()
        for _ in range(60):
            lower = low.copy()
            lower[2] -= 0.01
            if not self.scene.arm.free(lower, 0.5, attached):
                break
            low = lower
        self.go(f"set down {name}", low, CLOSED, hold=self._rest, speed=_SLOW)
        self.release()
