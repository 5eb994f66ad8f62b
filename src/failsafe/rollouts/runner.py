"""The controller: leads the tool through stages, step by step, and records the rollout.

Experts tell a `RolloutRunner` where to go, and a `StagePlan` is carried out by one. Whatever acts along the
robot's loop (a perturbation, actuation noise) is an `Hook`: it sees every command on its way to the robot and
may disturb the world, and the driver knows nothing else of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from failsafe.errors import DivergedError, PlanError
from failsafe.records import poses
from failsafe.records.plan import OPEN, Stage, StageSpan
from failsafe.records.poses import Pose
from failsafe.records.trace import Disturbance, Trace
from failsafe.simulators.contract import Observation, Simulator

SETTLE_STEPS = 12
"""Control steps (0.6 s at 20 Hz) for which the last command is held before a rollout is judged."""

FAR = 1e4
"""Metres, radians or their rates beyond which a state is taken for diverged."""
OUTSIDE_STAGES = -1
"""Number of the stage in a trace for steps that belong to no stage: the actions of a correction."""


@dataclass
class Command:
    """What the robot is told in one control step: a tool pose (base frame) and a gripper, -1 to +1."""

    target: Pose
    gripper: float


@dataclass(frozen=True)
class StepContext:
    """Where a rollout stands when a command is issued.

    Attributes:
        step: Control step of the rollout.
        stage: Index of the stage.
        stage_step: Control step within the stage.
        stage_steps: Control steps that the stage takes.
        observation: Ground truth before the step.
    """

    step: int
    stage: int
    stage_step: int
    stage_steps: int
    observation: Observation


class Hook:
    """Something that acts along the robot's loop. The default does nothing."""

    def before_step(self, moment: StepContext, command: Command) -> Command:
        """What reaches the robot instead of `command`."""
        return command

    def disturb(self, moment: StepContext) -> Sequence[Disturbance]:
        """What happens to the world during this step."""
        return ()


class RolloutRunner:
    """Leads a simulator's tool through stages and records everything.

    Args:
        simulator: In the state in which the rollout begins.
        hooks: What acts along the loop, in order.
        max_steps: Steps after which the rollout is over, however far it got.
        watch_grip: Measure at the borders of stages what is held (the nominal twin needs it).
        first_stage: Number of the first stage to come, where a plan is taken up in its middle.
    """

    def __init__(
        self,
        simulator: Simulator,
        hooks: Sequence[Hook] = (),
        max_steps: int = 1000,
        watch_grip: bool = False,
        first_stage: int = 0,
    ) -> None:
        self.simulator = simulator
        self.stages: list[Stage] = []
        self.spans: list[StageSpan] = []
        self._hooks = tuple(hooks)
        self._max_steps = max_steps
        self._watch_grip = watch_grip
        self.first_stage = first_stage
        self._spec = simulator.spec
        self._commands: list[np.ndarray] = []
        self._targets: list[Pose] = []
        self._grippers: list[float] = []
        self._stage_of_step: list[int] = []
        self._states = [simulator.state()]
        self._observations = [simulator.observe()]
        self._disturbances: list[tuple[int, Disturbance]] = []
        self.intended: Pose = self._observations[0].tcp_pose.copy()
        self.commanded: Pose = self.intended
        self.gripper = OPEN

    @property
    def step_count(self) -> int:
        """Control steps so far."""
        return len(self._commands)

    @property
    def observation(self) -> Observation:
        """Ground truth now."""
        return self._observations[-1]

    def replay(self, trace: Trace, steps: int) -> bool:
        """Begin with the first steps of a recorded rollout.

        Returns:
            Whether every state was the recorded one, bit for bit.
        """
        for step in range(steps):
            disturbances = trace.disturbances_at(step) if trace.disturbances else ()
            self._advance(
                trace.commands[step],
                trace.targets[step].astype(np.float64),
                float(trace.gripper_commands[step]),
                int(trace.stages[step]),
                disturbances,
                recorded=trace,
            )
        if steps:
            self._observations[-1] = self.simulator.observe()  # the rollout goes on from here: not rounded
        self.commanded = self._targets[-1] if steps else self.commanded
        self.gripper = self._grippers[-1] if steps else self.gripper
        self.intended = self.commanded
        return np.stack(self._states).tobytes() == trace.states[: steps + 1].tobytes()

    def restart_from_measured_pose(self) -> None:
        """Let the next command start from where the tool is, not from where it was told to be."""
        self.intended = self.commanded = self.observation.tcp_pose.copy()

    def do(self, stage: Stage) -> None:
        """Carry out one stage: the straight path to its target at the allowed speed, then the hold.

        The path starts from where the tool is, not from where it was told to be, so that a tool that was
        stopped by a contact does not go on pressing while it is led away.

        Raises:
            PlanError: If the target cannot be reached, or the rollout has run out of steps.
        """
        limits = (self._spec.max_translation * stage.speed, self._spec.max_rotation * stage.speed)
        target = stage.pose
        measured = self.observation.tcp_pose
        # The limits that an interceptor is bound by count from there, too: else one that does nothing would
        # hold back a tool that was stopped.
        self.commanded = measured
        moving = poses.steps_between(measured, target, *limits)
        path = poses.interpolate(measured, target, moving)
        travel, turn = poses.distance(measured, target)
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

    def act(self, delta: np.ndarray, gripper: float) -> None:
        """One 7-DoF action: move on from the pose asked for before by a delta (base frame; m, rad).

        What an interceptor made of the last action does not enter: a late command loses no part of the way.
        """
        self.intended = poses.apply_delta(self.intended, delta)
        self.gripper = gripper
        self._command(OUTSIDE_STAGES, 0, 1)

    def settle(self, steps: int = SETTLE_STEPS) -> None:
        """Hold the last command, so that what is still moving comes to rest."""
        for i in range(steps):
            self._command(self.first_stage + max(len(self.stages) - 1, 0), i, steps)

    def trace(self) -> Trace:
        """The rollout so far."""
        steps = self.step_count
        return Trace(
            commands=np.array(self._commands, dtype=np.float32).reshape(steps, self._spec.command_size),
            targets=np.array(self._targets, dtype=np.float32).reshape(steps, 7),
            gripper_commands=np.array(self._grippers, dtype=np.float32),
            stages=np.array(self._stage_of_step, dtype=np.int16),
            tcp_poses=np.array([o.tcp_pose for o in self._observations], dtype=np.float32),
            gripper_widths=np.array([o.gripper_width for o in self._observations], dtype=np.float32),
            objects=np.array([o.objects for o in self._observations], dtype=np.float32),
            states=np.stack(self._states),
            disturbances=tuple(self._disturbances),
        )

    def _grip(self) -> tuple[str, ...]:
        return self.simulator.held() if self._watch_grip else ()

    def _command(self, stage: int, stage_step: int, stage_steps: int) -> None:
        command = Command(self.intended, self.gripper)
        disturbances: list[Disturbance] = []
        if self._hooks:
            moment = StepContext(self.step_count, stage, stage_step, stage_steps, self.observation)
            for hook in self._hooks:
                command = hook.before_step(moment, command)
                disturbances.extend(hook.disturb(moment))
            # What an interceptor asks for is bound by the robot's limits like everything else.
            command.target = poses.limit_step(
                self.commanded, command.target, self._spec.max_translation, self._spec.max_rotation
            )
        native = self.simulator.command(command.target, command.gripper)
        self._advance(native, command.target, command.gripper, stage, disturbances)
        self.commanded = command.target

    def _advance(
        self,
        native: np.ndarray,
        target: Pose,
        gripper: float,
        stage: int,
        disturbances: Sequence[Disturbance],
        recorded: Trace | None = None,
    ) -> None:
        step = self.step_count
        if step >= self._max_steps:
            raise PlanError(f"the rollout was not over after {self._max_steps} control steps")
        self.simulator.step(native, disturbances)
        state = self.simulator.state()
        if not float(np.abs(state).max(initial=0.0)) < FAR:  # also true for NaN
            raise DivergedError("the physics diverged: part of the state is no number within reason")
        self._commands.append(native)
        self._targets.append(target)
        self._grippers.append(gripper)
        self._stage_of_step.append(stage)
        self._disturbances.extend((step, d) for d in disturbances)
        self._states.append(state)
        if recorded is not None and state.tobytes() == recorded.states[step + 1].tobytes():
            self._observations.append(_observed(recorded, step + 1))
        else:
            self._observations.append(self.simulator.observe())


def _observed(trace: Trace, at: int) -> Observation:
    """What was observed in a state that has been reached again: to ask the simulator takes longer."""
    return Observation(trace.tcp_poses[at], float(trace.gripper_widths[at]), trace.objects[at])
