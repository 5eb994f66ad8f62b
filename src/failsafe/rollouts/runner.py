"""The rollout runner: moves the tool through stages and actions, and records the rollout.

An expert passes its stages to a `RolloutRunner`; the same runner carries out a recorded `StagePlan` and the
actions of a correction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from failsafe.errors import PlanError
from failsafe.records import poses
from failsafe.records.observation import PolicyObservation
from failsafe.records.plan import OPEN, Stage, StageSpan
from failsafe.records.poses import Pose
from failsafe.records.trace import Trace
from failsafe.rollouts.hooks import Command, Hook
from failsafe.rollouts.limits import clip_target
from failsafe.rollouts.loop import NO_STAGE, ControlLoop
from failsafe.rollouts.recording import TraceRecorder
from failsafe.rollouts.rest import RestDetector
from failsafe.simulators.contract import Observation, Simulator

SETTLE_SECONDS = 0.6
"""The longest time for which the last command is held before a rollout is judged."""


class RolloutRunner:
    """Moves a simulator's tool through stages and records everything.

    Args:
        simulator: In the state in which the rollout begins.
        hooks: What acts along the control loop, in order.
        max_steps: Control steps after which the rollout is over.
        watch_grip: Note at the borders of stages what is held; the nominal rollout needs it.
        first_stage: Number of the first stage to come, where a plan is resumed in its middle.
        record: Keep the rollout as a trace. Only its end counts otherwise, which saves observing every step.

    Attributes:
        simulator: The simulator.
        stages: The stages carried out so far.
        spans: Where in the rollout each of them lies.
        first_stage: Number of the first stage.
        intended: Tool pose that the stage or action asks for. [7]
        commanded: Tool pose commanded last, after hooks and limits. [7]
        gripper: Gripper command, -1 (closed) to +1 (open).
    """

    def __init__(
        self,
        simulator: Simulator,
        hooks: Sequence[Hook] = (),
        max_steps: int = 1000,
        watch_grip: bool = False,
        first_stage: int = 0,
        record: bool = True,
    ) -> None:
        self.simulator = simulator
        self.stages: list[Stage] = []
        self.spans: list[StageSpan] = []
        self.first_stage = first_stage
        self._max_steps = max_steps
        self._watch_grip = watch_grip
        self._spec = simulator.spec
        self._recorder = TraceRecorder() if record else None
        # The recorder comes last: it takes note of what every other hook left.
        self._loop = ControlLoop(simulator, (*hooks, self._recorder) if self._recorder else hooks)
        self.intended: Pose = self.observation.tcp_pose.copy()
        self.commanded: Pose = self.intended
        self.gripper = OPEN

    @property
    def step_count(self) -> int:
        """Control steps so far."""
        return self._loop.step_count

    @property
    def steps_left(self) -> int:
        """Control steps until the rollout is over."""
        return self._max_steps - self.step_count

    @property
    def ended(self) -> bool:
        """Whether a hook has ended the rollout."""
        return self._loop.ended

    @property
    def state(self) -> Float32[np.ndarray, "S"]:
        """The simulator's state now, [S]."""
        return self._loop.state

    @property
    def observation(self) -> Observation:
        """Ground truth now."""
        return self._loop.observation

    def replay(self, trace: Trace, steps: int) -> bool:
        """Begin with the first steps of a recorded rollout.

        Args:
            trace: The recorded rollout, from the same initial state.
            steps: How many of its control steps to repeat.

        Returns:
            Whether every state was the recorded one, bit for bit. The runner's trace takes over the recorded
            steps, so it is only of use if they were.

        Raises:
            PlanError: If the rollout has fewer steps left.
            DivergedError: If the physics diverges.
        """
        if self.step_count + steps > self._max_steps:
            raise PlanError(f"the rollout was not over after {self._max_steps} control steps")
        same = self._loop.replay(trace, steps)
        if self._recorder is not None:
            self._recorder.take_over(trace, steps)
        if steps:
            self.commanded = trace.targets[steps - 1].astype(np.float64)
            self.gripper = float(trace.gripper_commands[steps - 1])
        self.intended = self.commanded
        return same

    def skip(self, trace: Trace, stages: Sequence[Stage], spans: Sequence[StageSpan]) -> None:
        """Begin after the first stages of a recorded rollout, without simulating them again.

        Args:
            trace: The recorded rollout, from the same initial state, of a simulator that restores exactly.
            stages: Its first stages.
            spans: Where in the rollout each of them lies; at least one.
        """
        steps = spans[-1].stop
        self._loop.skip(trace, steps)
        if self._recorder is not None:
            self._recorder.take_over(trace, steps)
        self.stages.extend(stages)
        self.spans.extend(
            span if self._watch_grip else replace(span, held=(), held_after=()) for span in spans
        )
        self.gripper = stages[-1].gripper
        self.intended = self.commanded = stages[-1].pose

    def restart_from_measured_pose(self) -> None:
        """Let the next command start from the measured tool pose, not from the one commanded last."""
        self.intended = self.commanded = self.observation.tcp_pose.copy()

    def do(self, stage: Stage) -> None:
        """Carry out one stage: the straight path to its target at the allowed speed, then the hold.

        The path starts from the measured pose, so that a tool that was stopped by a contact does not go on
        pressing while it moves away. A stage can ask for the pose commanded last instead.

        Args:
            stage: The stage.

        Raises:
            PlanError: If the rollout has run out of steps.
            DivergedError: If the physics diverges.
        """
        metres, radians = self._spec.embodiment.step_limits
        limits = (metres * stage.speed, radians * stage.speed)
        target, measured = stage.pose, self.observation.tcp_pose
        origin = self.commanded if stage.from_commanded else measured
        # The limits on hooks count from the same pose. Otherwise a hook that changes nothing would hold back
        # a tool that was stopped.
        self.commanded = origin
        moving = poses.steps_between(origin, target, *limits)
        path = poses.interpolate(origin, target, moving)
        travel, turn = poses.distance(origin, target)
        start, gripper_before, held = self.step_count, self.gripper, self._grip()
        index = self.first_stage + len(self.stages)
        self.stages.append(stage)
        self.gripper = stage.gripper
        steps = moving + stage.hold
        for i in range(steps):
            self.intended = path[i] if i < moving else target
            self._command(index, i, steps)
        self.spans.append(
            StageSpan(
                name=stage.name,
                start=start,
                stop=self.step_count,
                travel=travel,
                turn=turn,
                gripper_before=gripper_before,
                gripper=stage.gripper,
                held=held,
                held_after=self._grip(),
            )
        )

    def act(self, delta: np.ndarray, gripper: float, stage: int = NO_STAGE) -> None:
        """Carry out one 7-DoF action, counted from the pose asked for before.

        Args:
            delta: Displacement and rotation vector, robot base frame, metres and radians. [6]
            gripper: Gripper command, -1 (closed) to +1 (open).
            stage: Number of what the expert is doing, for an expert that acts and knows its stages.

        Raises:
            PlanError: If the rollout has run out of steps.
            DivergedError: If the physics diverges.
        """
        self.intended = poses.apply_delta(self.intended, delta)
        self.gripper = gripper
        self._command(stage, 0, 1)

    def track(self, wanted: Pose, gripper: float) -> None:
        """Carry out one control step towards a tool pose that a policy asks for, within the robot's limits.

        Args:
            wanted: Tool pose, robot base frame. [7]
            gripper: Gripper command, -1 (closed) to +1 (open).

        Raises:
            PlanError: If the rollout has run out of steps.
            DivergedError: If the physics diverges.
        """
        measured = self.observation.tcp_pose
        self.intended = clip_target(wanted, self.intended, measured, self._spec.embodiment)
        self.gripper = gripper
        self._command(NO_STAGE, 0, 1, measured)

    def sense(self, observation: PolicyObservation) -> PolicyObservation:
        """Return what a policy is shown of this step. To be called once in every control step.

        Args:
            observation: What the robot's sensors show.
        """
        return self._loop.sense(observation)

    def settle(self, steps: int | None = None) -> None:
        """Hold the last command, so that what still moves comes to rest.

        Args:
            steps: Control steps; by default until everything is at rest, and `SETTLE_SECONDS` at most.

        Raises:
            PlanError: If the rollout has run out of steps.
            DivergedError: If the physics diverges.
        """
        rest = RestDetector(self._spec.embodiment.control_hz) if steps is None else None
        steps = settle_steps(self.simulator) if steps is None else steps
        for i in range(steps):
            before = self.observation
            self._command(self.first_stage + max(len(self.stages) - 1, 0), i, steps)
            if rest is not None and rest.update(before, self.observation):
                break

    def trace(self) -> Trace:
        """Return the rollout so far.

        Raises:
            ValueError: If the runner does not record.
        """
        if self._recorder is None:
            raise ValueError("expected a runner that records, got one with record=False")
        return self._recorder.trace()

    def _grip(self) -> tuple[str, ...]:
        return self.simulator.held() if self._watch_grip else ()

    def _check_steps(self) -> None:
        if self.step_count >= self._max_steps:
            raise PlanError(f"the rollout was not over after {self._max_steps} control steps")

    def _command(self, stage: int, stage_step: int, stage_steps: int, *origins: Pose) -> None:
        self._check_steps()
        command = Command(self.intended, self.gripper)
        sent = self._loop.step(command, (self.commanded, *origins), stage, (stage_step, stage_steps))
        self.commanded = sent.target


def settle_steps(simulator: Simulator) -> int:
    """Return the control steps of `SETTLE_SECONDS`."""
    return simulator.spec.embodiment.steps(SETTLE_SECONDS)
