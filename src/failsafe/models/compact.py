"""The compact recovery model: one small network for all tasks, trained from scratch, that runs on a CPU.

The model is two networks in sequence. `ObjectLocalizer` finds the objects in the images. A classifier network
takes their positions, the proprioception and the instruction, and predicts every part of the assessment.

The localizer needs images to learn from, but no failures. The classifier needs failures, but no images: it
also trains on windows with ground-truth object positions, which cost no rendering, so that there can be ten
times as many of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor, nn

from failsafe.errors import AssessmentError
from failsafe.models import corrections
from failsafe.models.image_encoder import Words, word_codes
from failsafe.models.object_localizer import (
    MIDDLE,
    PLACE_SCALE,
    POSE,
    CameraIntrinsics,
    Keypoints,
    ObjectLocalizer,
)
from failsafe.models.weights import fill, read_weights, save_weights
from failsafe.records import codec, poses
from failsafe.records.assessment import Assessment, Window, WindowSpec
from failsafe.samples.sample_set import MAX_OBJECTS

FORMAT = "failsafe-compact/4"
_PLACES = MAX_OBJECTS * 3


@dataclass(frozen=True)
class CompactConfig:
    """What a compact network is.

    Attributes:
        window: The windows that it looks at.
        modes: Kinds of failure, in the order of its outputs.
        stages: Names of sub-tasks, in the order of its outputs.
        instructions: The instructions that it was trained on.
        widths: Channels of the encoder, from stride 2 to stride 16.
        hidden: Width of the trunk.
        lenses: The views' cameras.
        blind: Look at nothing but the proprioception and the instruction: shows what those alone give away.
    """

    window: WindowSpec
    modes: tuple[str, ...]
    stages: tuple[str, ...]
    instructions: tuple[str, ...]
    widths: tuple[int, ...] = (32, 48, 96, 160)
    hidden: int = 1024
    lenses: tuple[CameraIntrinsics, ...] = ()
    blind: bool = False


@dataclass(frozen=True)
class CompactMeta:
    """What stands beside the weights in a checkpoint.

    Attributes:
        config: The network.
        train_seeds: By task, the seeds that it was trained on.
        trained: How it came about: commands, steps, date; for the model card.
    """

    config: CompactConfig
    train_seeds: dict[str, tuple[int, ...]]
    trained: dict[str, str]


@dataclass(frozen=True)
class Inputs:
    """A batch of windows as tensors.

    Attributes:
        frames: Pictures, channels first, the moments of a view as its channels, 0 to 1; no views for windows
            without pictures. [B, V, F*3, S, S]
        motion: Proprioception, see `motion_features`. [B, M]
        words: Hashed words of the instructions, 0 where there is none. [B, 32]
        objects: Where the objects are, as in `Outputs`, for windows without pictures. [B, O*3]
    """

    frames: Float[Tensor, "B V C S S"]
    motion: Float[Tensor, "B M"]
    words: Int64[Tensor, "B W"]
    objects: Float[Tensor, "B O"] | None = None


@dataclass(frozen=True)
class Outputs:
    """What the network says of a batch.

    Attributes:
        failing: Logit of failing or not. [B]
        mode: Logits of the kind of failure. [B, n_modes]
        stage: Logits of the sub-task. [B, n_stages]
        correction: See `failsafe.models.corrections`. [B, 29]
        continuation: Likewise, of what the expert would do next if things went well. [B, 29]
        help: Logit of there being no way back. [B]
        objects: Where the objects are, from the tool, base frame, in decimetres; 0 for those that are not
            there. [B, O*3]
        sight: What the pictures show, None without.
    """

    failing: Float[Tensor, "B"]
    mode: Float[Tensor, "B modes"]
    stage: Float[Tensor, "B stages"]
    correction: Float[Tensor, "B 29"]
    continuation: Float[Tensor, "B 29"]
    help: Float[Tensor, "B"]
    objects: Float[Tensor, "B objects"]
    sight: Keypoints | None


def motion_size(spec: WindowSpec) -> int:
    """Length of `motion_features`."""
    return POSE + 7 * spec.history + 1


def motion_features(
    tcp_poses: Float32[np.ndarray, "H1 7"], widths: Float32[np.ndarray, "H1"]
) -> Float32[np.ndarray, "M"]:
    """Proprioception as numbers of about one.

    Where the tool is (3), its first and third axis (6), how it came there from each earlier moment
    (displacement and rotation vector, 6 each), and how open it was at each and is now (1 each); positions and
    directions in the robot's base frame, the earliest moment first.
    """
    now = tcp_poses[-1].astype(np.float64)
    axes = [poses.rotate(now[3:], axis) for axis in ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0))]
    past = np.array([poses.delta_between(pose.astype(np.float64), now) for pose in tcp_poses[:-1]])
    past = past * np.array([10.0] * 3 + [2.0] * 3)
    place = (now[:3] - np.array(MIDDLE)) * PLACE_SCALE
    return np.concatenate([place, *axes, past.ravel(), widths * 20.0]).astype(np.float32)


def stack_moments(
    frames: UInt8[Tensor, "B V F S S 3"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "B V C S S"]:
    """Pictures as the network takes them: the moments of a view are its channels."""
    b, v, f, s = frames.shape[:4]
    # Channels last in memory, as the pictures come and as convolutions on a CPU are fastest.
    channels = frames.permute(0, 1, 3, 4, 2, 5).reshape(b, v, s, s, f * 3)
    return channels.permute(0, 1, 4, 2, 3).to(dtype).div_(255.0)


class CompactNet(nn.Module):
    """The network.

    Args:
        config: What it is.
    """

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        spec, hidden = config.window, config.hidden
        self.finder: ObjectLocalizer | None = None
        if not config.blind:
            if len(config.lenses) != len(spec.views):
                raise ValueError(f"expected a lens for each of {len(spec.views)} views")
            self.finder = ObjectLocalizer(
                config.lenses, spec.frames * 3, spec.size, config.widths, MAX_OBJECTS
            )
        self.motion = nn.Sequential(
            nn.Linear(motion_size(spec), 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU()
        )
        self.words = Words()
        self.trunk = nn.Sequential(
            nn.Linear(2 * _PLACES + 128 + Words.size, hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(hidden, hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(hidden, hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
        )
        self._sizes = [1, len(config.modes), len(config.stages), corrections.SIZE, corrections.SIZE, 1]
        self.heads = nn.Linear(hidden, sum(self._sizes))

    def forward(self, inputs: Inputs) -> Outputs:
        """Assess a batch, of windows that all have pictures or all have none."""
        objects, sight = self.look(inputs)
        return replace(self.judge(objects, inputs.motion, inputs.words), sight=sight)

    def look(self, inputs: Inputs) -> tuple[Float[Tensor, "B O"], Keypoints | None]:
        """Where the objects are, as in `Outputs`, and what the pictures show; None where there are none."""
        if self.finder is not None and inputs.frames.shape[1]:
            # How the tool came to where it is stays out: an expert's motion says where things are, any
            # other's does not (de Haan, Jayaraman and Levine 2019, "Causal confusion in imitation learning").
            sight: Keypoints = self.finder(inputs.frames, inputs.motion[:, :POSE], inputs.words)
            return sight.objects.flatten(1), sight
        if self.config.blind or inputs.objects is None:
            return inputs.motion.new_zeros(len(inputs.motion), _PLACES), None
        return inputs.objects, None

    def judge(self, objects: Float[Tensor, "B O"], motion: Float[Tensor, "B M"], words: Tensor) -> Outputs:
        """What it means that the objects are there and that the tool came to where it is in this way."""
        # It must not bend where they are seen.
        there = objects.detach()
        # Far objects count in decimetres, near ones in centimetres.
        places = torch.cat([there, torch.tanh(5.0 * there)], dim=1)
        x = self.trunk(torch.cat([places, self.motion(motion), self.words(words)], dim=1))
        failing, mode, stage, correction, continuation, help_ = (
            self.heads(x).float().split(self._sizes, dim=1)
        )
        return Outputs(failing[:, 0], mode, stage, correction, continuation, help_[:, 0], objects, None)


class CompactModel:
    """A trained compact network as a recovery model.

    Args:
        net: The network.
        meta: What stands beside its weights.
        any_instruction: Assess instructions that it was not trained on, too; by default they are refused.
    """

    def __init__(self, net: CompactNet, meta: CompactMeta, any_instruction: bool = False) -> None:
        self.net = net.eval()
        self.meta = meta
        self._any_instruction = any_instruction

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return "proprioception alone" if self.meta.config.blind else "compact"

    @property
    def window_spec(self) -> WindowSpec:
        """The windows that it looks at."""
        return self.meta.config.window

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.net.parameters())

    def assess(self, window: Window) -> Assessment:
        """Assess one window.

        Raises:
            AssessmentError: If it is not of the kind that the network was made for, or if the instruction is
                not one of those that it was trained on.
        """
        return self._assess(window, 0.5)

    def assess_as_failing(self, window: Window) -> Assessment:
        """Assess a window that is known to be of a failing episode: kind and correction in any case."""
        return self._assess(window, 0.0)

    def find(self, window: Window) -> Float32[np.ndarray, "O 3"]:
        """Where the objects are from the tool, robot base frame, metres; 0 for those that are not there.

        Raises:
            AssessmentError: As `assess`.
        """
        return self._look(window).objects[0].unflatten(0, (-1, 3)).numpy() / 10.0

    def _look(self, window: Window) -> Outputs:
        config = self.meta.config
        window.check(config.window)
        if window.instruction not in config.instructions and not self._any_instruction:
            known = "', '".join(config.instructions)
            raise AssessmentError(f"expected one of the instructions '{known}', got '{window.instruction}'")
        inputs = Inputs(
            stack_moments(torch.tensor(window.frames)[None]),
            torch.from_numpy(motion_features(window.tcp_poses, window.gripper_widths))[None],
            torch.from_numpy(word_codes(window.instruction))[None],
        )
        with torch.inference_mode():
            return self.net(inputs)

    def _assess(self, window: Window, even_odds: float) -> Assessment:
        out, config = self._look(window), self.meta.config
        probability = float(torch.sigmoid(out.failing[0]))
        modes = torch.softmax(out.mode[0], dim=0)
        best = int(modes.argmax())
        mode, stage = config.modes[best], config.stages[int(out.stage[0].argmax())]
        failing = probability >= even_odds
        actions = corrections.decode(out.correction[0].numpy()) if failing else ()
        continuation = corrections.decode(out.continuation[0].numpy())
        needs_help = failing and float(out.help[0]) > 0
        return Assessment(
            failure_probability=probability,
            stage=stage,
            mode=mode if failing else "",
            mode_probability=float(modes[best]) if failing else 0.0,
            actions=actions,
            continuation=continuation,
            needs_help=needs_help,
            explanation=_explain(stage, mode, actions, needs_help),
            raw=json.dumps({"failing": round(float(out.failing[0]), 4), "mode": mode, "stage": stage}),
        )


def save_compact(path: Path, net: CompactNet, meta: CompactMeta) -> None:
    """Write a checkpoint: weights in half precision, and what they are, in one safetensors file."""
    save_weights(path, FORMAT, net, codec.dumps(meta))


def load_compact(path: Path, any_instruction: bool = False) -> CompactModel:
    """Read a checkpoint; nothing is unpickled.

    Raises:
        UserError: If there is no such file.
        RecordError: If it is no compact checkpoint, of another version, or its weights do not fit.
    """
    about, weights = read_weights(path, FORMAT)
    meta = codec.loads(CompactMeta, about, str(path))
    net = CompactNet(meta.config)
    fill(net, weights, path)
    return CompactModel(net, meta, any_instruction)


def _explain(stage: str, mode: str, actions: tuple[tuple[float, ...], ...], needs_help: bool) -> str:
    if not actions:
        return f"'{stage}' goes well."
    cause = mode.replace("_", " ")
    if needs_help:
        return f"'{stage}' is failing ({cause}), and no way back is likely to work: help is needed."
    return f"'{stage}' is failing ({cause}): {corrections.describe(actions)}."
