"""Recorders: hooks that keep a rollout as a trace, or its states for a video."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from failsafe.records.trace import Disturbance, Trace
from failsafe.rollouts.hooks import Command, Hook, StepResult
from failsafe.simulators.contract import Observation, Simulator


class TraceRecorder(Hook):
    """Keeps everything that a rollout can be replayed from.

    Attributes:
        commands: Native commands so far. Each [D]
        disturbances: What happened to the world so far, with its step.
    """

    def __init__(self) -> None:
        self.commands: list[Float32[np.ndarray, "D"]] = []
        self.disturbances: list[tuple[int, Disturbance]] = []
        self._issued: list[Command] = []
        self._stages: list[int] = []
        self._states: list[np.ndarray] = []
        self._observations: list[Observation] = []
        self._command_size = 0

    def on_reset(self, simulator: Simulator) -> None:
        """Keep the first state."""
        self._command_size = simulator.spec.command_size
        self._states.append(simulator.state())
        self._observations.append(simulator.observe())

    def after_step(self, result: StepResult) -> bool:
        """Keep a step."""
        self.commands.append(result.native)
        self._issued.append(result.command)
        self._stages.append(result.stage)
        self._states.append(result.state)
        self._observations.append(result.observation)
        self.disturbances.extend((result.step, d) for d in result.disturbances)
        return False

    def take_over(self, trace: Trace, steps: int) -> None:
        """Keep the first steps of a recorded rollout that have been repeated.

        Args:
            trace: The recorded rollout.
            steps: How many of its control steps were repeated.
        """
        at = slice(1, steps + 1)
        self.commands.extend(trace.commands[:steps])
        self._issued.extend(map(Command, trace.targets[:steps], trace.gripper_commands[:steps].tolist()))
        self._stages.extend(trace.stages[:steps].tolist())
        self._states.extend(trace.states[at])
        widths = trace.gripper_widths[at].tolist()
        self._observations.extend(map(Observation, trace.tcp_poses[at], widths, trace.objects[at]))
        self.disturbances.extend((step, d) for step, d in trace.disturbances if step < steps)

    def trace(self) -> Trace:
        """Return the rollout so far."""
        steps, seen = len(self.commands), self._observations
        return Trace(
            commands=np.array(self.commands, dtype=np.float32).reshape(steps, self._command_size),
            targets=np.array([c.target for c in self._issued], dtype=np.float32).reshape(steps, 7),
            gripper_commands=np.array([c.gripper for c in self._issued], dtype=np.float32),
            stages=np.array(self._stages, dtype=np.int16),
            tcp_poses=np.array([o.tcp_pose for o in seen], dtype=np.float32),
            gripper_widths=np.array([o.gripper_width for o in seen], dtype=np.float32),
            objects=np.array([o.objects for o in seen], dtype=np.float32),
            states=np.stack(self._states),
            disturbances=tuple(self.disturbances),
        )


class StateRecorder(Hook):
    """Keeps every state: a video is rendered from these afterwards.

    Attributes:
        states: The first state, and the state after every step. Each [S]
    """

    def __init__(self) -> None:
        self.states: list[Float32[np.ndarray, "S"]] = []

    def on_reset(self, simulator: Simulator) -> None:
        """Keep the first state."""
        self.states.append(simulator.state())

    def after_step(self, result: StepResult) -> bool:
        """Keep the state after a step."""
        self.states.append(result.state)
        return False
