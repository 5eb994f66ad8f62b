"""The world: a gripper, boxes, a table; one control step is a handful of substeps.

Everything that the future depends on is in `World.numbers()`. Between control steps it is rounded to float32,
so that a state that was stored and put back goes on bit for bit.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import no_type_check

from failsafe.simulators.toy import body as bodies
from failsafe.simulators.toy import contact, gripper
from failsafe.simulators.toy.body import RigidBody
from failsafe.simulators.toy.geometry import covers
from failsafe.simulators.toy.gripper import Gripper

SUBSTEP = 0.01
"""Seconds."""
SUBSTEPS = 5
"""Substeps of a control step: 20 Hz."""
STAND = 0.01
"""How far below another box's top a box's bottom may be and still come to stand on it, metres."""


@no_type_check  # as `RigidBody`
class World:
    """A table at height zero with boxes on it, and the gripper above."""

    def __init__(self, boxes: Sequence[RigidBody]) -> None:
        self.gripper = Gripper()
        self.bodies = tuple(boxes)

    @property
    def size(self) -> int:
        """How many numbers the state has."""
        return gripper.STATE_SIZE + bodies.STATE_SIZE * len(self.bodies)

    def load(self, numbers: list[float]) -> None:
        """Take the state that `numbers` gave."""
        self.gripper.load(numbers[: gripper.STATE_SIZE])
        for i, body in enumerate(self.bodies):
            at = gripper.STATE_SIZE + i * bodies.STATE_SIZE
            body.load(numbers[at : at + bodies.STATE_SIZE])

    def numbers(self) -> list[float]:
        """The state as plain numbers."""
        numbers = self.gripper.numbers()
        for body in self.bodies:
            numbers += body.numbers()
        return numbers

    def step(
        self,
        command: list[float],
        forced: Mapping[str, Sequence[float]],
        friction: Mapping[str, float],
        with_tool: Container[str] = (),
    ) -> None:
        """Advance one control step.

        Args:
            command: Tool pose (m, wxyz) and opening (m) to go to. [8]
            forced: Velocities (m/s, rad/s) that boxes are made to move with, by name. [6]
            friction: Friction coefficients between boxes and pads that differ from the usual, by name.
            with_tool: Names of the boxes that are carried along with the tool besides.
        """
        for body in self.bodies:
            if body.name in forced:
                body.held, body.slip = body.held and body.name in with_tool, 0.0
        for _ in range(SUBSTEPS):
            self._substep(command, forced, friction, with_tool)

    def _substep(
        self,
        command: list[float],
        forced: Mapping[str, Sequence[float]],
        friction: Mapping[str, float],
        with_tool: Container[str],
    ) -> None:
        hand, dt = self.gripper, SUBSTEP
        floors = [self._floor(body) for body in self.bodies]
        old = (hand.x, hand.y, hand.z)
        hand.track(command, dt, any(body.held for body in self.bodies))
        for body in self.bodies:
            if not body.held and body.name not in forced:
                contact.meet(hand, body, dt)
            elif body.held:
                contact.block_with_palm(hand, body, dt)
        for body, (floor, floor_vx, floor_vy) in zip(self.bodies, floors, strict=True):
            if body.name in forced:
                if body.name in with_tool:
                    contact.carry(hand, body, old, dt)
                body.vx, body.vy, body.vz, body.wx, body.wy, body.wz = forced[body.name]
                body.coast(dt)
                body.z = max(body.z, floor + body.height)
                body.held = body.held and contact.keeps_hold(hand, body)
            elif body.held:
                self._hold(body, old, floor, friction.get(body.name, contact.FRICTION))
            else:
                body.fall(dt, floor, floor_vx, floor_vy)
        for i, first in enumerate(self.bodies):
            for second in self.bodies[i + 1 :]:
                fixed = (first.held or first.name in forced, second.held or second.name in forced)
                contact.separate(first, second, fixed)

    def _hold(self, body: RigidBody, old: tuple[float, float, float], floor: float, friction: float) -> None:
        contact.carry(self.gripper, body, old, SUBSTEP)
        contact.slip(self.gripper, body, friction, SUBSTEP)
        if body.z - body.height < floor:
            body.z, body.slip = floor + body.height, 0.0
        if not contact.keeps_hold(self.gripper, body):
            body.vz -= body.slip
            body.held, body.slip = False, 0.0

    def _floor(self, body: RigidBody) -> tuple[float, float, float]:
        """What a box would stand on: height (m) and how it moves sideways (m/s)."""
        floor, vx, vy = 0.0, 0.0, 0.0
        for other in self.bodies:
            if other is body:
                continue
            top = other.z + other.height
            if floor < top <= body.z - body.height + STAND and covers(other.rectangle, body.x, body.y):
                floor, vx, vy = top, other.vx, other.vy
        return floor, vx, vy
