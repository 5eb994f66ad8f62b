"""Meta-World's own environment of a task: how it is made, reset to a seed, and judged."""

from __future__ import annotations

import copy
import functools
import inspect
import math
import types
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from failsafe.errors import UnknownNameError
from failsafe.simulators.metaworld.tasks import INSTRUCTIONS, PREFIX
from failsafe.simulators.mujoco.bindings import MjData, MjModel, mujoco

_LAYOUT = ("body_pos", "body_quat", "site_pos", "geom_friction", "geom_priority")
"""Arrays of the model that a reset or a disturbance changes, and that are not part of the state."""
_KEPT = (np.ndarray, np.generic, float, int, bool, str, tuple, list, dict, type(None))
"""Types of the environment's attributes that an episode may change."""
_FRAME, _OBSERVED = 18, 39
"""Numbers of an observation without the goal, and of two of them with it."""
_WIDEST = 0.1
"""Distance of the fingers that the observation states as 1, metres."""


class TaskEnvironment:
    """The environment of a task, whose resets are repeatable.

    Args:
        task: Name of the task, "metaworld/pick-place-v3" for example.

    Attributes:
        env: Meta-World's environment. It is never stepped: the simulator steps MuJoCo.
        model: The compiled model.
        data: Its data.

    Raises:
        UnknownNameError: If Meta-World has no such task.
    """

    def __init__(self, task: str) -> None:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS

        self.name = task.removeprefix(PREFIX)
        if self.name not in INSTRUCTIONS or not task.startswith(PREFIX):
            raise UnknownNameError("task", task, [PREFIX + name for name in INSTRUCTIONS])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.env: Any = ALL_V3_ENVIRONMENTS[self.name]()
        self.env._partially_observable = False
        del self.env.sawyer_observation_space  # cached for a goal that cannot be observed
        self.env._freeze_rand_vec = False
        self.env.seeded_rand_vec = True
        self.env._set_task_called = True
        self.model: MjModel = self.env.model
        self.data: MjData = self.env.data
        # The task's own method looks at the contacts one by one in Python, for each term of its reward.
        pads = [int(self.model.geom(name).id) for name in ("leftpad_geom", "rightpad_geom")]
        self.env.touching_object = functools.partial(touches, self.data, pads)
        turns = plain_rotations(type(self.env)._get_quat_objects)
        self.env._get_quat_objects = types.MethodType(turns, self.env)
        self._hand, *self._claws = (int(self.model.body(n).id) for n in ("hand", "rightclaw", "leftclaw"))
        self._made = self._attributes(), self._layout()
        self._begun = self._made
        self._initial = self._full_state()

    def draw(self, seed: int) -> None:
        """Let Meta-World draw the initial state of a seed."""
        self._set(*self._made)
        self.env.seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.env.reset()
        self._begun = self._attributes(), self._layout()
        self._initial = self._full_state()

    def begin(self) -> None:
        """Return to the initial state that was drawn last."""
        self._set(*self._begun)
        for kind in range(len(self.data.warning)):
            self.data.warning[kind].number = 0
        mujoco.mj_setState(self.model, self.data, self._initial, int(mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_forward(self.model, self.data)

    def observe(self) -> np.ndarray:
        """Return the observation that Meta-World's policies expect [39], with the present frame twice.

        The second frame is the previous one in Meta-World. No policy uses it.
        """
        space, seen = self.env.sawyer_observation_space, np.zeros(_OBSERVED)
        placed, (right, left) = self.data.xpos, self._claws
        between = placed[right] - placed[left]
        seen[:3] = placed[self._hand]
        seen[3] = min(max(math.sqrt(between.dot(between)) / _WIDEST, 0.0), 1.0)
        positions, turns = self.env._get_pos_objects(), self.env._get_quat_objects()
        for i in range(len(positions) // 3):
            at = 4 + 7 * i
            seen[at : at + 3] = positions[3 * i : 3 * i + 3]
            seen[at + 3 : at + 7] = turns[4 * i : 4 * i + 4]
        seen[_FRAME : 2 * _FRAME] = seen[:_FRAME]
        seen[2 * _FRAME :] = self.env._get_pos_goal()
        return np.clip(seen, space.low, space.high)

    def evaluate(self, seen: np.ndarray | None = None) -> dict[str, float]:
        """Return Meta-World's judgement of the present state, and the values that go with it.

        Args:
            seen: What `observe` returned for this state; None: observe it. [39]
        """
        info = self._judge(self.observe() if seen is None else seen)
        terms = ("success", "obj_to_target", "near_object", "grasp_success")
        return {name: float(info[name]) for name in terms if name in info}

    def succeeds(self, seen: np.ndarray) -> bool:
        """Return whether the task is solved, as `evaluate` does, in half the time.

        The largest part of the reward is left out: no task's success depends on it.

        Args:
            seen: What `observe` returned for this state. [39]
        """
        return bool(self._judge(seen, _gripper_caging_reward=_no_reward)["success"])

    def _judge(self, seen: np.ndarray, **instead: Callable[..., float]) -> dict[str, Any]:
        """Return what Meta-World says about a state, with some of its methods replaced."""
        before = dict(self.env.__dict__)  # computing the reward sets attributes
        action = np.array([0.0, 0.0, 0.0, self.data.ctrl[0]], dtype=np.float32)
        try:
            self.env.__dict__.update(instead)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self.env.evaluate_state(seen.copy(), action)[1]
        finally:
            self.env.__dict__.clear()
            self.env.__dict__.update(before)

    def place_goal(self, position: np.ndarray) -> None:
        """Move the goal of the episode.

        Args:
            position: World frame, metres. [3]
        """
        self.env._target_pos = position.copy()
        for site in range(self.model.nsite):
            if self.model.site(site).name == "goal" and self.model.site_bodyid[site] == 0:
                self.model.site_pos[site] = position

    @property
    def goal(self) -> np.ndarray:
        """Position of the episode's goal, world frame, metres, [3]."""
        return np.asarray(self.env._target_pos, dtype=np.float64)

    def _attributes(self) -> dict[str, Any]:
        """Return copies of the environment's attributes, without those that look into the live data."""
        return {
            name: copy.deepcopy(value)
            for name, value in self.env.__dict__.items()
            if isinstance(value, _KEPT) and not (isinstance(value, np.ndarray) and _is_live(value))
        }

    def _layout(self) -> dict[str, np.ndarray]:
        return {name: getattr(self.model, name).copy() for name in _LAYOUT}

    def _set(self, attributes: dict[str, Any], layout: dict[str, np.ndarray]) -> None:
        self.env.__dict__.update(copy.deepcopy(attributes))
        for name, values in layout.items():
            getattr(self.model, name)[:] = values

    def _full_state(self) -> np.ndarray:
        parts = int(mujoco.mjtState.mjSTATE_INTEGRATION)
        state = np.empty(mujoco.mj_stateSize(self.model, parts))
        mujoco.mj_getState(self.model, self.data, state, parts)
        return state


def _is_live(array: np.ndarray) -> bool:
    """Return whether an array is a view of MuJoCo's memory, and not of a NumPy array (a drawn vector)."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array.base is not None


def _no_reward(*_: Any, **__: Any) -> float:
    return 0.0


def plain_rotations(method: Callable[..., Any]) -> Any:
    """Return a task's method that computes quaternions of matrices in plain numbers.

    SciPy's `Rotation.from_matrix` takes as long as two physics steps.

    Args:
        method: A function that may use SciPy's `Rotation`, and nothing else of it.
    """
    function: Any = inspect.unwrap(method)
    if "Rotation" not in function.__code__.co_names:
        return function
    scope = {**function.__globals__, "Rotation": _PlainRotation}
    return types.FunctionType(function.__code__, scope, closure=function.__closure__)


class _PlainRotation:
    """What Meta-World's tasks use of SciPy's `Rotation`, with the same result bit for bit."""

    def __init__(self, matrix: np.ndarray) -> None:
        self._matrix = matrix

    @classmethod
    def from_matrix(cls, matrix: np.ndarray) -> _PlainRotation:
        """Return the rotation of a matrix [3, 3]."""
        return cls(matrix)

    def as_quat(self) -> np.ndarray:
        """Return the unit quaternion xyzw [4] (Markley, 2008)."""
        rows = self._matrix.tolist()
        trace = rows[0][0] + rows[1][1] + rows[2][2]
        decision = [rows[0][0], rows[1][1], rows[2][2], trace]
        i = decision.index(max(decision))
        quaternion = np.empty(4)
        if i == 3:
            for i in range(3):
                j, k = (i + 1) % 3, (i + 2) % 3
                quaternion[i] = rows[k][j] - rows[j][k]
            quaternion[3] = 1 + trace
        else:
            j, k = (i + 1) % 3, (i + 2) % 3
            quaternion[i] = 1 - trace + 2 * rows[i][i]
            quaternion[j] = rows[j][i] + rows[i][j]
            quaternion[k] = rows[k][i] + rows[i][k]
            quaternion[3] = rows[k][j] - rows[j][k]
        x, y, z, w = quaternion.tolist()
        return quaternion / math.sqrt(x * x + y * y + z * z + w * w)


def touches(data: MjData, pads: Sequence[int], geom: int) -> bool:
    """Return whether both finger pads press on a shape: Meta-World's `touching_object`.

    Args:
        data: Data of the model, with contact forces computed.
        pads: Ids of the shapes of the two finger pads.
        geom: Id of the shape.
    """
    pairs = data.contact.geom
    on_shape = (pairs == geom).any(1)
    for pad in pads:
        pressing = np.flatnonzero(on_shape & (pairs == pad).any(1))
        if not sum(data.efc_force[data.contact.efc_address[pressing]]) > 0:
            return False
    return True
