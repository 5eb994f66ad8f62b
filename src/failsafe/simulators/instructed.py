"""A simulator with another instruction than its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from failsafe.records.poses import Pose
from failsafe.records.trace import Disturbance
from failsafe.simulators.contract import (
    Camera,
    ComparesOwnStep,
    EpisodeSpec,
    Evaluation,
    Observation,
    Simulator,
    SimulatorSpec,
    StepComparison,
)


class InstructedSimulator(Simulator):
    """A simulator whose episodes have a given instruction.

    Attributes that are not part of the contract are those of the simulator within: an expert of the same
    package may use them.

    Args:
        simulator: The simulator within.
        instruction: The instruction of every episode.
    """

    def __init__(self, simulator: Simulator, instruction: str) -> None:
        self._within, self._instruction = simulator, instruction

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # unpickling asks before `_within` is there
            raise AttributeError(name)
        return getattr(self._within, name)

    @property
    def within(self) -> Simulator:
        """The simulator within."""
        return self._within

    @property
    def spec(self) -> SimulatorSpec:
        """The description of the simulator."""
        return self._within.spec

    @property
    def episode(self) -> EpisodeSpec:
        """The current episode, with the given instruction."""
        return dataclasses.replace(self._within.episode, instruction=self._instruction)

    def reset(self, seed: int, objects: Mapping[str, Pose] | None = None) -> EpisodeSpec:
        """Begin an episode. See `Simulator.reset`."""
        self._within.reset(seed, objects)
        return self.episode

    def observe(self) -> Observation:
        """Return the ground truth of the current state."""
        return self._within.observe()

    def held(self) -> tuple[str, ...]:
        """Return the names of the held objects."""
        return self._within.held()

    def state(self) -> Float32[np.ndarray, "S"]:
        """Return the state. See `Simulator.state`."""
        return self._within.state()

    def restore(self, state: Float32[np.ndarray, "S"]) -> None:
        """Set the state. See `Simulator.restore`."""
        self._within.restore(state)

    def command(self, target: Pose, gripper: float) -> Float32[np.ndarray, "D"]:
        """Return the native command for a tool pose. See `Simulator.command`."""
        return self._within.command(target, gripper)

    def step(self, command: Float32[np.ndarray, "D"], disturbances: Sequence[Disturbance] = ()) -> None:
        """Advance one control step. See `Simulator.step`."""
        self._within.step(command, disturbances)

    def evaluate(self) -> Evaluation:
        """Apply the task's success criterion to the current state."""
        return self._within.evaluate()

    def render(
        self, cameras: Sequence[str | Camera], size: int, state: Float32[np.ndarray, "S"] | None = None
    ) -> UInt8[np.ndarray, "V H W 3"]:
        """Render images. See `Simulator.render`."""
        return self._within.render(cameras, size, state)

    def camera(self, name: str) -> Camera:
        """Return a camera of the spec."""
        return self._within.camera(name)

    def compare_with_own_step(self, seed: int, commands: Float32[np.ndarray, "T D"]) -> StepComparison | None:
        """Compare one rollout with the simulator's own step. See `ComparesOwnStep`."""
        within = self._within
        return within.compare_with_own_step(seed, commands) if isinstance(within, ComparesOwnStep) else None

    def close(self) -> None:
        """Release all resources."""
        self._within.close()
