"""Which objects a two-finger gripper holds: the contact forces of both fingers oppose each other."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from failsafe.simulators.mujoco.bindings import MjData, MjModel, mujoco
from failsafe.simulators.mujoco.scene import SceneObject

_LEAST_FORCE = 0.5
"""Force of each finger on a held object, newtons."""


class GraspDetector:
    """Finds the objects in the grip.

    Args:
        model: The compiled model.
        data: Its data.
        fingers: Ids of the shapes of each of the two fingers.
        objects: The objects that can be held.
    """

    def __init__(
        self,
        model: MjModel,
        data: MjData,
        fingers: tuple[Collection[int], Collection[int]],
        objects: Sequence[SceneObject],
    ) -> None:
        self._model, self._data = model, data
        self._finger_of = {geom: i for i, geoms in enumerate(fingers) for geom in geoms}
        self._object_of = {geom: o.spec.name for o in objects for geom in o.geoms}
        self._names = tuple(o.spec.name for o in objects)

    def held(self) -> tuple[str, ...]:
        """Return the names of the objects that both fingers press on from opposite sides."""
        forces: dict[str, np.ndarray] = {}
        wrench = np.empty(6)
        for index, contact in enumerate(self._data.contact[: self._data.ncon]):
            first, second = int(contact.geom1), int(contact.geom2)
            sign = 1.0  # MuJoCo's force acts on the second shape
            if second in self._finger_of:
                first, second, sign = second, first, -1.0
            if first not in self._finger_of or second not in self._object_of:
                continue
            mujoco.mj_contactForce(self._model, self._data, index, wrench)
            name = self._object_of[second]
            rows = forces.setdefault(name, np.zeros((2, 3)))
            rows[self._finger_of[first]] += sign * (contact.frame.reshape(3, 3).T @ wrench[:3])
        return tuple(
            name
            for name in self._names
            if name in forces
            and float(np.linalg.norm(forces[name], axis=1).min()) >= _LEAST_FORCE
            and float(forces[name][0] @ forces[name][1]) < 0
        )
