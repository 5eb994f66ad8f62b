"""MuJoCo's Python bindings, which ship no types."""

from __future__ import annotations

import importlib
from typing import Any

mujoco: Any = importlib.import_module("mujoco")
"""The module `mujoco`."""
MjModel = Any
"""A `mujoco.MjModel`: the compiled model."""
MjData = Any
"""A `mujoco.MjData`: the state of a simulation, and all that is computed from it."""
