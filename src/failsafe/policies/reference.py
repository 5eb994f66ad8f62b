"""Reference policies: image-based, language-conditioned, action-chunking, trained by imitation alone.

They fail as learned policies fail: nothing is injected. One network for all its tasks looks at the present
pictures, the tool's pose and opening and the words of the instruction, and says where the tool is to be led
in the next H control steps (action chunking: Zhao et al. 2023, "Learning fine-grained bimanual manipulation
with low-cost hardware"). Places are said from where the tool is: then it comes nearer with every look.
Orientations are said in the base frame, and the tool is led to no place where no demonstration has been: else
errors add up from one chunk to the next, until it lies on its side or has left the table.

One that says keyframes (James and Davison 2022, "Q-attention") finds in each picture where the tool is when
the gripper is next to open or close, makes places in space of that, and goes by them. Without, a network
comes to take where the tool stands still for where it was to go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from failsafe.errors import PolicyError, UnknownNameError
from failsafe.models.encoder import WORDS, Eye, word_codes
from failsafe.models.finder import MIDDLE, PLACE_SCALE
from failsafe.models.weights import fill, read_weights, save_weights
from failsafe.policies.contract import ActionSpace, PolicyObservation
from failsafe.records import codec, poses
from failsafe.records.poses import Pose

FORMAT = "failsafe-reference/2"
CHECKPOINTS = Path(__file__).parent / "checkpoints"
STRENGTHS = ("weak", "medium", "strong")
"""Trained on few, some and many demonstrations."""
_SCALE = np.array([0.1] * 3 + [0.5] * 3)
"""What displacements (m) and turns (rad) are divided by, so that they are about one."""
_DOWN = (0.0, 1.0, 0.0, 0.0)
"""The orientation (quaternion wxyz, base frame) that turns are counted from: of a tool that points down."""
_PROPRIOCEPTION = 3 + 6 + 1
KEYFRAMES = 2
"""Places said ahead: where the gripper is next told to open or close, and where after that, or the end."""


@dataclass(frozen=True)
class ReferenceConfig:
    """What a reference policy's network is.

    Attributes:
        views: Names of the cameras.
        size: Height and width of a picture, pixels.
        chunk: Control steps H of an answer.
        rate_hz: Control steps per second.
        instructions: The instructions that it was trained on.
        reach: Lowest and highest x, y and z (m, base frame) that a demonstration has led the tool to.
        widths: Channels of the encoder, from stride 2 to stride 16.
        hidden: Width of the trunk.
        keyframes: It says the places where the tool is next to open, close or end as well, and goes by them.
    """

    views: tuple[str, ...]
    size: int
    chunk: int
    rate_hz: float
    instructions: tuple[str, ...]
    reach: tuple[tuple[float, ...], tuple[float, ...]]
    widths: tuple[int, ...] = (16, 32, 64, 96)
    hidden: int = 384
    keyframes: bool = False


@dataclass(frozen=True)
class ReferenceMeta:
    """What stands beside the weights in a checkpoint.

    Attributes:
        config: The network.
        demonstrations: Episodes of each task that it was trained on.
        train_seeds: By task, their seeds.
        trained: How it came about: settings, steps, losses, for the model card.
    """

    config: ReferenceConfig
    demonstrations: int
    train_seeds: dict[str, tuple[int, ...]]
    trained: dict[str, str]


class Keyframes(NamedTuple):
    """Where a network says that the tool is next to open, close or end.

    Attributes:
        places: As `to_place` says them.
        pixels: Columns and rows in each picture, -1 at the left and upper edges and 1 at the others.
    """

    places: Float[Tensor, "B K 3"]
    pixels: Float[Tensor, "B V K 2"]


class ReferenceNet(nn.Module):
    """The network.

    Args:
        config: What it is.
    """

    def __init__(self, config: ReferenceConfig) -> None:
        super().__init__()
        self.config = config
        self.eyes = nn.ModuleList(Eye(3, config.widths, 192, fine=config.keyframes) for _ in config.views)
        self.words = nn.Embedding(WORDS, 32, padding_idx=0)
        hidden, known = config.hidden, 192 * len(config.views) + _PROPRIOCEPTION + 32
        self.places = None
        if config.keyframes:
            pixels = KEYFRAMES * 2 * len(config.views)
            self.places = nn.Sequential(
                nn.Linear(pixels + 32 + 1, 128),
                nn.ReLU(),
                nn.Linear(128, 128),
                nn.ReLU(),
                nn.Linear(128, KEYFRAMES * 3),
            )
            known += pixels + KEYFRAMES * 6
        self.trunk = nn.Sequential(
            nn.Linear(known, hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
        )
        self.head = nn.Linear(hidden, config.chunk * 7)
        self.eval()
        with torch.no_grad():  # lets the lazy layers take their size
            for eye in self.eyes:
                eye(torch.zeros(1, 3, config.size, config.size))
        self.train()

    def forward(
        self,
        frames: Float[Tensor, "B V 3 S S"],
        proprioception: Float[Tensor, "B P"],
        words: Int64[Tensor, "B W"],
        moved: Float[Tensor, "B V 2"] | None = None,
    ) -> tuple[Float[Tensor, "B H 7"], Keyframes | None]:
        """Where the tool is to be led, and the next keyframes where the network knows of them.

        Args:
            frames: The pictures.
            proprioception: As the function of that name gives it.
            words: The instruction's, hashed.
            moved: Columns and rows (half a picture is 1) by which the pictures have been moved for training.

        Returns:
            Of each row the numbers of `to_numbers`, and the logit of the gripper's being open.
        """
        seen = [eye(frames[:, i]) for i, eye in enumerate(self.eyes)]
        count = (words > 0).sum(1, keepdim=True).clamp(min=1)
        told = self.words(words).sum(1) / count
        known, keyframes = [*(x for x, _ in seen), proprioception, told], None
        if self.places is not None:
            pixels = torch.stack([found[:, :KEYFRAMES] for _, found in seen], dim=1)
            there = (pixels if moved is None else pixels - moved[:, :, None]).flatten(1)
            # Not told where the tool is, which at the end of a demonstration is the place itself: a network
            # that knows says of any place where it stops that it is the right one.
            places = self.places(torch.cat([there, told, proprioception[:, -1:]], dim=1)).float()
            keyframes = Keyframes(places.unflatten(1, (KEYFRAMES, 3)), pixels)
            away = 2.0 * (keyframes.places.detach() - proprioception[:, None, :3])
            near = away / away.norm(dim=2, keepdim=True).clamp(min=1.0)
            known += [there.detach(), away.flatten(1), near.flatten(1)]
        rows = self.head(self.trunk(torch.cat(known, dim=1))).float()
        return rows.unflatten(1, (self.config.chunk, 7)), keyframes


def proprioception(tcp_pose: Pose, width: float) -> Float32[np.ndarray, "P"]:
    """Tool pose and opening as numbers of about one."""
    axes = [poses.rotate(tcp_pose[3:], axis) for axis in ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0))]
    return np.concatenate([to_place(tcp_pose[:3]), *axes, [width * 20.0]]).astype(np.float32)


def to_place(place: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3"]:
    """A place (m, base frame) as numbers of about one."""
    return (place - np.array(MIDDLE)) * PLACE_SCALE


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
        felt = proprioception(observation.tcp_pose, observation.gripper_width)
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
    about, weights = read_weights(path, FORMAT)
    meta = codec.loads(ReferenceMeta, about, str(path))
    net = ReferenceNet(meta.config)
    fill(net, weights, path)
    return ReferencePolicy(net, meta, f"reference {path.stem}")
