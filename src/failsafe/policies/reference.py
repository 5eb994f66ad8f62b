"""Reference policies: image-based, language-conditioned, action-chunking, trained by imitation alone.

Their failures are those of learned policies: none are injected. One network for all tasks takes the current
images, tool pose, gripper opening and instruction, and predicts the tool poses of the next H control steps
(action chunking: Zhao et al. 2023, "Learning fine-grained bimanual manipulation with low-cost hardware").
Predicted positions are relative to the tool, so errors shrink with every query. Orientations are in the base
frame, and positions are clipped to the region of the demonstrations, so that errors do not accumulate from
one chunk to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from failsafe.errors import PolicyError, UnknownNameError
from failsafe.models import version_1
from failsafe.models.image_encoder import word_codes
from failsafe.models.normalization import Normalization
from failsafe.models.weights import Renames, fill, read_weights, save_weights
from failsafe.policies.contract import ActionSpace
from failsafe.policies.reference_net import DOWN, ReferenceConfig, ReferenceNet
from failsafe.records import codec, poses
from failsafe.records.codec import Migration
from failsafe.records.observation import PolicyObservation
from failsafe.records.poses import Pose

FORMAT = "failsafe-reference/3"
OLDER: Mapping[str, Renames] = {"failsafe-reference/2": version_1.SUBMODULES}
CHECKPOINTS = Path(__file__).parent / "checkpoints"
SHIPPED = ("weak", "medium", "strong", "metaworld")
"""Names of the shipped policies: three of ManiSkill, trained on few, some and many demonstrations, and one of
Meta-World."""
METRES = 0.1
"""Scale of displacements in the network, metres."""
_SCALE = np.array([METRES] * 3 + [0.5] * 3)
"""Scales of displacements (m) and rotations (rad) in the network."""


@dataclass(frozen=True)
class ReferenceMeta:
    """The metadata of a checkpoint.

    Attributes:
        config: Configuration of the network.
        demonstrations: Number of training episodes for each task.
        train_seeds: Seeds of the training episodes, by task.
        trained: Settings, steps and losses of the training, for the model card.
    """

    FORMAT: ClassVar[int] = 2
    MIGRATIONS: ClassVar[Mapping[str, Migration]] = {"ReferenceMeta/1": version_1.migrate_reference_meta}

    config: ReferenceConfig
    demonstrations: int
    train_seeds: dict[str, tuple[int, ...]]
    trained: dict[str, str]


def proprioception(tcp_pose: Pose, width: float, normalization: Normalization) -> Float32[np.ndarray, "P"]:
    """Scale tool pose and gripper opening for the network.

    Args:
        tcp_pose: Tool pose, base frame.
        width: Gripper opening, metres.
        normalization: Scaling of position and opening.
    """
    axes = [poses.rotate(tcp_pose[3:], axis) for axis in ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0))]
    return np.concatenate(
        [normalization.position(tcp_pose[:3]), *axes, [width * normalization.width_scale]]
    ).astype(np.float32)


def reference_orientation(tcp_poses: Float[np.ndarray, "N 7"]) -> tuple[float, ...]:
    """Return the orientation from which a policy counts rotations.

    A tool that points down is turned about the vertical by less than half a turn from one of `DOWN`. A
    rotation by half a turn has two rotation vectors, whose mean is none: a network cannot learn it.

    Args:
        tcp_poses: Tool poses of the demonstrations, base frame. [N, 7]

    Returns:
        The one of `DOWN` that is nearest to most of them, quaternion wxyz.
    """
    # The nearer two orientations are, the larger is the absolute product of their quaternions.
    nearness = np.abs(tcp_poses[:, 3:].astype(np.float64) @ np.array(DOWN).T)
    return DOWN[int(np.bincount(nearness.argmax(1), minlength=len(DOWN)).argmax())]


def to_numbers(
    tcp_pose: Pose, target: Pose, orientation: tuple[float, ...] = DOWN[0]
) -> Float[np.ndarray, "6"]:
    """Convert a target pose to the scaled output of the network.

    Args:
        tcp_pose: The measured tool pose, base frame.
        target: The target tool pose, base frame.
        orientation: Orientation from which rotations count, quaternion wxyz, base frame.

    Returns:
        Scaled displacement from the measured position (3), rotation vector from the reference orientation
        (3), base frame.
    """
    return poses.delta_between(poses.pose(tcp_pose[:3], orientation), target) / _SCALE


def to_target(
    tcp_pose: Pose, numbers: Float[np.ndarray, "6"], orientation: tuple[float, ...] = DOWN[0]
) -> Pose:
    """Convert the scaled output of the network to a target pose; the inverse of `to_numbers`.

    Args:
        tcp_pose: The measured tool pose, base frame.
        numbers: The output. [6]
        orientation: Orientation from which rotations count, quaternion wxyz, base frame.
    """
    return poses.apply_delta(poses.pose(tcp_pose[:3], orientation), numbers * _SCALE)


def stack_views(images: Float[np.ndarray, "B V S S 3"] | np.ndarray) -> Float[Tensor, "B V 3 S S"]:
    """Convert images to the input of the network."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 1, 4, 2, 3).float() / 255.0


class ReferencePolicy:
    """A trained network as a policy.

    Args:
        net: The network.
        meta: The metadata of its checkpoint.
        name: Name in tables.
    """

    def __init__(self, net: ReferenceNet, meta: ReferenceMeta, name: str = "reference") -> None:
        self.net = net.eval()
        self.meta = meta
        self.name = name
        self._words: Tensor | None = None

    @property
    def action_space(self) -> ActionSpace:
        """FailSafe's own actions, in chunks."""
        return ActionSpace(rate_hz=self.meta.config.rate_hz, chunk=self.meta.config.chunk)

    @property
    def views(self) -> Mapping[str, int]:
        """Height and width (pixels) of the images that it takes, by camera."""
        return {view: self.meta.config.size for view in self.meta.config.views}

    def reset(self, instruction: str) -> None:
        """Begin an episode.

        Raises:
            PolicyError: If it was not trained on the instruction.
        """
        known = self.meta.config.instructions
        if instruction not in known:
            raise PolicyError(f"{self.name}: expected one of {', '.join(known)}; got '{instruction}'")
        self._words = torch.from_numpy(word_codes(instruction))[None]

    def act(self, observation: PolicyObservation) -> Float[np.ndarray, "H 7"]:
        """Return the next chunk.

        Raises:
            PolicyError: If it was not reset, or the images have another size.
        """
        if self._words is None:
            raise PolicyError(f"{self.name}: expected reset(instruction) before the first action")
        config = self.meta.config
        images = np.stack([observation.images[view] for view in config.views])
        if images.shape[1:] != (config.size, config.size, 3):
            raise PolicyError(f"{self.name}: expected images of {config.size} px, got {images.shape[1:]}")
        felt = proprioception(observation.tcp_pose, observation.gripper_width, config.normalization)
        with torch.inference_mode():
            out = self.net(stack_views(images[None]), torch.from_numpy(felt)[None], self._words)[0][0].numpy()
        rows = np.empty((config.chunk, 7))
        at = observation.target_pose
        for row, (number, wanted) in zip(rows, enumerate(out.astype(np.float64)), strict=True):
            pose = to_target(observation.tcp_pose, wanted[:6], config.orientation)
            pose[:3] = np.clip(pose[:3], *config.reach)
            row[:6], row[6] = poses.delta_between(at, pose), 1.0 if out[number, 6] > 0 else -1.0
            at = pose
        return rows

    def drop_queue(self) -> None:
        """Do nothing: there are no planned actions."""


def save_reference(path: Path, net: ReferenceNet, meta: ReferenceMeta) -> None:
    """Write a checkpoint.

    Args:
        path: The file.
        net: The network.
        meta: The metadata.
    """
    save_weights(path, FORMAT, net, codec.dumps(meta))


def reference_path(name: str) -> Path:
    """Return the file of a reference policy's checkpoint, whether or not it exists.

    Raises:
        UnknownNameError: If it is neither a shipped policy nor a checkpoint.
    """
    if name in SHIPPED:
        return CHECKPOINTS / f"{name}.safetensors"
    if not name.endswith(".safetensors"):
        raise UnknownNameError("reference policy", name, SHIPPED)
    return Path(name)


def load_reference(name: str) -> ReferencePolicy:
    """Load a reference policy: "weak", "medium", "strong", "metaworld", or the file of a checkpoint.

    Raises:
        UserError: If there is no such file.
        RecordError: If it is not a checkpoint of a reference policy.
    """
    path = reference_path(name)
    about, weights = read_weights(path, FORMAT, OLDER)
    meta = codec.loads(ReferenceMeta, about, str(path))
    net = fill(lambda: ReferenceNet(meta.config), weights, path)
    return ReferencePolicy(net, meta, f"reference {path.stem}")
