"""Presets for LIBERO: what the LIBERO evaluations of openpi, OpenVLA and OpenVLA-OFT send and execute.

All three render 256 x 256 pixels and turn robosuite's pictures, which are upside down, by half a turn. So a
policy sees the scene upright and mirrored left-right. They execute LIBERO's own actions: numbers from -1 to
1, and a gripper that opens at -1 and closes at +1. The ten steps without motion with which they begin
belong to the reset of LIBERO's tasks. The instruction is the sentence in the name of the task's file.

Sources: `examples/libero/main.py` of openpi, `experiments/robot/libero/run_libero_eval.py` of OpenVLA and of
OpenVLA-OFT.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Float, UInt8

from failsafe.errors import PolicyError
from failsafe.policies import jpeg, resampling
from failsafe.policies.libero_sentences import evaluation_sentence, stated_instruction
from failsafe.policies.served import LIBERO, Preset, fit
from failsafe.records.embodiment import LIBERO_PANDA
from failsafe.records.observation import PolicyObservation

RENDERED, SENT = 256, 224
"""Height and width of rendered images and of those in a request, pixels."""
READINGS = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
"""The readings of robosuite that
make the state: position (world frame, metres) [3], orientation (xyzw) [4], and the positions of the two
fingers (metres, the second one negative) [2]."""
_SPACE = replace(LIBERO, limit=1.0)


def state(observation: PolicyObservation) -> Float[np.ndarray, "8"]:
    """Return the state of LIBERO's evaluations: position, rotation vector and finger positions.

    Args:
        observation: An observation of a LIBERO task.

    Raises:
        PolicyError: If the observation has not these readings, or a number is not finite.
    """
    missing = [name for name in READINGS if name not in observation.readings]
    if missing:
        raise PolicyError(
            f"expected the readings {', '.join(READINGS)} of a LIBERO task, got none of "
            f"{', '.join(missing)}: the preset libero is for LIBERO's tasks"
        )
    position, quaternion, fingers = (observation.readings[name] for name in READINGS)
    found = np.concatenate([position, rotation_vector(quaternion), fingers])
    if not np.isfinite(found).all():
        raise PolicyError("expected a finite state, got NaN or infinity")
    return found


def rotation_vector(quaternion: Float[np.ndarray, "4"]) -> Float[np.ndarray, "3"]:
    """Return the rotation vector of a quaternion xyzw, as robosuite does: of an angle up to two pi.

    A hand that points down has turned by about pi. The sign of robosuite's quaternion changes with the joints
    only, so the vector passes pi without a jump, which the shortest one would have there.
    """
    w = min(max(float(quaternion[3]), -1.0), 1.0)
    length = math.sqrt(1.0 - w * w)
    return quaternion[:3] * 2.0 * math.acos(w) / length if length else np.zeros(3)


def mirror(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Return an upright image as `[::-1, ::-1]` makes it from robosuite's upside-down one."""
    return np.ascontiguousarray(image[:, ::-1])


def openpi_picture(image: UInt8[np.ndarray, "256 256 3"]) -> UInt8[np.ndarray, "224 224 3"]:
    """Return what openpi's evaluation sends of a rendered image."""
    return fit(mirror(image), SENT)


def oft_picture(image: UInt8[np.ndarray, "256 256 3"]) -> UInt8[np.ndarray, "224 224 3"]:
    """Return what OpenVLA-OFT's evaluation gives to its model, which crops the image itself."""
    return resampling.lanczos(jpeg.round_trip(mirror(image)), SENT)


def openvla_picture(image: UInt8[np.ndarray, "256 256 3"]) -> UInt8[np.ndarray, "224 224 3"]:
    """Return what OpenVLA's evaluation gives to its processor: its server does not crop the image."""
    return resampling.center_crop(oft_picture(image))


def openpi_actions(rows: Float[np.ndarray, "H 7"]) -> Float[np.ndarray, "H 7"]:
    """Return the rows as they are: openpi's answers are LIBERO's actions."""
    return rows


def openvla_actions(rows: Float[np.ndarray, "H 7"]) -> Float[np.ndarray, "H 7"]:
    """Make the gripper's number, 0 (closed) to 1 (open), LIBERO's: +1 or -1."""
    return np.column_stack([rows[:, :6], -np.sign(2.0 * rows[:, 6] - 1.0)])


OPENPI = Preset(
    RENDERED,
    openpi_picture,
    _SPACE,
    openpi_actions,
    state,
    READINGS,
    evaluation_sentence,
    mirror,
    stated_instruction,
    LIBERO_PANDA,
)
OPENVLA = Preset(
    RENDERED, openvla_picture, replace(_SPACE, chunk=1), openvla_actions, sentence=evaluation_sentence
)
OPENVLA_OFT = Preset(
    RENDERED, oft_picture, replace(_SPACE, chunk=8), openvla_actions, state, READINGS, evaluation_sentence
)
