"""Reference policies: image-based, language-conditioned, action-chunking, trained by imitation alone.

They fail as learned policies fail: nothing is injected. One network for all its tasks looks at the present
pictures, the tool's pose and opening and the words of the instruction, and says where the tool is to be led
in the next H control steps (action chunking: Zhao et al. 2023, "Learning fine-grained bimanual manipulation
with low-cost hardware"). Places are said from where the tool is: then it comes nearer with every look.
Orientations are said in the base frame, and the tool is led to no place where no demonstration has been: else
errors add up from one chunk to the next, until it lies on its side or has left the table.
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
from failsafe.policies.reference_net import ReferenceConfig, ReferenceNet
from failsafe.records import codec, poses
from failsafe.records.codec import Migration
from failsafe.records.observation import PolicyObservation
from failsafe.records.poses import Pose

FORMAT = "failsafe-reference/3"
OLDER: Mapping[str, Renames] = {"failsafe-reference/2": version_1.SUBMODULES}
CHECKPOINTS = Path(__file__).parent / "checkpoints"
STRENGTHS = ("weak", "medium", "strong")
"""Trained on few, some and many demonstrations."""
METRES = 0.1
"""What displacements are divided by, so that they are about one."""
_SCALE = np.array([METRES] * 3 + [0.5] * 3)
"""The same of displacements (m) and turns (rad)."""
_DOWN = (0.0, 1.0, 0.0, 0.0)
"""The orientation (quaternion wxyz, base frame) that turns are counted from: of a tool that points down."""


@dataclass(frozen=True)
class ReferenceMeta:
    """What stands beside the weights in a checkpoint.

    Attributes:
        config: The network.
        demonstrations: Episodes of each task that it was trained on.
        train_seeds: By task, their seeds.
        trained: How it came about: settings, steps, losses, for the model card.
    """

    FORMAT: ClassVar[int] = 2
    MIGRATIONS: ClassVar[Mapping[str, Migration]] = {"ReferenceMeta/1": version_1.migrate_reference_meta}

    config: ReferenceConfig
    demonstrations: int
    train_seeds: dict[str, tuple[int, ...]]
    trained: dict[str, str]


def proprioception(tcp_pose: Pose, width: float, normalization: Normalization) -> Float32[np.ndarray, "P"]:
    """Describe tool pose and gripper opening by numbers of about one.

    Args:
        tcp_pose: Tool pose, base frame.
        width: Gripper opening, metres.
        normalization: Scaling of position and opening.
    """
    axes = [poses.rotate(tcp_pose[3:], axis) for axis in ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0))]
    return np.concatenate(
        [normalization.position(tcp_pose[:3]), *axes, [width * normalization.width_scale]]
    ).astype(np.float32)


def to_numbers(tcp_pose: Pose, target: Pose) -> Float[np.ndarray, "6"]:
    """Where to lead the tool, as the network says it, in numbers of about one.

    Args:
        tcp_pose: The measured tool pose, base frame.
        target: The pose to lead it to, base frame.

    Returns:
        Displacement from the measured place (3), rotation vector from pointing straight down (3), base frame.
    """
    return poses.delta_between(poses.pose(tcp_pose[:3], _DOWN), target) / _SCALE


def to_target(tcp_pose: Pose, numbers: Float[np.ndarray, "6"]) -> Pose:
    """The pose that `to_numbers` stands for."""
    return poses.apply_delta(poses.pose(tcp_pose[:3], _DOWN), numbers * _SCALE)


def stack_views(images: Float[np.ndarray, "B V S S 3"] | np.ndarray) -> Float[Tensor, "B V 3 S S"]:
    """Pictures as the network takes them."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 1, 4, 2, 3).float() / 255.0


class ReferencePolicy:
    """A trained network as a policy.

    Args:
        net: The network.
        meta: What stands beside its weights.
        name: What it is called in tables.
    """

    def __init__(self, net: ReferenceNet, meta: ReferenceMeta, name: str = "reference") -> None:
        self.net = net.eval()
        self.meta = meta
        self.name = name
        self._words: Tensor | None = None

    @property
    def action_space(self) -> ActionSpace:
        """Ours, in chunks."""
        return ActionSpace(rate_hz=self.meta.config.rate_hz, chunk=self.meta.config.chunk)

    @property
    def views(self) -> Mapping[str, int]:
        """What it looks through."""
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
        """The next chunk."""
        if self._words is None:
            raise PolicyError(f"{self.name}: expected reset(instruction) before the first action")
        config = self.meta.config
        images = np.stack([observation.images[view] for view in config.views])
        if images.shape[1:] != (config.size, config.size, 3):
            raise PolicyError(f"{self.name}: expected pictures of {config.size} px, got {images.shape[1:]}")
        felt = proprioception(observation.tcp_pose, observation.gripper_width, config.normalization)
        with torch.inference_mode():
            out = self.net(stack_views(images[None]), torch.from_numpy(felt)[None], self._words)[0][0].numpy()
        rows = np.empty((config.chunk, 7))
        at = observation.target_pose
        for row, (number, wanted) in zip(rows, enumerate(out.astype(np.float64)), strict=True):
            pose = to_target(observation.tcp_pose, wanted[:6])
            pose[:3] = np.clip(pose[:3], *config.reach)
            row[:6], row[6] = poses.delta_between(at, pose), 1.0 if out[number, 6] > 0 else -1.0
            at = pose
        return rows

    def drop_queue(self) -> None:
        """Nothing is kept from one chunk to the next."""


def save_reference(path: Path, net: ReferenceNet, meta: ReferenceMeta) -> None:
    """Write a checkpoint."""
    save_weights(path, FORMAT, net, codec.dumps(meta))


def reference_path(name: str) -> Path:
    """The checkpoint that a reference policy's name stands for, whether or not it is there.

    Raises:
        UnknownNameError: If it is no name of one, and no checkpoint's.
    """
    if name in STRENGTHS:
        return CHECKPOINTS / f"{name}.safetensors"
    if not name.endswith(".safetensors"):
        raise UnknownNameError("reference policy", name, STRENGTHS)
    return Path(name)


def load_reference(name: str) -> ReferencePolicy:
    """Read a reference policy: "weak", "medium", "strong", or the file of a checkpoint.

    Raises:
        UserError: If there is no such file.
        RecordError: If it is no checkpoint of a reference policy.
    """
    path = reference_path(name)
    about, weights = read_weights(path, FORMAT, OLDER)
    meta = codec.loads(ReferenceMeta, about, str(path))
    net = ReferenceNet(meta.config)
    fill(net, weights, path)
    return ReferencePolicy(net, meta, f"reference {path.stem}")
