"""The Gymnasium environment: any task of any simulator, with perturbations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Float32, UInt8

from failsafe.errors import DivergedError, UnknownNameError, UserError
from failsafe.experts.tasks import Task, load_task
from failsafe.perturbations.injection import Injection
from failsafe.perturbations.runtime import RuntimePerturbation, make_injection, parse_runtime
from failsafe.records import poses
from failsafe.records.poses import Pose
from failsafe.rollouts.limits import PoseController
from failsafe.rollouts.loop import ControlLoop
from failsafe.rollouts.stopping import StopOnSuccess
from failsafe.simulators.contract import Camera

MAX_STEPS = 400
"""Control steps after which an episode is truncated (20 s at 20 Hz)."""
_POSE_BOUND = np.array([100.0] * 3 + [1.0] * 4, dtype=np.float32)
"""Bounds of poses in the observation space: metres, and components of a unit quaternion."""
_WIDEST = 1.0
"""Upper bound of the gripper's opening in the observation space, metres."""
_SEEDS = 2**31
"""An episode that is reset without a seed draws one below this number."""


class FailSafeEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """A manipulation task with perturbations, as a Gymnasium environment.

    An observation is a dictionary:

    | key | value |
    |---|---|
    | `tcp_pose` | tool pose, robot base frame: xyz in metres and quaternion wxyz. float32 [7] |
    | `gripper_width` | opening of the gripper, metres. float32 [1] |
    | `objects` | pose of each object by name, robot base frame. float32 [7] each |
    | `images` | image of each camera by name, if there are cameras. uint8 [H, W, 3] each |

    An action is `[dx, dy, dz, rx, ry, rz, gripper]`: metres and a rotation vector in radians, robot base
    frame, added to the tool pose that was commanded last, within the step limits of the robot; the gripper
    from -1 (closed) to +1 (open).

    The reward is 1 in the step in which the episode ends with success, else 0. The episode terminates once
    the task's own success has lasted for 0.6 s; it is truncated at the step limit, or if the physics
    diverges. `info` has `success`, `perturbations` (by name, the control step at which each first acted, None
    before) and `diverged`; `reset` adds `seed` and `instruction`.

    Everything in an episode follows from its seed.

    Args:
        task: The task.
        perturbations: What goes wrong in every episode; the seed of the episode determines when and how much.
        cameras: Names of the cameras in the observation.
        image_size: Height and width of images, pixels.
        max_steps: Control steps after which an episode is truncated.
        render_mode: "rgb_array", or None.
        render_camera: Camera of `render`. Default: the first one of the simulator.

    Raises:
        UserError: If a number or the render mode is not allowed, or nothing can be rendered.
        UnknownNameError: If there is no such camera.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 (Gymnasium's)

    def __init__(
        self,
        task: Task,
        perturbations: Sequence[RuntimePerturbation] = (),
        *,
        cameras: Sequence[str] = (),
        image_size: int = 128,
        max_steps: int = MAX_STEPS,
        render_mode: str | None = None,
        render_camera: str | None = None,
    ) -> None:
        if image_size < 1 or max_steps < 1:
            raise UserError(
                f"expected an image size and a step limit of at least 1, got {image_size} and {max_steps}"
            )
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise UserError(f"expected the render mode 'rgb_array' or None, got '{render_mode}'")
        self.task = task
        self.perturbations = tuple(perturbations)
        self.render_mode = render_mode
        spec = task.simulator.spec
        body = self._body = spec.embodiment
        self.metadata = {**self.metadata, "render_fps": round(body.control_hz)}
        if (render_mode or cameras) and not spec.cameras:
            raise UserError(f"{spec.task} has no cameras: use render_mode=None and no cameras")
        self._cameras = {name: self._camera(name) for name in cameras}
        self._render_camera = self._camera(render_camera or spec.cameras[0]) if render_mode else None
        self._size, self._max_steps = image_size, max_steps
        self._loop: ControlLoop | None = None
        reach = [body.max_translation] * 3 + [body.max_rotation] * 3 + [1.0]
        high = np.array(reach, dtype=np.float32)
        self._largest_action = high
        self.action_space = spaces.Box(-high, high, dtype=np.float32)
        self.observation_space = self._observation_space()

    @property
    def instruction(self) -> str:
        """The task in words; it may differ by episode."""
        return self.task.simulator.episode.instruction

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Determines the initial state and the perturbations. Default: drawn from the environment's
                own generator, which an earlier seed determines.
            options: `{"objects": {name: pose}}` places objects: poses [7] in the robot base frame.

        Returns:
            The first observation, and info.

        Raises:
            UnknownNameError: If `options` has an unknown key or object.
        """
        super().reset(seed=seed)
        for key in options or {}:
            if key != "objects":
                raise UnknownNameError("option", key, ("objects",))
        episode = int(self.np_random.integers(_SEEDS)) if seed is None else seed
        simulator = self.task.simulator
        simulator.reset(episode, (options or {}).get("objects"))
        drawn = [p.draw(episode, i) for i, p in enumerate(self.perturbations)]
        self._injections: list[Injection] = [make_injection(d, simulator) for d in drawn]
        self._stop = StopOnSuccess()
        self._loop = ControlLoop(simulator, (*self._injections, self._stop))
        self._controller = PoseController(self._loop)
        self._diverged = False
        return self._observation(), self._info() | {"seed": episode, "instruction": self.instruction}

    def step(
        self, action: Float32[np.ndarray, "7"]
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Carry out one control step.

        Args:
            action: Within `action_space`; clipped to it. [7]

        Returns:
            Observation, reward, terminated, truncated, info.

        Raises:
            UserError: If the action has another shape or is not finite, or `reset` was never called.
        """
        loop = self._running()
        row = np.asarray(action, dtype=np.float64)
        if row.shape != self.action_space.shape or not np.isfinite(row).all():
            raise UserError(f"expected an action of 7 finite numbers, got {action!r}")
        row = np.clip(row, -self._largest_action, self._largest_action)
        wanted = poses.apply_delta(self._controller.target, row[:6])
        try:
            self._controller.move(wanted, float(row[6]))
        except DivergedError:
            self._diverged = True
        terminated = self._stop.succeeded
        truncated = not terminated and (self._diverged or loop.step_count >= self._max_steps)
        return self._observation(), float(terminated), terminated, truncated, self._info()

    def render(self) -> UInt8[np.ndarray, "H W 3"] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return an image of the present moment, None without a render mode.

        Raises:
            UserError: If `reset` was never called.
            MissingRendererError: If this machine cannot render.
        """
        if self._render_camera is None:
            return None
        simulator = self._running().simulator
        return simulator.render([self._render_camera], self._size)[0]

    def close(self) -> None:
        """Close the simulator."""
        self.task.simulator.close()

    def _running(self) -> ControlLoop:
        if self._loop is None:
            raise UserError("expected reset() before the first step or image")
        return self._loop

    def _camera(self, name: str) -> Camera:
        return self.task.simulator.camera(name)

    def _observation_space(self) -> spaces.Space[dict[str, Any]]:
        pose = spaces.Box(-_POSE_BOUND, _POSE_BOUND, dtype=np.float32)
        found: dict[str, spaces.Space[Any]] = {
            "tcp_pose": pose,
            "gripper_width": spaces.Box(0.0, _WIDEST, (1,), dtype=np.float32),
            "objects": spaces.Dict({o.name: pose for o in self.task.simulator.episode.objects}),
        }
        if self._cameras:
            image = spaces.Box(0, 255, (self._size, self._size, 3), dtype=np.uint8)
            found["images"] = spaces.Dict({name: image for name in self._cameras})
        return spaces.Dict(found)

    def _observation(self) -> dict[str, Any]:
        loop = self._running()
        seen, objects = loop.observation, loop.simulator.episode.objects
        found: dict[str, Any] = {
            "tcp_pose": _bounded(seen.tcp_pose),
            "gripper_width": np.array([seen.gripper_width], dtype=np.float32).clip(0.0, _WIDEST),
            "objects": {o.name: _bounded(seen.objects[i]) for i, o in enumerate(objects)},
        }
        if self._cameras:
            images = loop.simulator.render(list(self._cameras.values()), self._size)
            found["images"] = dict(zip(self._cameras, images.copy(), strict=True))
        return found

    def _info(self) -> dict[str, Any]:
        steps = {p.name: i.step for p, i in zip(self.perturbations, self._injections, strict=True)}
        return {"success": self._stop.succeeded, "perturbations": steps, "diverged": self._diverged}


def make_env(
    task: str | Task,
    perturbations: Sequence[str | RuntimePerturbation] = (),
    **options: Any,
) -> FailSafeEnv:
    """Make a Gymnasium environment of a task, with perturbations.

    Args:
        task: Name of a task, MODULE:FUNCTION that returns a `Task`, or a `Task`.
        perturbations: Modes that need no plan, such as "slip", or "early_release:0.7" with a magnitude in the
            unit of the mode.
        **options: Keyword arguments of `FailSafeEnv`.

    Raises:
        UserError: If a name is unknown, or a mode needs a plan.
    """
    loaded = task if isinstance(task, Task) else load_task(task)
    return FailSafeEnv(loaded, as_perturbations(perturbations), **options)


def as_perturbations(given: Sequence[str | RuntimePerturbation]) -> tuple[RuntimePerturbation, ...]:
    """Return run-time perturbations, each read from text unless it is one.

    Args:
        given: Each as for `make_env`.

    Raises:
        UserError: If a name is unknown, a mode needs a plan, or one is given twice.
    """
    found = tuple(parse_runtime(p) if isinstance(p, str) else p for p in given)
    names = [p.name for p in found]
    if len(set(names)) < len(names):
        raise UserError(f"expected each perturbation once, got {', '.join(names)}")
    return found


def _bounded(pose: Pose) -> Float32[np.ndarray, "7"]:
    """Return a pose within the observation space: rounding may take a unit quaternion's component past 1."""
    return np.asarray(pose, dtype=np.float32).clip(-_POSE_BOUND, _POSE_BOUND)
