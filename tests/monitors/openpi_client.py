"""Requests as LIBERO's client sends them, and models that see no failure, see one, or fail."""

import threading

import numpy as np
from tests.policies.websocket_server import pack

from failsafe.records import poses
from failsafe.records.assessment import Assessment, WindowSpec

SPEC = WindowSpec(views=("front", "side"), history=4, frames=2, size=16)
INSTRUCTION = "pick up the red cube"
ACTIONS = np.arange(70, dtype=np.float32).reshape(10, 7) / 100
AT = (0.5, 0.1, 0.3)
STEP = (0.02, 0.0, 0.0, 0.0, 0.0, 0.1, 1.0)
"""A correction's action: 20 mm along x, 0.1 rad about z, the gripper open."""
DOWN = (0.0, 1.0, 0.0, 0.0)


def request(position=AT, turn=0.0, width=0.06, prompt=INSTRUCTION, shade=0, **changes):
    """Return a request whose tool points down, rotated about z (rad)."""
    turned = poses.quaternion_multiply(poses.from_rotation_vector([0.0, 0.0, turn]), np.array(DOWN))
    state = [*position, *poses.to_rotation_vector(turned), width / 2, -width / 2]
    said = {
        "observation/image": np.full((24, 24, 3), shade, dtype=np.uint8),
        "observation/wrist_image": np.full((24, 24, 3), 99, dtype=np.uint8),
        "observation/state": np.array(state),
        "prompt": prompt,
        **changes,
    }
    return pack({key: value for key, value in said.items() if value is not None})


def answer(actions=ACTIONS, **others):
    return pack({"actions": actions, "server_timing": {"infer_ms": 1.5}, **others})


class Model:
    """Calls a function, then returns one assessment; keeps the windows."""

    name = "made up"
    window_spec = SPEC

    def __init__(self, assessment=None, first=lambda: None):
        self.assessment, self._first, self.windows = assessment or Assessment(), first, []

    def assess(self, window):
        self.windows.append(window)
        self._first()
        return self.assessment


def calm():
    return Model(Assessment(failure_probability=0.1))


def alarmed(steps=8, **changes):
    return Model(Assessment(**{"failure_probability": 0.9, "actions": (STEP,) * steps, **changes}))


def raising():
    def fail():
        raise RuntimeError("out of memory")

    return Model(first=fail)


def hanging(over: threading.Event):
    return Model(first=lambda: over.wait(10))


def not_a_number():
    return Model(Assessment(failure_probability=float("nan"), actions=(STEP,)))
