"""Perturbations: one module per level of cause, one class per mode, none with code for one task."""

from failsafe.perturbations import actuation, belief, plan, world
from failsafe.perturbations.mode import MODES, Mode, Scene

__all__ = ["MODES", "Mode", "Scene", "actuation", "belief", "plan", "world"]
