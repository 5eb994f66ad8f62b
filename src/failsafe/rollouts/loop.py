"""The control loop: the only place where a simulator is stepped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32

from failsafe.errors import DivergedError
from failsafe.records import poses
from failsafe.records.observation import PolicyObservation
from failsafe.records.poses import Pose
from failsafe.records.trace import Disturbance, Trace
from failsafe.rollouts.hooks import Command, GroundTruth, Hook, StepContext, StepResult
from failsafe.simulators.contract import Observation, Simulator

NO_STAGE = -1
"""Number of the stage for steps that belong to no stage: actions of a correction or of a policy."""
_FAR = 1e4
"""Metres, radians or their rates above which a state counts as diverged."""


def repeat(simulator: Simulator, trace: Trace, start: int, stop: int) -> Iterator[int]:
    """Apply the commands and disturbances of a recorded rollout, one control step at a time.

    Args:
        simulator: In the state of the rollout before step `start`.
        trace: The recorded rollout.
        start: First control step to repeat.
        stop: One past the last one.

    Yields:
        Each control step, after it was repeated.

    Raises:
        DivergedError: If the physics diverges.
    """
    disturbed = bool(trace.disturbances)
    for step in range(start, stop):
        simulator.step(trace.commands[step], trace.disturbances_at(step) if disturbed else ())
        yield step


class ControlLoop(GroundTruth):
    """One rollout, control step by control step.

    Args:
        simulator: In the state in which the rollout begins.
        hooks: What acts along the loop, in order.

    Attributes:
        simulator: The simulator.
        step_count: Control steps so far.
        ended: Whether a hook has ended the rollout.
    """

    def __init__(self, simulator: Simulator, hooks: Sequence[Hook] = ()) -> None:
        self.simulator = simulator
        self.step_count = 0
        self._state: Float32[np.ndarray, "S"] = simulator.state()
        self._observation: Observation | None = simulator.observe()
        self.ended = False
        self._deviates = False
        """Whether the last command was another than the one asked for."""
        self._limits = simulator.spec.embodiment.step_limits
        # Only what a hook overrides is called: most rollouts have a recorder and nothing else.
        self._sensing = [hook for hook in hooks if _overrides(hook, "sense")]
        acting = [hook for hook in hooks if _overrides(hook, "before_step")]
        self._bounded = [hook for hook in acting if not hook.exceeds_limits]
        self._unbounded = [hook for hook in acting if hook.exceeds_limits]
        self._disturbing = [hook for hook in hooks if _overrides(hook, "disturb")]
        self._recording = [hook for hook in hooks if _overrides(hook, "after_step")]
        for hook in hooks:
            hook.on_reset(simulator)

    @property
    def state(self) -> Float32[np.ndarray, "S"]:
        """State of the simulator now, [S]."""
        return self._state

    @property
    def observation(self) -> Observation:
        """Ground truth now, observed when first asked for: observing takes a tenth of a control step."""
        if self._observation is None:
            self._observation = self.simulator.observe()
        return self._observation

    def replay(self, trace: Trace, steps: int) -> bool:
        """Repeat the first steps of a recorded rollout, without hooks.

        Args:
            trace: The recorded rollout, from the same initial state.
            steps: How many of its control steps to repeat.

        Returns:
            Whether every state was the recorded one, bit for bit.

        Raises:
            DivergedError: If the physics diverges.
        """
        repeated = repeat(self.simulator, trace, 0, steps)
        states = [self._state, *(self.simulator.state() for _ in repeated)]
        self.step_count += steps
        self._state, self._observation = states[-1], None
        return np.stack(states).tobytes() == trace.states[: steps + 1].tobytes()

    def skip(self, trace: Trace, steps: int) -> None:
        """Put back the state of a recorded rollout, where `replay` would repeat its first steps.

        Args:
            trace: The recorded rollout, from the same initial state.
            steps: How many of its control steps to skip.
        """
        self.simulator.restore(trace.states[steps])
        self.step_count += steps
        self._state, self._observation = self.simulator.state(), None

    def sense(self, observation: PolicyObservation) -> PolicyObservation:
        """Return what a policy or monitor is shown of this step. To be called once in every control step."""
        for hook in self._sensing:
            observation = hook.sense(observation)
        return observation

    def step(
        self, command: Command, origins: Sequence[Pose], stage: int = NO_STAGE, at: tuple[int, int] = (0, 1)
    ) -> Command:
        """Carry out one control step.

        Args:
            command: The command to the robot, within its limits.
            origins: Poses from which the robot's step limits count: what a hook asks for is kept if it is
                within a step of one of them, and otherwise limited from the first.
            stage: Index of the stage.
            at: Control step within the stage, and control steps that the stage takes.

        Returns:
            The command after the hooks and the limits, before the arm's own inaccuracy.

        Raises:
            DivergedError: If the physics diverges.
        """
        disturbances: list[Disturbance] = []
        sent = command
        if self._bounded or self._unbounded or self._disturbing:
            context = StepContext(self.step_count, stage, *at, self)
            asked = command
            for hook in self._bounded:
                command = hook.before_step(context, command)
            # While the last command differs from the one asked for, an unchanged command is limited, too.
            if command.target is not asked.target or self._deviates:
                command = Command(self._limit(command.target, origins), command.gripper)
                self._deviates = command.target is not asked.target
            sent = command
            for hook in self._unbounded:
                sent = hook.before_step(context, sent)
            for hook in self._disturbing:
                disturbances.extend(hook.disturb(context))
        native = self.simulator.command(sent.target, sent.gripper)
        self._advance(native, sent, stage, disturbances)
        return command

    def _advance(
        self,
        native: Float32[np.ndarray, "D"],
        command: Command,
        stage: int,
        disturbances: Sequence[Disturbance],
    ) -> None:
        self.simulator.step(native, disturbances)
        self._state, self._observation = self.simulator.state(), None
        numbers = self._state.astype(np.float64)
        # The norm is an upper bound, and takes a third of the time. Both comparisons are false for NaN.
        if (
            not float(numbers.dot(numbers)) < _FAR**2
            and not float(np.abs(self._state).max(initial=0.0)) < _FAR
        ):
            raise DivergedError("the physics diverged: a number of the state is not finite or above 10,000")
        step, self.step_count = self.step_count, self.step_count + 1
        if self._recording:
            result = StepResult(step, stage, native, command, disturbances, self._state, self.observation)
            for hook in self._recording:
                self.ended = hook.after_step(result) or self.ended

    def _limit(self, target: Pose, origins: Sequence[Pose]) -> Pose:
        for origin in origins:
            if poses.limit_step(origin, target, *self._limits) is target:
                return target
        return poses.limit_step(origins[0], target, *self._limits)


def _overrides(hook: Hook, name: str) -> bool:
    return getattr(type(hook), name) is not getattr(Hook, name)
