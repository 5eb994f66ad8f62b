"""Disturbances of MuJoCo objects: imposed velocities, and the friction of the grip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from failsafe.errors import UnknownNameError
from failsafe.records.trace import Disturbance
from failsafe.simulators.contract import JointType
from failsafe.simulators.mujoco.bindings import MjData, MjModel, mujoco
from failsafe.simulators.mujoco.scene import SceneObject

_LEAST_ARM = 0.01
"""Distance of the center of mass from the axis of a hinge from which on it turns the part, metres."""
_LEAST_PYRAMIDAL_FRICTION = 0.003
"""Least friction where the model has pyramidal cones: below, MuJoCo's solver diverges with them."""
_LARGEST_CORRECTION = np.array([0.2] * 3 + [20.0] * 3)
"""Largest correction of an imposed velocity for what contacts change in a substep, m/s and rad/s."""


@dataclass
class _Forced:
    """An object with an imposed velocity.

    Attributes:
        object: The object.
        velocity: Linear and angular, world axes. [6]
        with_tool: Whether the velocity is relative to the tool.
        correction: What is added for the contacts with the fingers. [6]
    """

    object: SceneObject
    velocity: Float[np.ndarray, "6"]
    with_tool: bool
    wanted: Float[np.ndarray, "6"] = field(default_factory=lambda: np.zeros(6))
    correction: Float[np.ndarray, "6"] = field(default_factory=lambda: np.zeros(6))


class Forcing:
    """Applies disturbances during one control step.

    An object that moves freely takes the velocity as it is. An articulated part takes what its joints allow
    of it: a drawer moves along its slide, a door turns about its hinge.

    Args:
        model: The compiled model.
        data: Its data.
        objects: The objects.
        tool: Id of the body that moves with the tool.
    """

    def __init__(self, model: MjModel, data: MjData, objects: Sequence[SceneObject], tool: int) -> None:
        self._model, self._data, self._tool = model, data, tool
        self._by_name = {o.spec.name: o for o in objects}
        self._forced: list[_Forced] = []
        self._friction: list[tuple[int, np.ndarray, int]] = []
        self._jacobian = np.zeros((2, 3, model.nv))
        pyramidal = int(model.opt.cone) == int(mujoco.mjtCone.mjCONE_PYRAMIDAL)
        self._least_friction = _LEAST_PYRAMIDAL_FRICTION if pyramidal else 0.0

    @property
    def acts(self) -> bool:
        """Whether velocities have to be imposed before every substep."""
        return bool(self._forced)

    def begin(self, disturbances: Sequence[Disturbance]) -> None:
        """Set frictions, and carry the weight of objects with an imposed velocity.

        Raises:
            UnknownNameError: If a disturbance names an unknown object.
        """
        for disturbance in disturbances:
            if disturbance.object not in self._by_name:
                raise UnknownNameError("object", disturbance.object, self._by_name)
        for disturbance in disturbances:
            found = self._by_name[disturbance.object]
            if disturbance.velocity is not None and found.joint_ids:
                self._forced.append(_Forced(found, np.array(disturbance.velocity), disturbance.with_tool))
                for part in found.parts if found.is_free else ():
                    weight = self._model.body_mass[part] * self._model.opt.gravity
                    self._data.xfrc_applied[part, :3] = -weight
            if disturbance.friction is not None:
                for geom in found.geoms:
                    before = self._model.geom_friction[geom].copy()
                    self._friction.append((geom, before, int(self._model.geom_priority[geom])))
                    self._model.geom_friction[geom, 0] = max(disturbance.friction, self._least_friction)
                    # The shape with the higher priority determines the friction of a contact. With equal
                    # priorities it would be the larger coefficient, that of the finger.
                    self._model.geom_priority[geom] = 1

    def before_substep(self) -> None:
        """Impose the velocities. Positions must be those of the present state."""
        for forced in self._forced:
            found, velocity = forced.object, forced.velocity
            if forced.with_tool:
                velocity = velocity + self._tool_velocity(found.position(self._data))
            forced.wanted = velocity
            if found.is_free:
                self._set_velocity(found, velocity + forced.correction)
            else:
                self._set_joint_rates(found, velocity)

    def after_substep(self) -> None:
        """Correct what the fingers do to an object that moves in the grip."""
        for forced in self._forced:
            if forced.with_tool and forced.object.is_free:
                forced.correction += forced.wanted - self._velocity(forced.object)
                forced.correction = np.clip(forced.correction, -_LARGEST_CORRECTION, _LARGEST_CORRECTION)

    def end(self) -> None:
        """Undo what `begin` did. The velocities remain."""
        for forced in self._forced:
            self._data.xfrc_applied[list(forced.object.parts)] = 0.0
            if not forced.object.is_free:
                self._data.qfrc_applied[self._dofs(forced.object)] = 0.0
        for geom, friction, priority in reversed(self._friction):
            self._model.geom_friction[geom] = friction
            self._model.geom_priority[geom] = priority
        self._forced, self._friction = [], []

    def _set_velocity(self, found: SceneObject, velocity: np.ndarray) -> None:
        at = int(self._model.jnt_dofadr[found.joint_ids[0]])
        self._data.qvel[at : at + 3] = velocity[:3]
        # MuJoCo has the angular velocity of a free body in its own axes.
        self._data.qvel[at + 3 : at + 6] = self._data.xmat[found.body].reshape(3, 3).T @ velocity[3:]

    def _velocity(self, found: SceneObject) -> Float[np.ndarray, "6"]:
        at = int(self._model.jnt_dofadr[found.joint_ids[0]])
        linear, angular = self._data.qvel[at : at + 3], self._data.qvel[at + 3 : at + 6]
        return np.concatenate([linear, self._data.xmat[found.body].reshape(3, 3) @ angular])

    def _dofs(self, found: SceneObject) -> list[int]:
        return [int(self._model.jnt_dofadr[j]) for j in found.joint_ids]

    def _set_joint_rates(self, found: SceneObject, velocity: np.ndarray) -> None:
        """Set the rates of an object's joints that come nearest to a velocity of its reference point.

        Springs, damping, friction and weight of the joints are held off meanwhile.
        """
        model, data, dofs = self._model, self._data, self._dofs(found)
        linear, angular = self._jacobian
        mujoco.mj_jac(model, data, linear, angular, self._reference(found), found.body)
        # A pure rotation is stated by the angular part, everything else by the linear part.
        rows, wanted = (linear, velocity[:3]) if velocity[:3].any() else (angular, velocity[3:])
        rates = np.linalg.lstsq(rows[:, dofs], wanted, rcond=None)[0]
        data.qvel[dofs] = rates
        at = [int(model.jnt_qposadr[j]) for j in found.joint_ids]
        spring = model.jnt_stiffness[list(found.joint_ids)] * (data.qpos[at] - model.qpos_spring[at])
        friction = model.dof_damping[dofs] * rates + model.dof_frictionloss[dofs] * np.sign(rates)
        data.qfrc_applied[dofs] = spring + friction + data.qfrc_bias[dofs]

    def _reference(self, found: SceneObject) -> np.ndarray:
        """Return the point that a velocity is stated for: the center of mass, or the rim of a knob."""
        center = found.position(self._data)
        joint = found.joint_ids[0]
        arm = center - self._data.xanchor[joint]
        axis = self._data.xaxis[joint]
        if float(np.linalg.norm(np.cross(axis, arm))) >= _LEAST_ARM or found.spec.joint is None:
            return center
        if found.spec.joint.type is not JointType.REVOLUTE:
            return center
        longest = int(np.argmax(found.spec.half_extents))
        rim = self._data.xmat[found.body].reshape(3, 3)[:, longest] * found.spec.half_extents[longest]
        return center + rim

    def _tool_velocity(self, point: np.ndarray) -> Float[np.ndarray, "6"]:
        """Return the velocity of a point that moves with the tool: linear, then angular, world axes."""
        found = np.empty(6)
        body = int(mujoco.mjtObj.mjOBJ_XBODY)
        mujoco.mj_objectVelocity(self._model, self._data, body, self._tool, found, 0)
        angular, linear = found[:3], found[3:]
        arm = point - self._data.xpos[self._tool]
        return np.concatenate([linear + np.cross(angular, arm), angular])
