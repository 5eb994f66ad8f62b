"""What the published LIBERO evaluations send and execute, written from their description; no code of ours.

An observation is robosuite's: pictures upside down, positions in the world frame, quaternions xyzw.
Pictures of OpenVLA's are TensorFlow's work, so they are recorded as hashes (`test_tensorflow_pictures.py`
makes them).
"""

import hashlib
import math

import numpy as np
from PIL import Image

IMAGES = ("waves", "blocks", "noise")
TENSORFLOW = {
    # upright picture of 256 pixels: after the JPEG, after Lanczos to 224 pixels, after the crop of 0.9
    "waves": ("4be0b50b78ec379b", "51d0c46e1af6ca66", "ce3ac4d001f74cdc"),
    "blocks": ("12d95a497bc50642", "2f0a9187c353343f", "9abd99814a2a8fcd"),
    "noise": ("77e54fe3939b29db", "069bc7d936db139e", "4395083a8c3a1797"),
}
"""Hashes of what TensorFlow 2.21 makes of `seen(name)`."""


def seen(name):
    """A picture as a policy sees it: upright, mirrored left-right."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    blocks = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    found = {
        "waves": np.stack(
            [(x * y // 37) % 256, (3 * x + y * y // 64) % 256, (255 - x // 2 - y // 3) % 256], -1
        ).astype(np.uint8),
        "blocks": blocks.repeat(16, 0).repeat(16, 1),
        "noise": rng.integers(0, 256, (256, 256, 3), dtype=np.uint8),
    }
    return found[name]


def digest(image):
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()[:16]


def robosuite(agentview="waves", hand="blocks", quaternion=(0.9990, -0.0436, 0.0087, 0.0), seed=0):
    """An observation of robosuite; the pictures are those that `seen` gives, before the evaluation turns
    them."""
    rng = np.random.default_rng(seed)
    quaternion = np.array(quaternion)
    return {
        "agentview_image": seen(agentview)[::-1, ::-1],
        "robot0_eye_in_hand_image": seen(hand)[::-1, ::-1],
        "robot0_eef_pos": rng.uniform(-0.3, 1.2, 3),
        "robot0_eef_quat": quaternion / np.linalg.norm(quaternion),
        "robot0_gripper_qpos": np.array([0.0391, -0.0388]),
    }


def state(found):
    """Eight numbers: position, axis times angle, both fingers."""
    x, y, z, w = found["robot0_eef_quat"].tolist()
    w = max(-1.0, min(1.0, w))
    sine = math.sqrt(1.0 - w * w)
    turn = [0.0] * 3 if sine == 0 else [v * 2.0 * math.acos(w) / sine for v in (x, y, z)]
    return np.array([*found["robot0_eef_pos"], *turn, *found["robot0_gripper_qpos"]])


def openpi_request(found, instruction):
    def small(image):
        turned = Image.fromarray(np.ascontiguousarray(image[::-1, ::-1]))
        return np.asarray(turned.resize((224, 224), Image.Resampling.BILINEAR))

    return {
        "observation/image": small(found["agentview_image"]),
        "observation/wrist_image": small(found["robot0_eye_in_hand_image"]),
        "observation/state": state(found),
        "prompt": instruction,
    }


def executed(rows, wire):
    """The actions that the evaluation hands to `env.step`, as the environment takes them: clipped to -1 to
    1."""
    actions = []
    for row in rows[: {"openpi": 5, "openvla": 1, "openvla-oft": 8}[wire]]:
        *motion, gripper = row.tolist()
        if wire != "openpi":  # 0 closes, 1 opens; LIBERO closes at +1
            gripper = -1.0 if gripper > 0.5 else 1.0 if gripper < 0.5 else 0.0
        actions.append([*(max(-1.0, min(1.0, number)) for number in motion), gripper])
    return np.array(actions)
