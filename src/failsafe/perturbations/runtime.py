"""Run-time perturbations: any mode that needs no plan, applied to any policy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from failsafe.errors import UserError
from failsafe.perturbations.injection import Injection
from failsafe.perturbations.mode import MODES, Mode, Scene
from failsafe.records.perturbation import Perturbation
from failsafe.simulators.contract import Simulator

_STREAM = 13
"""Number of the random stream of run-time perturbations."""


@dataclass(frozen=True)
class RuntimePerturbation:
    """A mode that is applied to every episode of a policy.

    Attributes:
        mode: Name of the mode.
        magnitude: Its magnitude in the unit of the mode; None to draw it as in generation.
    """

    mode: str
    magnitude: float | None = None

    def __post_init__(self) -> None:
        """Check the name and the magnitude.

        Raises:
            UnknownNameError: If there is no such mode.
            UserError: If the mode needs a plan, or has no such magnitude.
        """
        mode = MODES[self.mode]
        if mode.runtime_trigger is None:
            raise UserError(
                f"expected a mode that needs no plan, got '{self.mode}' of level {mode.level.value}: choose "
                f"from {', '.join(runtime_modes())}"
            )
        least, most = mode.bounds
        if self.magnitude is not None and not least <= abs(self.magnitude) <= most:
            raise UserError(
                f"expected a magnitude of {self.mode} from {least:g} to {most:g} {mode.unit}, "
                f"got {self.magnitude:g}"
            )

    @property
    def name(self) -> str:
        """The perturbation as `parse_runtime` reads it: "slip", or "slip:0.02"."""
        return self.mode if self.magnitude is None else f"{self.mode}:{self.magnitude:g}"

    @property
    def description(self) -> str:
        """The perturbation in a few words, for tables."""
        mode, size = MODES[self.mode], self.magnitude
        strength = "as in generation" if size is None else f"{size:g} {mode.unit}"
        trigger = mode.runtime_trigger
        assert trigger is not None
        return f"{self.mode.replace('_', ' ')}, {strength}, after '{trigger.event}'"

    def draw(self, seed: int, index: int = 0) -> Perturbation:
        """Draw when, how strong and in which direction it acts in one episode.

        Args:
            seed: Seed of the episode.
            index: Number of the perturbation among several of the episode.
        """
        mode = MODES[self.mode]
        trigger = mode.runtime_trigger
        assert trigger is not None
        rng = np.random.default_rng([seed, _STREAM, index] if index else [seed, _STREAM])
        # One draw for each kind of event, so that a change of one trigger leaves the other draws alone.
        shares = {event: float(rng.random()) for event in ("start", "raised")}
        direction, pick = float(rng.uniform(-math.pi, math.pi)), float(rng.random())
        size = mode.magnitude.quantile(float(rng.random()))
        if mode.signed and rng.random() < 0.5:
            size = -size
        low, high = trigger.delay
        return Perturbation(
            mode=self.mode,
            stage=-1,
            stage_name="",
            moment=0.0,
            magnitude=size if self.magnitude is None else self.magnitude,
            unit=mode.unit,
            direction=direction if mode.directed else 0.0,
            event=trigger.event,
            delay=low + (high - low) * shares.get(trigger.event, shares["start"]),
            duration=mode.runtime_seconds,
            pick=pick,
        )


def runtime_modes() -> list[str]:
    """Return the names of the modes that need no plan."""
    return [name for name, mode in MODES.items() if mode.runtime_trigger is not None]


def parse_runtime(text: str) -> RuntimePerturbation:
    """Read "MODE" or "MODE:MAGNITUDE".

    Args:
        text: For example "slip", or "early_release:0.7".

    Raises:
        UnknownNameError: If there is no such mode.
        UserError: If the mode needs a plan, or the magnitude is not a number within its bounds.
    """
    mode, magnitude = split_magnitude(text.strip())
    if magnitude is not None and not math.isfinite(magnitude):
        raise UserError(f"expected a finite magnitude in '{text}'")
    return RuntimePerturbation(mode, magnitude)


def split_magnitude(text: str) -> tuple[str, float | None]:
    """Split "MODE:MAGNITUDE" into its parts; the magnitude is None where the last part is not a number.

    Args:
        text: For example "slip:0.02"; MODE may itself be "MODULE:CLASS".
    """
    mode, colon, number = text.rpartition(":")
    try:
        return (mode, float(number)) if colon else (text, None)
    except ValueError:
        return text, None


def make_injection(perturbation: Perturbation, simulator: Simulator) -> Injection:
    """Make the hook of a drawn run-time perturbation.

    Args:
        perturbation: What was drawn.
        simulator: In the state in which the episode begins.
    """
    mode: Mode = MODES[perturbation.mode](perturbation, Scene.without_plan(simulator))
    return Injection(mode)
