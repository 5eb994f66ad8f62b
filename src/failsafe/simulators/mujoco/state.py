"""The complete state of a MuJoCo simulation as a float32 vector that restores exactly.

The vector is MuJoCo's integration state: time, positions, velocities, actuators, the solver's warm start,
controls, applied forces, and the poses of mocap bodies. The state of the simulation itself is rounded to
float32 after each control step. What is recorded is therefore what the simulation goes on from, bit for bit.

The layout of a scene (`model.body_pos` and the like) is not part of the state. A suite sets it at a reset.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from failsafe.errors import DivergedError
from failsafe.simulators.mujoco.bindings import MjData, MjModel, mujoco

_PARTS = int(mujoco.mjtState.mjSTATE_INTEGRATION)
_BEFORE_WARM_START = (
    mujoco.mjtState.mjSTATE_TIME
    | mujoco.mjtState.mjSTATE_QPOS
    | mujoco.mjtState.mjSTATE_QVEL
    | mujoco.mjtState.mjSTATE_ACT
)
_ACCELERATION = 2.0**16
"""Unit of the warm start in the state. It holds accelerations, which reach 100,000 rad/s² in a hard contact;
all other numbers are of the size of positions and velocities. A power of two loses no digits."""
_DIVERGED = slice(int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADQACC) + 1)
"""Warnings after which MuJoCo has reset the simulation by itself: positions, velocities, accelerations."""


class SimulationState:
    """The state of one simulation.

    Args:
        model: The compiled model.
        data: Its data.
    """

    def __init__(self, model: MjModel, data: MjData) -> None:
        self._model, self._data = model, data
        # A view of MuJoCo's memory: it is read after each control step.
        self._diverged: np.ndarray = data.warning.number[_DIVERGED]
        self._full = np.zeros(mujoco.mj_stateSize(model, _PARTS))
        self._rounded: Float32[np.ndarray, "S"] = self._full.astype(np.float32)
        at = mujoco.mj_stateSize(model, int(_BEFORE_WARM_START))
        self._warm_start = self._full[at : at + model.nv]

    def read(self) -> Float32[np.ndarray, "S"]:
        """Return a copy of the state after the last `round` or `write`."""
        return self._rounded.copy()

    def round(self) -> None:
        """Round the state to float32, let the simulation go on from there, and compute what follows from it.

        Raises:
            DivergedError: If the physics diverged since the last call.
        """
        if any(self._diverged.tolist()):
            self._diverged[:] = 0
            raise DivergedError("the physics diverged: MuJoCo found numbers that are not finite or too large")
        mujoco.mj_getState(self._model, self._data, self._full, _PARTS)
        self._warm_start /= _ACCELERATION
        self.write(self._full.astype(np.float32))

    def write(self, state: Float32[np.ndarray, "S"]) -> None:
        """Set the state, and compute positions and contacts from it.

        Args:
            state: A state of the same model. [S]
        """
        self._rounded = state.copy()
        self._full[:] = state
        self._warm_start *= _ACCELERATION
        mujoco.mj_setState(self._model, self._data, self._full, _PARTS)
        # Positions and contacts follow from the state. The solver starts from the warm start in the state
        # and replaces it, so that what follows is a function of the state alone.
        mujoco.mj_forward(self._model, self._data)
