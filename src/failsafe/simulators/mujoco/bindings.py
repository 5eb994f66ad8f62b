"""MuJoCo's Python bindings, which ship no types."""

from __future__ import annotations

import importlib
from typing import Any

mujoco: Any = importlib.import_module("mujoco")
"""The module `mujoco`."""
# By default every warning is appended to MUJOCO_LOG.TXT in the working directory. The warnings that matter
# are counted in `MjData.warning`, where `failsafe.simulators.mujoco.state` reads them.
mujoco.set_mju_user_warning(lambda message: None)
MjModel = Any
"""A `mujoco.MjModel`: the compiled model."""
MjData = Any
"""A `mujoco.MjData`: the state of a simulation, and all that is computed from it."""
