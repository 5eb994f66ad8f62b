"""One task with its unperturbed twin, and short words for what a perturbation changed in it."""

from dataclasses import dataclass

import numpy as np

from failsafe.experts.tasks import Task, load_task
from failsafe.generation.nominal import NominalRollout, run_nominal
from failsafe.generation.perturbed import PerturbedRollout, run_perturbed
from failsafe.perturbations import MODES
from failsafe.records import poses
from failsafe.records.perturbation import Perturbation
from failsafe.records.plan import StageSpan
from failsafe.simulators.contract import Role


@dataclass(frozen=True)
class Seen:
    """A perturbed rollout beside its twin, at the stage where the perturbation set in."""

    nominal: NominalRollout
    rollout: PerturbedRollout
    drawn: Perturbation

    @property
    def span(self) -> StageSpan:
        return self.rollout.spans[self.drawn.stage]

    @property
    def nominal_span(self) -> StageSpan:
        return self.nominal.record.spans[self.drawn.stage]

    @property
    def injected(self) -> int:
        """The step on which the perturbation set in, which is the drawn moment of its stage."""
        first = self.rollout.injection_step
        assert first == self.span.start + round(self.drawn.moment * self.span.steps)
        return first

    def tool_moved(self, after: int = 0) -> np.ndarray:
        """How the tool differs from the twin's, `after` stages later, at the stage's end. [6]"""
        mine, theirs = self.ends(after)
        return poses.delta_between(
            self.nominal.trace.tcp_poses[theirs].astype(float),
            self.rollout.trace.tcp_poses[mine].astype(float),
        )

    def ends(self, after: int = 0) -> tuple[int, int]:
        """The last step of a stage, `after` stages later, of the rollout and of the twin."""
        stage = self.drawn.stage + after
        return self.rollout.spans[stage].stop, self.nominal.record.spans[stage].stop

    def path(self, name: str = "") -> np.ndarray:
        """Poses of an object, the perturbation's own by default. [T+1, 7]"""
        index = self.nominal.scene.episode.object_index(name or self.drawn.object)
        return self.rollout.trace.objects[:, index].astype(float)

    def nominal_path(self, name: str = "") -> np.ndarray:
        """The same in the twin. [T+1, 7]"""
        index = self.nominal.scene.episode.object_index(name or self.drawn.object)
        return self.nominal.trace.objects[:, index].astype(float)

    @property
    def tool_path(self) -> np.ndarray:
        return self.rollout.trace.tcp_poses.astype(float)

    @property
    def widths(self) -> np.ndarray:
        return self.rollout.trace.gripper_widths.astype(float)

    @property
    def nominal_widths(self) -> np.ndarray:
        return self.nominal.trace.gripper_widths.astype(float)


class Bench:
    """A task, its simulator and the twin of one seed."""

    def __init__(self, name: str, seed: int = 0) -> None:
        self.name = name
        self.task: Task = load_task(name)
        self.nominal = run_nominal(self.task, seed)
        assert self.nominal.record.success
        self.movable = self.nominal.scene.episode.names(Role.MOVABLE)

    def stages(self, mode: str) -> list[int]:
        """Stages at which a mode applies."""
        return [i for i in range(len(self.nominal.scene.spans)) if MODES[mode].applies(self.nominal.scene, i)]

    def run(
        self,
        mode: str,
        magnitude: float,
        stage: int | None = None,
        moment: float = 0.0,
        direction: float = 0.0,
        name: str | None = None,
    ) -> Seen:
        """Let a mode act, by default at the first stage and on the first object that it applies to."""
        stage = self.stages(mode)[0] if stage is None else stage
        candidates = MODES[mode].candidates(self.nominal.scene, stage)
        drawn = Perturbation(
            mode=mode,
            stage=stage,
            stage_name=self.nominal.scene.spans[stage].name,
            moment=moment,
            magnitude=magnitude,
            unit=MODES[mode].unit,
            direction=direction,
            object=candidates[0] if name is None else name,
        )
        return Seen(self.nominal, run_perturbed(self.task, self.nominal, (drawn,)), drawn)

    def held_at_end(self) -> tuple[str, ...]:
        """What is in the grip when the last rollout is over."""
        return self.task.simulator.held()
