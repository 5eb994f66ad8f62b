"""The controller of LIBERO's arm, compiled: robosuite's OSC_POSE with fixed impedance.

Source of the formulas: O. Khatib, "A unified approach for motion and force control of robot manipulators: the
operational space formulation", IEEE Journal on Robotics and Automation 3(1), 1987. Gains, scales and the
posture torques are those of robosuite 1.4's configuration, so that the torques equal those of `env.step`.
`tests/simulators/libero` compares the motion.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from jaxtyping import Float

from failsafe.simulators.mujoco.bindings import MjData, MjModel

MAX_TRANSLATION, MAX_ROTATION = 0.05, 0.5
"""Displacement that an action of 1 asks for, metres and radians, per axis, from the measured pose."""
_STIFFNESS, _POSTURE_STIFFNESS = 150.0, 10.0
_GRIPPER_SPEED = 0.01
"""Share of half the fingers' travel by which their targets move in a physics step."""
_JOINTS = 7

F = TypeVar("F", bound=Callable[..., Any])


def _compiled(function: F) -> F:
    # Under test, functions are wrapped in a check of their types, which cannot be compiled.
    plain = inspect.unwrap(function)
    try:
        return cast(F, numba.njit(cache=True, error_model="numpy")(plain))
    except RuntimeError:  # no folder can be written to keep the compiled code
        return cast(F, numba.njit(error_model="numpy")(plain))


class OscController:
    """Turns an action into the torques of each physics step.

    Args:
        model: The compiled model.
        data: Its data.
        site: Name of the site that the controller moves.
        joints: Names of the arm's joints, from the base on.
        fingers: Ids of the actuators of the two fingers.
        posture: Joint positions that the arm tends to where the task leaves it free, radians. [7]
        home: Position and orientation of the site in that posture. [3], [3, 3]

    Attributes:
        orientation: Orientation of the site to reach. It outlives the action: an action without a rotation
            leaves it as it is. [3, 3]
        grip: Target of the fingers, -1 (open) to +1 (closed), which moves a little in each physics step.
    """

    def __init__(
        self,
        model: MjModel,
        data: MjData,
        site: str,
        joints: list[str],
        fingers: list[int],
        posture: Float[np.ndarray, "7"],
        home: tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3 3"]],
    ) -> None:
        ids = [int(model.joint(name).id) for name in joints]
        dofs = [int(model.jnt_dofadr[i]) for i in ids]
        chain = [int(model.dof_parentid[dof]) for dof in dofs]
        assert chain == [-1, *dofs[:-1]]
        assert dofs == list(range(dofs[0], dofs[0] + _JOINTS))
        at, arm = int(model.jnt_qposadr[ids[0]]), slice(dofs[0], dofs[0] + _JOINTS)
        place = int(model.site(site).id)
        self._site_position, self._site_axes = data.site_xpos[place], data.site_xmat[place].reshape(3, 3)
        # Views of MuJoCo's memory, which stay valid as long as the data.
        self._views = (
            self._site_position,
            self._site_axes,
            data.xanchor[ids[0] : ids[0] + _JOINTS],
            data.xaxis[ids[0] : ids[0] + _JOINTS],
            data.qM,
            model.dof_Madr[arm].astype(np.int64),
            data.qpos[at : at + _JOINTS],
            data.qvel[arm],
            data.qfrc_bias[arm],
        )
        actuators = [int(a) for a in range(model.nu) if model.actuator_trnid[a, 0] in ids]
        assert actuators == list(range(actuators[0], actuators[0] + _JOINTS))
        self._bias = data.qfrc_bias[arm]
        self._limits = model.actuator_ctrlrange[actuators].copy()
        self._torques = data.ctrl[actuators[0] : actuators[0] + _JOINTS]
        self._ctrl, self._fingers = data.ctrl, fingers
        spans = model.actuator_ctrlrange[fingers]
        self._finger_middle, self._finger_reach = spans.mean(axis=1), np.diff(spans, axis=1)[:, 0] / 2
        self._posture = np.ascontiguousarray(posture, dtype=np.float64)
        self._goal = np.zeros(3)
        self._home = home
        self.orientation = np.eye(3)
        self.begin()

    def begin(self) -> None:
        """Begin an episode.

        robosuite's controller is made before the initial state is set, and looks at the robot again only
        after its first physics step: the first action counts from the home pose, and the first torques carry
        the weight of the arm and nothing else.
        """
        self.orientation[:] = self._home[1]
        self.grip = 0.0
        self._is_first = True

    def round(self) -> None:
        """Round what the controller keeps to float32, as the state is."""
        self.orientation[:] = self.orientation.astype(np.float32)
        self.grip = float(np.float32(self.grip))

    def set_goal(self, action: Float[np.ndarray, "6"]) -> None:
        """Begin an action. Positions must be those of the present state.

        Args:
            action: Translation and rotation vector in world axes, -1 to 1.
        """
        move, turn = np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0).reshape(2, 3)
        self._goal[:] = (self._home[0] if self._is_first else self._site_position) + move * MAX_TRANSLATION
        if turn.any():
            self.orientation[:] = _rotation(turn * MAX_ROTATION) @ self._site_axes

    def before_substep(self, grip: float) -> None:
        """Set the controls of one physics step. Positions and velocities must be computed.

        Args:
            grip: Gripper action: its sign closes (+) or opens (-).
        """
        _torques(*self._views, self._goal, self.orientation, self._posture, self._limits, self._torques)
        if self._is_first:
            self._torques[:] = np.clip(self._bias, *self._limits.T)
            self._is_first = False
        self.grip = min(max(self.grip + _GRIPPER_SPEED * float(np.sign(grip)), -1.0), 1.0)
        first, second = self._fingers
        self._ctrl[first] = self._finger_middle[0] - self._finger_reach[0] * self.grip
        self._ctrl[second] = self._finger_middle[1] + self._finger_reach[1] * self.grip


@_compiled
def _rotation(vector: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """Return the matrix of a rotation vector that is not zero."""
    angle = np.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2)
    x, y, z = vector[0] / angle, vector[1] / angle, vector[2] / angle
    s, c = np.sin(angle), np.cos(angle)
    t = 1.0 - c
    return np.array(
        [
            [t * x * x + c, t * x * y - s * z, t * x * z + s * y],
            [t * x * y + s * z, t * y * y + c, t * y * z - s * x],
            [t * x * z - s * y, t * y * z + s * x, t * z * z + c],
        ]
    )


@_compiled
def _solve(matrix: Float[np.ndarray, "n n"], right: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "n m"]:
    """Solve a symmetric positive definite system, by the LDL decomposition.

    A direction in which the matrix is singular gets no weight, as with a pseudoinverse.
    """
    n, m = right.shape
    low, diagonal, found = np.zeros((n, n)), np.zeros(n), right.copy()
    largest = 0.0
    for i in range(n):
        largest = max(largest, matrix[i, i])
    for j in range(n):
        pivot = matrix[j, j]
        for k in range(j):
            pivot -= low[j, k] ** 2 * diagonal[k]
        diagonal[j] = pivot
        low[j, j] = 1.0
        for i in range(j + 1, n):
            value = matrix[i, j]
            for k in range(j):
                value -= low[i, k] * low[j, k] * diagonal[k]
            low[i, j] = value / pivot if pivot > 1e-14 * largest else 0.0
    for column in range(m):
        for i in range(n):
            for k in range(i):
                found[i, column] -= low[i, k] * found[k, column]
        for i in range(n):
            usable = diagonal[i] > 1e-14 * largest
            found[i, column] = found[i, column] / diagonal[i] if usable else 0.0
        for i in range(n - 1, -1, -1):
            for k in range(i + 1, n):
                found[i, column] -= low[k, i] * found[k, column]
    return found


@_compiled
def _product(a: Float[np.ndarray, "n k"], b: Float[np.ndarray, "k m"]) -> Float[np.ndarray, "n m"]:
    """Return the product of two small matrices; numba's own needs a linear algebra library."""
    n, size, m = a.shape[0], a.shape[1], b.shape[1]
    out = np.zeros((n, m))
    for i in range(n):
        for k in range(size):
            for j in range(m):
                out[i, j] += a[i, k] * b[k, j]
    return out


@_compiled
def _torques(
    position: Float[np.ndarray, "3"],
    axes: Float[np.ndarray, "3 3"],
    anchors: Float[np.ndarray, "7 3"],
    joint_axes: Float[np.ndarray, "7 3"],
    inertia: Float[np.ndarray, "m"],
    inertia_at: Float[np.ndarray, "7"],
    joints: Float[np.ndarray, "7"],
    rates: Float[np.ndarray, "7"],
    bias: Float[np.ndarray, "7"],
    goal: Float[np.ndarray, "3"],
    orientation: Float[np.ndarray, "3 3"],
    posture: Float[np.ndarray, "7"],
    limits: Float[np.ndarray, "7 2"],
    out: Float[np.ndarray, "7"],
) -> None:
    """Compute the torques of the arm's joints."""
    n = joints.shape[0]
    jacobian = np.zeros((6, n))
    for j in range(n):
        a, r = joint_axes[j], position - anchors[j]
        jacobian[0, j] = a[1] * r[2] - a[2] * r[1]
        jacobian[1, j] = a[2] * r[0] - a[0] * r[2]
        jacobian[2, j] = a[0] * r[1] - a[1] * r[0]
        jacobian[3:, j] = a
    mass = np.zeros((n, n))
    for i in range(n):  # MuJoCo stores a row of the inertia from the diagonal down the chain of parents
        for j in range(i + 1):
            mass[i, j] = mass[j, i] = inertia[inertia_at[i] + i - j]
    velocity = np.zeros(6)
    for i in range(6):
        for j in range(n):
            velocity[i] += jacobian[i, j] * rates[j]
    damping = 2.0 * np.sqrt(_STIFFNESS)
    force = np.zeros((6, 1))
    for i in range(3):
        force[i, 0] = _STIFFNESS * (goal[i] - position[i]) - damping * velocity[i]
    error = np.zeros(3)
    for k in range(3):
        c, d = axes[:, k], orientation[:, k]
        error[0] += 0.5 * (c[1] * d[2] - c[2] * d[1])
        error[1] += 0.5 * (c[2] * d[0] - c[0] * d[2])
        error[2] += 0.5 * (c[0] * d[1] - c[1] * d[0])
    for i in range(3):
        force[3 + i, 0] = _STIFFNESS * error[i] - damping * velocity[3 + i]
    transposed = jacobian.T.copy()
    mobility = _product(jacobian, _solve(mass, transposed))
    wrench = np.zeros((6, 1))
    wrench[:3] = _solve(mobility[:3, :3].copy(), force[:3])
    wrench[3:] = _solve(mobility[3:, 3:].copy(), force[3:])
    # What is left of the posture torques after those that would move the tool.
    rest = np.zeros((n, 1))
    for j in range(n):
        rest[j, 0] = _POSTURE_STIFFNESS * (posture[j] - joints[j])
        rest[j, 0] -= 2.0 * np.sqrt(_POSTURE_STIFFNESS) * rates[j]
    wrench -= _solve(mobility, _product(jacobian, rest))
    torques = _product(transposed, wrench) + _product(mass, rest)
    for j in range(n):
        out[j] = min(max(torques[j, 0] + bias[j], limits[j, 0]), limits[j, 1])
