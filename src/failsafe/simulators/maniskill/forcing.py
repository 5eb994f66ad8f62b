"""Disturbances in SAPIEN: forced velocities, and friction in the grip, for one control step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from sapien import physx

from failsafe.errors import UnknownNameError
from failsafe.records import poses
from failsafe.records.poses import Pose
from failsafe.records.trace import Disturbance
from failsafe.simulators.maniskill.arm import Arm
from failsafe.simulators.maniskill.scene import SceneBody


class Forcing:
    """Applies disturbances to the bodies of a scene.

    Call `begin` before a control step, `before_substep` before each of its physics substeps, and `end` after
    it.

    Args:
        bodies: The objects of the task.
        arm: The robot, whose tool may carry a body along.
        base: Robot base in the world, whose frame disturbances are stated in. [7]
    """

    def __init__(self, bodies: Sequence[SceneBody], arm: Arm, base: Pose) -> None:
        self._by_name = {b.spec.name: b for b in bodies}
        self._arm, self._base = arm, base
        self._materials: dict[str, list[tuple[Any, Any]]] = {}
        self._forced: list[tuple[SceneBody, Float[np.ndarray, "6"], bool]] = []

    def body(self, name: str) -> SceneBody:
        """Return the body of an object.

        Raises:
            UnknownNameError: If there is none of that name.
        """
        if name not in self._by_name:
            raise UnknownNameError("object", name, self._by_name)
        return self._by_name[name]

    def begin(self, disturbances: Sequence[Disturbance]) -> None:
        """Set frictions, and switch off the gravity of bodies with an imposed velocity.

        Gravity would add to the velocity, and friction with the table would slow the body down.

        Raises:
            UnknownNameError: If a disturbance names no object of the task.
        """
        self.restore_friction()
        self.end()  # the last step may have failed halfway
        for disturbance in disturbances:
            body = self.body(disturbance.object)
            if disturbance.velocity is not None:
                linear, angular = np.split(np.array(disturbance.velocity), 2)
                turned = [poses.rotate(self._base[3:], linear), poses.rotate(self._base[3:], angular)]
                self._forced.append((body, np.concatenate(turned), disturbance.with_tool))
                body.component.disable_gravity = True
            if disturbance.friction is not None:
                material = physx.PhysxMaterial(disturbance.friction, disturbance.friction, 0.0)
                shapes = [*body.component.collision_shapes, *self._arm.finger_shapes]
                # PhysX averages the coefficients of two bodies, so both are set.
                self._materials[disturbance.object] = [(s, s.physical_material) for s in shapes]
                for shape in shapes:
                    shape.physical_material = material

    def before_substep(self) -> None:
        """Impose the velocities of the origins, converted to those of the centers of mass."""
        for body, velocity, with_tool in self._forced:
            pose = body.entity.pose
            centre = (pose * body.component.cmass_local_pose).p
            linear, angular = velocity[:3] + np.cross(velocity[3:], centre - pose.p), velocity[3:]
            if with_tool:
                carried_linear, carried_angular = self._arm.velocity_at(centre)
                linear, angular = linear + carried_linear, angular + carried_angular
            body.component.linear_velocity = linear
            body.component.angular_velocity = angular

    def end(self) -> None:
        """Switch the gravity of these bodies on again."""
        for body, *_ in self._forced:
            body.component.disable_gravity = False
        self._forced = []

    def restore_friction(self) -> None:
        """Restore the material of every shape."""
        for shapes in reversed(self._materials.values()):
            for shape, material in shapes:
                shape.physical_material = material
        self._materials = {}
