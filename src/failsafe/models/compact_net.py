"""The network of the compact recovery model: an object localizer, and a classifier on top of it.

The localizer needs images to learn from, but no failures. The classifier needs failures, but no images: it
also trains on windows with ground-truth object positions, which cost no rendering, so that there can be ten
times as many of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor, nn

from failsafe.models import corrections
from failsafe.models.camera_geometry import CameraIntrinsics
from failsafe.models.image_encoder import Words, check_encoders
from failsafe.models.normalization import Normalization
from failsafe.models.object_localizer import POSE, Keypoints, ObjectLocalizer
from failsafe.records import poses
from failsafe.records.assessment import WindowSpec
from failsafe.records.embodiment import EmbodimentSpec

_PAST_SCALE = np.array([10.0] * 3 + [2.0] * 3)
"""Factors on displacements (metres) and rotation vectors (radians) within a window."""


@dataclass(frozen=True)
class CompactConfig:
    """Architecture of a compact network, and what it was made for.

    Attributes:
        window: Windows that the network takes.
        modes: Failure modes, in the order of its outputs.
        stages: Names of sub-tasks, in the order of its outputs.
        instructions: Instructions that it was trained on.
        embodiment: Robot that it was trained on; its step limits bound the actions of a correction.
        normalization: Scaling of tool positions and gripper openings.
        widths: Channels of the image encoders, from stride 2 to stride 16.
        hidden: Width of the trunk.
        intrinsics: The views' cameras; empty if the network takes no images.
        proprioception_only: Whether the network takes proprioception and instruction only, no images. Such a
            network shows what those alone give away.
        objects: Object slots O: the most objects of a task that the network can locate.

    Raises:
        ValueError: If a size is out of its range.
    """

    window: WindowSpec
    modes: tuple[str, ...]
    stages: tuple[str, ...]
    instructions: tuple[str, ...]
    embodiment: EmbodimentSpec
    normalization: Normalization
    widths: tuple[int, ...] = (32, 48, 96, 160)
    hidden: int = 1024
    intrinsics: tuple[CameraIntrinsics, ...] = ()
    proprioception_only: bool = False
    objects: int = 4

    def __post_init__(self) -> None:
        bounds = {"objects": 256, "hidden": 65_536}
        for name, most in bounds.items():
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"expected 1 to {most} for '{name}', got {getattr(self, name)}")
        if not (self.modes and self.stages):
            raise ValueError("expected at least 1 mode and 1 stage, got none")
        window = self.window
        if window.history < 1 or not 1 <= window.frames <= window.history + 1:
            raise ValueError(
                f"expected a history of at least 1 step and 1 to history + 1 frames, got {window.history} "
                f"and {window.frames}"
            )
        if not self.proprioception_only:
            check_encoders(len(window.views), window.size, self.widths)


@dataclass(frozen=True)
class Inputs:
    """A batch of windows as tensors.

    Attributes:
        frames: Images, 0 to 1, channels first; the time steps of a view are stacked as channels. No views for
            windows without images. [B, V, F*3, S, S]
        motion: Proprioception, see `motion_features`. [B, M]
        words: Hashed words of the instructions, 0 for padding. [B, 32]
        objects: Object positions as in `Outputs`, for windows without images. [B, O*3]
    """

    frames: Float[Tensor, "B V C S S"]
    motion: Float[Tensor, "B M"]
    words: Int64[Tensor, "B W"]
    objects: Float[Tensor, "B O"] | None = None


@dataclass(frozen=True)
class Outputs:
    """What the network predicts for a batch.

    Attributes:
        failing: Logit of a failure. [B]
        mode: Logits of the failure mode. [B, n_modes]
        stage: Logits of the sub-task. [B, n_stages]
        correction: Encoded correction, see `failsafe.models.corrections`. [B, 29]
        continuation: Encoded actions that the expert would take next if nothing failed. [B, 29]
        help: Logit of the failure being unrecoverable. [B]
        objects: Object positions relative to the tool, base frame, decimetres; 0 for absent objects. [B, O*3]
        keypoints: Predictions of the localizer, None without images.
    """

    failing: Float[Tensor, "B"]
    mode: Float[Tensor, "B modes"]
    stage: Float[Tensor, "B stages"]
    correction: Float[Tensor, "B 29"]
    continuation: Float[Tensor, "B 29"]
    help: Float[Tensor, "B"]
    objects: Float[Tensor, "B objects"]
    keypoints: Keypoints | None


def motion_size(spec: WindowSpec) -> int:
    """Return the length of `motion_features`."""
    return POSE + 7 * spec.history + 1


def motion_features(
    tcp_poses: Float32[np.ndarray, "H1 7"],
    widths: Float32[np.ndarray, "H1"],
    normalization: Normalization,
) -> Float32[np.ndarray, "M"]:
    """Describe the proprioception of a window by numbers of about one.

    Args:
        tcp_poses: Tool poses, oldest first, robot base frame.
        widths: Gripper openings at the same steps, metres.
        normalization: Scaling of positions and openings.

    Returns:
        The tool's present position (3), x axis and z axis (6); displacement and rotation vector from each
        earlier step to the present one (6 each); the opening at each step (1 each). All in the base frame.
    """
    now = tcp_poses[-1].astype(np.float64)
    axes = [poses.rotate(now[3:], axis) for axis in ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0))]
    past = np.array([poses.delta_between(pose.astype(np.float64), now) for pose in tcp_poses[:-1]])
    position, opening = normalization.position(now[:3]), widths * normalization.width_scale
    return np.concatenate([position, *axes, (past * _PAST_SCALE).ravel(), opening]).astype(np.float32)


def stack_frames(
    frames: UInt8[Tensor, "B V F S S 3"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "B V C S S"]:
    """Convert images to the network's input format.

    Args:
        frames: RGB images by view and time step.
        dtype: Data type of the result.

    Returns:
        Images from 0 to 1, with the time steps of a view as its channels.
    """
    b, v, f, s = frames.shape[:4]
    # Channels last in memory: convolutions on a CPU are fastest that way.
    channels = frames.permute(0, 1, 3, 4, 2, 5).reshape(b, v, s, s, f * 3)
    return channels.permute(0, 1, 4, 2, 3).to(dtype).div_(255.0)


class CompactNet(nn.Module):
    """The compact network.

    Args:
        config: Its architecture.

    Raises:
        ValueError: If the number of intrinsics is not the number of views.
    """

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        spec, hidden = config.window, config.hidden
        self.localizer: ObjectLocalizer | None = None
        if not config.proprioception_only:
            if len(config.intrinsics) != len(spec.views):
                raise ValueError(f"expected the intrinsics of {len(spec.views)} views")
            self.localizer = ObjectLocalizer(
                config.intrinsics,
                spec.frames * 3,
                spec.size,
                config.widths,
                config.objects,
                config.normalization,
            )
        self.motion = nn.Sequential(
            nn.Linear(motion_size(spec), 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU()
        )
        self.words = Words()
        self.trunk = nn.Sequential(
            nn.Linear(2 * 3 * config.objects + 128 + Words.size, hidden),
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
        """Assess a batch of windows, which all have images or all have none."""
        objects, keypoints = self.localize(inputs)
        return replace(self.classify(objects, inputs.motion, inputs.words), keypoints=keypoints)

    def localize(self, inputs: Inputs) -> tuple[Float[Tensor, "B O"], Keypoints | None]:
        """Return the object positions, as in `Outputs`, and with images the localizer's predictions."""
        if self.localizer is not None and inputs.frames.shape[1]:
            # The localizer gets no past tool motion: an expert's motion reveals the object positions, other
            # motion does not (de Haan, Jayaraman and Levine 2019, "Causal confusion in imitation learning").
            keypoints: Keypoints = self.localizer(inputs.frames, inputs.motion[:, :POSE], inputs.words)
            return keypoints.objects.flatten(1), keypoints
        if self.config.proprioception_only or inputs.objects is None:
            return inputs.motion.new_zeros(len(inputs.motion), 3 * self.config.objects), None
        return inputs.objects, None

    def classify(
        self, objects: Float[Tensor, "B O"], motion: Float[Tensor, "B M"], words: Int64[Tensor, "B W"]
    ) -> Outputs:
        """Predict everything but the object positions.

        Args:
            objects: Object positions as in `Outputs`; no gradient flows back into them.
            motion: See `motion_features`.
            words: Hashed words of the instructions.
        """
        # Stop gradients into the localizer.
        objects = objects.detach()
        # Linear for far objects (decimetres), with a finer scale for near ones (centimetres).
        positions = torch.cat([objects, torch.tanh(5.0 * objects)], dim=1)
        x = self.trunk(torch.cat([positions, self.motion(motion), self.words(words)], dim=1))
        failing, mode, stage, correction, continuation, help_ = (
            self.heads(x).float().split(self._sizes, dim=1)
        )
        return Outputs(failing[:, 0], mode, stage, correction, continuation, help_[:, 0], objects, None)
