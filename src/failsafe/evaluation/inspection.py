"""Assess single steps of recorded rollouts, to see what a model makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from failsafe.datasets.store import Dataset
from failsafe.errors import UnknownNameError
from failsafe.experts.tasks import load_task
from failsafe.models.contract import RecoveryModel, assess_safely
from failsafe.records.assessment import Assessment, Window
from failsafe.samples.manifest import SampleConfig
from failsafe.samples.windows import cut_window, window_cameras


@dataclass(frozen=True)
class Inspection:
    """What a model sees in one step of a rollout, and what it says.

    Attributes:
        instruction: The task in words.
        assessment: What the model says.
        frames: What it sees, by view and time, the present moment last. RGB. [V, F, S, S, 3]
    """

    instruction: str
    assessment: Assessment
    frames: UInt8[np.ndarray, "V F S S 3"]

    @property
    def image(self) -> UInt8[np.ndarray, "H W 3"]:
        """All frames in one image: a row for each view, the oldest moment on the left."""
        return np.concatenate([np.concatenate(list(view), axis=1) for view in self.frames], axis=0)


def inspect_step(
    model: RecoveryModel,
    dataset: Dataset,
    episode: str,
    step: int,
    rollout: str = "failing",
    camera_shift: float = 0.0,
) -> Inspection:
    """Let a model assess one step of a recorded rollout.

    Args:
        model: The recovery model.
        dataset: The dataset.
        episode: Name of the case.
        step: Control step to assess.
        rollout: "nominal", "failing", or "recovery_0" and so on.
        camera_shift: Distance by which each camera is displaced, metres.

    Raises:
        UserError: If there is no such episode or rollout, or the rollout has no such step.
        RecordError: If the record is damaged.
    """
    case = dataset.find(episode)
    traces = dataset.traces(case.task, case.case_id)
    traces["nominal"] = dataset.nominal(case.task, case.seed)[1]
    if rollout not in traces:
        raise UnknownNameError(f"rollout of {case.case_id}", rollout, traces)
    simulator = load_task(case.task).simulator
    simulator.reset(case.seed)
    spec = model.window_spec
    config = SampleConfig(window=spec, jitter_metres=camera_shift, shifted=True)
    cameras = window_cameras(simulator, config, f"{episode} {step}")
    frames, tcp_poses, widths = cut_window(simulator, traces[rollout], step, spec, cameras)
    window = Window(case.instruction, spec, frames, tcp_poses, widths)
    return Inspection(case.instruction, assess_safely(model, window), frames)
