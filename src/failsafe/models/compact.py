"""The compact recovery model: one small network for all tasks, trained from scratch, that runs on a CPU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float32

from failsafe.errors import AssessmentError
from failsafe.models import corrections, version_1
from failsafe.models.compact_net import (
    CompactConfig,
    CompactNet,
    Inputs,
    Outputs,
    motion_features,
    stack_frames,
)
from failsafe.models.image_encoder import word_codes
from failsafe.models.weights import Renames, fill, read_weights, save_weights
from failsafe.records import codec
from failsafe.records.assessment import Assessment, Window, WindowSpec
from failsafe.records.codec import Migration

FORMAT = "failsafe-compact/5"
OLDER: Mapping[str, Renames] = {"failsafe-compact/4": version_1.SUBMODULES}


@dataclass(frozen=True)
class CompactMeta:
    """The description of a checkpoint.

    Attributes:
        config: The network.
        train_seeds: Seeds that the network was trained on, by task.
        trained: How it was trained: commands, settings, results; for the model card.
    """

    FORMAT: ClassVar[int] = 2
    MIGRATIONS: ClassVar[Mapping[str, Migration]] = {"CompactMeta/1": version_1.migrate_compact_meta}

    config: CompactConfig
    train_seeds: dict[str, tuple[int, ...]]
    trained: dict[str, str]


class CompactModel:
    """A trained compact network as a recovery model.

    Args:
        net: The network.
        meta: The description of its checkpoint.
        any_instruction: Assess instructions that the network was not trained on, too. By default they are
            refused.
    """

    def __init__(self, net: CompactNet, meta: CompactMeta, any_instruction: bool = False) -> None:
        self.net = net.eval()
        self.meta = meta
        self._any_instruction = any_instruction

    @property
    def name(self) -> str:
        """The name in tables."""
        return "proprioception alone" if self.meta.config.proprioception_only else "compact"

    @property
    def window_spec(self) -> WindowSpec:
        """The windows that the model takes."""
        return self.meta.config.window

    @property
    def instructions(self) -> tuple[str, ...]:
        """The instructions that the model assesses; none if it assesses any."""
        return () if self._any_instruction else self.meta.config.instructions

    @property
    def max_objects(self) -> int | None:
        """The most objects of a task that the model can locate; None if it locates none."""
        config = self.meta.config
        return None if config.proprioception_only else config.objects

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.net.parameters())

    def assess(self, window: Window) -> Assessment:
        """Assess one window.

        Raises:
            AssessmentError: If the window does not fit the network, or the network was not trained on its
                instruction.
        """
        return self._assess(window, 0.5)

    def assess_as_failing(self, window: Window) -> Assessment:
        """Assess a window of an episode that is known to fail: always predict a mode and a correction.

        Raises:
            AssessmentError: As `assess`.
        """
        return self._assess(window, 0.0)

    def locate(self, window: Window) -> Float32[np.ndarray, "O 3"]:
        """Locate the objects relative to the tool, robot base frame, metres; 0 for absent objects.

        Raises:
            AssessmentError: As `assess`.
        """
        return self._forward(window).objects[0].unflatten(0, (-1, 3)).numpy() / 10.0

    def _forward(self, window: Window) -> Outputs:
        config = self.meta.config
        window.check(config.window)
        if window.instruction not in config.instructions and not self._any_instruction:
            known = "', '".join(config.instructions)
            raise AssessmentError(f"expected one of the instructions '{known}', got '{window.instruction}'")
        motion = motion_features(window.tcp_poses, window.gripper_widths, config.normalization)
        inputs = Inputs(
            stack_frames(torch.tensor(window.frames)[None]),
            torch.from_numpy(motion)[None],
            torch.from_numpy(word_codes(window.instruction))[None],
        )
        with torch.inference_mode():
            return self.net(inputs)

    def _assess(self, window: Window, threshold: float) -> Assessment:
        out, config = self._forward(window), self.meta.config
        probability = float(torch.sigmoid(out.failing[0]))
        modes = torch.softmax(out.mode[0], dim=0)
        best = int(modes.argmax())
        mode, stage = config.modes[best], config.stages[int(out.stage[0].argmax())]
        failing = probability >= threshold
        actions = corrections.decode(out.correction[0].numpy(), config.embodiment) if failing else ()
        needs_help = failing and float(out.help[0]) > 0
        return Assessment(
            failure_probability=probability,
            stage=stage,
            mode=mode if failing else "",
            mode_probability=float(modes[best]) if failing else 0.0,
            actions=actions,
            continuation=corrections.decode(out.continuation[0].numpy(), config.embodiment),
            needs_help=needs_help,
            explanation=_explain(stage, mode, actions, needs_help),
            raw=json.dumps({"failing": round(float(out.failing[0]), 4), "mode": mode, "stage": stage}),
        )


def save_compact(path: Path, net: CompactNet, meta: CompactMeta) -> None:
    """Write a checkpoint: weights in half precision and their description, in one safetensors file.

    Args:
        path: The file.
        net: The network.
        meta: Its description.
    """
    save_weights(path, FORMAT, net, codec.dumps(meta))


def load_compact(path: Path, any_instruction: bool = False) -> CompactModel:
    """Read a checkpoint. Nothing is unpickled.

    Args:
        path: The file.
        any_instruction: See `CompactModel`.

    Raises:
        UserError: If there is no such file.
        RecordError: If the file is no compact checkpoint, of an unknown version, or its weights do not fit.
    """
    about, weights = read_weights(path, FORMAT, OLDER)
    meta = codec.loads(CompactMeta, about, str(path))
    return CompactModel(fill(lambda: CompactNet(meta.config), weights, path), meta, any_instruction)


def _explain(stage: str, mode: str, actions: tuple[tuple[float, ...], ...], needs_help: bool) -> str:
    if not actions:
        return f"'{stage}' goes well."
    cause = mode.replace("_", " ")
    if needs_help:
        return f"'{stage}' is failing ({cause}), and no way back is likely to work: help is needed."
    return f"'{stage}' is failing ({cause}): {corrections.describe(actions)}."
