"""The physics of the toy: a gripper, boxes and a table. A control step consists of five substeps.

`World.numbers()` is the complete state. It is rounded to float32 after every control step, so that a restored
state continues bit for bit.
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
"""Duration of a substep, seconds."""
SUBSTEPS = 5
"""Substeps of a control step, at 20 Hz."""
STAND = 0.01
"""Largest overlap at which a box comes to stand on another box, metres."""


@no_type_check  # as `RigidBody`
class World:
    """A table at height zero, boxes and a gripper.

    Args:
        boxes: The boxes.
    """

    def __init__(self, boxes: Sequence[RigidBody]) -> None:
        self.gripper = Gripper()
        self.bodies = tuple(boxes)

    @property
    def size(self) -> int:
        """Size of the state of gripper and boxes."""
        return gripper.STATE_SIZE + bodies.STATE_SIZE * len(self.bodies)

    def load(self, numbers: list[float]) -> None:
        """Set the state from the result of `numbers`."""
        self.gripper.load(numbers[: gripper.STATE_SIZE])
        for i, body in enumerate(self.bodies):
            at = gripper.STATE_SIZE + i * bodies.STATE_SIZE
            body.load(numbers[at : at + bodies.STATE_SIZE])

    def numbers(self) -> list[float]:
        """Return the state as numbers."""
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
            command: Target tool pose (m, wxyz) and opening (m). [8]
            forced: Imposed velocities of boxes (m/s, rad/s), by name. [6]
            friction: Friction coefficients between boxes and pads other than the default, by name.
            with_tool: Names of the boxes whose imposed velocity is relative to the tool.
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
        """Return the height (m) and horizontal velocity (m/s) of the surface below a box."""
        floor, vx, vy = 0.0, 0.0, 0.0
        for other in self.bodies:
            if other is body:
                continue
            top = other.z + other.height
            if floor < top <= body.z - body.height + STAND and covers(other.rectangle, body.x, body.y):
                floor, vx, vy = top, other.vx, other.vy
        return floor, vx, vy
