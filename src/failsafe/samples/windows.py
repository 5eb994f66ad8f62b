"""Cut windows out of rollouts: images of past states, tool poses and gripper openings."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8

from failsafe.datasets.cameras import move_camera
from failsafe.errors import RecordError, UserError
from failsafe.records.assessment import WindowSpec
from failsafe.records.trace import Trace
from failsafe.records.transforms import ImageTransform
from failsafe.samples.manifest import SampleConfig
from failsafe.simulators.contract import Camera, Simulator


def cut_window(
    simulator: Simulator, trace: Trace, step: int, spec: WindowSpec, cameras: Sequence[Camera]
) -> tuple[UInt8[np.ndarray, "V F S S 3"], Float32[np.ndarray, "H1 7"], Float32[np.ndarray, "H1"]]:
    """Return the images, tool poses and gripper openings of one step of a rollout and its history.

    Args:
        simulator: Simulator of the task, reset to the rollout's seed.
        trace: The rollout.
        step: Control step.
        spec: History, number and size of the images.
        cameras: One camera per view.

    Raises:
        UserError: If the rollout has no such step, or not enough steps before it.
        RecordError: If the tool poses or gripper openings are not finite.
    """
    if not spec.history <= step < len(trace.states):
        raise UserError(f"expected a step from {spec.history} (the history) to {len(trace)}, got {step}")
    frames = np.empty((len(cameras), spec.frames, spec.size, spec.size, 3), dtype=np.uint8)
    transform = ImageTransform.of(spec)
    for i, offset in enumerate(spec.offsets):
        simulator.restore(trace.states[step + offset])
        frames[:, i] = transform.all(simulator.render(cameras, transform.rendered))
    return frames, *cut_proprioception(trace, step, spec.history)


def cut_proprioception(
    trace: Trace, step: int, history: int
) -> tuple[Float32[np.ndarray, "H1 7"], Float32[np.ndarray, "H1"]]:
    """Return tool poses and gripper openings of a step and the `history` steps before it.

    Args:
        trace: The rollout.
        step: Control step, at least `history`.
        history: Control steps H before it.

    Raises:
        RecordError: If one of them is not finite.
    """
    past = slice(step - history, step + 1)
    tcp_poses, widths = trace.tcp_poses[past], trace.gripper_widths[past]
    if not (np.isfinite(tcp_poses).all() and np.isfinite(widths).all()):
        raise RecordError(
            f"expected finite tool poses and gripper openings in the {history} control steps up to step "
            f"{step}, got NaN or infinity: generate the dataset again with `failsafe generate`"
        )
    return tcp_poses, widths


def window_cameras(simulator: Simulator, config: SampleConfig, name: str) -> list[Camera]:
    """Return the cameras of one window, moved as configured by a draw that depends on the window's name.

    Args:
        simulator: Simulator of the task.
        config: Views and camera jitter.
        name: Name of the window.

    Raises:
        UnknownNameError: If the simulator has no camera of a view's name.
    """
    digest = hashlib.sha256(f"cameras {name}".encode()).digest()
    rng = np.random.default_rng(np.frombuffer(digest[:16], dtype=np.uint32))
    cameras: list[Camera] = []
    for view in config.window.views:
        metres, radians = config.jitter_metres, math.radians(config.jitter_degrees)
        if not config.shifted:
            metres, radians = metres * rng.random(), radians * rng.random()
        cameras.append(move_camera(simulator.camera(view), metres, radians, rng))
    return cameras
