"""Reference policies: image-based, language-conditioned, action-chunking, trained by imitation alone.

They fail as learned policies fail: nothing is injected. One network for all its tasks looks at the present
pictures, the tool's pose and opening and the words of the instruction, and says where the tool is to be led
in the next H control steps (action chunking: Zhao et al. 2023, "Learning fine-grained bimanual manipulation
with low-cost hardware"). Places are said from where the tool is: then it comes nearer with every look.
Orientations are said in the base frame, and the tool is led to no place where no demonstration has been: else
errors add up from one chunk to the next, until it lies on its side or has left the table.

One that says keyframes (James and Davison 2022, "Q-attention") finds in each picture where the tool is when
the gripper is next to open or close, makes places in space of that, says how the tool is turned there, and
goes by that alone. Without, a network comes to take where the tool stands still for where it was to go, and
where a cube can be grasped in two ways it grasps it between them, by its edges.
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
from failsafe.models.encoder import WORDS, Eye, Look, word_codes
from failsafe.models.finder import MIDDLE, PLACE_SCALE
from failsafe.models.weights import fill, read_weights, save_weights
from failsafe.policies.contract import ActionSpace, PolicyObservation
from failsafe.records import codec, poses
from failsafe.records.poses import Pose

FORMAT = "failsafe-reference/2"
CHECKPOINTS = Path(__file__).parent / "checkpoints"
STRENGTHS = ("weak", "medium", "strong")
"""Trained on few, some and many demonstrations."""
METRES = 0.1
_SCALE = np.array([METRES] * 3 + [0.5] * 3)
"""What displacements (m) and turns (rad) are divided by, so that they are about one."""
_DOWN = (0.0, 1.0, 0.0, 0.0)
"""The orientation (quaternion wxyz, base frame) that turns are counted from: of a tool that points down."""
_PROPRIOCEPTION = 3 + 6 + 1
KEYFRAMES = 2
"""Places said ahead: where the gripper is next told to open or close, and where after that, or the end."""
_CLOSE = 64
"""Numbers that say what is to be seen in a picture where a keyframe is."""
TURNS = 36
"""Turns of the tool about the vertical that are told apart, see `turn_shares`."""


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
        keyframes: It says where the tool is next to open, close or end as well, and goes by that alone.
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
        turns: Logits of how it is turned about the vertical at the first, see `turn_shares`.
    """

    places: Float[Tensor, "B K 3"]
    pixels: Float[Tensor, "B V K 2"]
    turns: Float[Tensor, "B T"]


class Taught(NamedTuple):
    """What a network that says keyframes is told in training, in place of what it sees.

    It learns apart to see where the keyframes are, and to go there: what goes there by places that are a
    little wrong learns to stop short of them.

    Attributes:
        moved: Columns and rows (half a picture is 1) by which the pictures have been moved.
        places: Where the keyframes are, see `to_place`.
        turns: How the tool is turned about the vertical at the first, radians.
        proprioception: Of the tool, taken to be a little elsewhere; the actions lead from there.
    """

    moved: Float[Tensor, "B V 2"]
    places: Float[Tensor, "B K 3"]
    turns: Float[Tensor, "B"]
    proprioception: Float[Tensor, "B P"]


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
        hidden, seen = config.hidden, 192 * len(config.views)
        known = seen + _PROPRIOCEPTION + 32
        if config.keyframes:
            views = len(config.views)
            self.places = _perceptron(KEYFRAMES * 3 * views + 32 + 1, KEYFRAMES * 3)
            self.close = nn.ModuleList(nn.Conv2d(config.widths[1], _CLOSE, 3, 1, 1) for _ in config.views)
            self.turns = _perceptron(seen + _CLOSE * views + 32 + _PROPRIOCEPTION - 3, TURNS)
            known = KEYFRAMES * 6 + 2 + _PROPRIOCEPTION - 3 + 32
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
        taught: Taught | None = None,
    ) -> tuple[Float[Tensor, "B H 7"], Keyframes | None]:
        """Where the tool is to be led, and the next keyframes where the network knows of them.

        Args:
            frames: The pictures.
            proprioception: As the function of that name gives it.
            words: The instruction's, hashed.
            taught: What a network that says keyframes is told in training.

        Returns:
            Of each row the numbers of `to_numbers`, and the logit of the gripper's being open.
        """
        looks = [eye(frames[:, i]) for i, eye in enumerate(self.eyes)]
        count = (words > 0).sum(1, keepdim=True).clamp(min=1)
        told = self.words(words).sum(1) / count
        known, keyframes = [*(look.seen for look in looks), proprioception, told], None
        if self.config.keyframes:
            keyframes = self._keyframes(looks, proprioception[:, 3:], told, taught)
            if taught is None:
                places, turns = keyframes.places, likeliest_turn(keyframes.turns)
            else:
                places, turns, proprioception = taught.places, taught.turns, taught.proprioception
            here, held = proprioception[:, :3], proprioception[:, 3:]
            away = 2.0 * (places - here[:, None])
            near = away / away.norm(dim=2, keepdim=True).clamp(min=1.0)
            turn = (turns - torch.atan2(held[:, 1], held[:, 0]))[:, None]
            known = [away.flatten(1), near.flatten(1), turn.cos(), turn.sin(), held, told]
        rows = self.head(self.trunk(torch.cat(known, dim=1))).float()
        return rows.unflatten(1, (self.config.chunk, 7)), keyframes

    def _keyframes(self, looks: list[Look], held: Tensor, told: Tensor, taught: Taught | None) -> Keyframes:
        """Where the keyframes are, by what the eyes see.

        Not told where the tool is, which at the end of a demonstration is the place itself: a network that
        knows says of any place where it stops that it is the right one.
        """
        pixels = torch.stack([look.places[:, :KEYFRAMES] for look in looks], dim=1)
        there = pixels if taught is None else pixels - taught.moved[:, :, None]
        blurred = torch.stack([_blur(look.shares[:, :KEYFRAMES]) for look in looks], dim=1)
        places = self.places(torch.cat([there.flatten(1), blurred.flatten(1), told, held[:, -1:]], dim=1))
        # How the tool is to be turned is to be seen at the place itself.
        close = [
            torch.einsum("bchw,bhw->bc", torch.relu(closer(look.cells)), look.shares[:, 0].detach())
            for closer, look in zip(self.close, looks, strict=True)
        ]
        turns = self.turns(torch.cat([*(look.seen for look in looks), *close, told, held], dim=1))
        return Keyframes(places.float().unflatten(1, (KEYFRAMES, 3)), pixels, turns.float())


def _blur(shares: Float[Tensor, "B K H W"]) -> Float[Tensor, "B K"]:
    """Standard deviation of places about their mean: a place that is hidden is anywhere."""
    spread = torch.zeros(shares.shape[:2], device=shares.device)
    for axis in (2, 3):
        along = shares.sum(axis)
        at = torch.linspace(-1, 1, along.shape[2], device=shares.device)
        middle = (along * at).sum(2, keepdim=True)
        spread = spread + (along * (at - middle) ** 2).sum(2)
    return (spread + 1e-6).sqrt()


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    layers = [nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, outputs)]
    return nn.Sequential(*layers)


def turn_shares(turns: Float[Tensor, "B"]) -> Float[Tensor, "B T"]:
    """Turns (radians) as shares of the two directions on either side, of `TURNS` all around.

    A mean of two turns that are both right is wrong, so they are told apart, not measured.
    """
    at = turns / (2 * torch.pi) * TURNS
    low = at.floor()
    shares = at.new_zeros(len(at), TURNS)
    shares.scatter_(1, (low.long() % TURNS)[:, None], (1 - (at - low))[:, None])
    return shares.scatter_(1, ((low.long() + 1) % TURNS)[:, None], (at - low)[:, None])


def likeliest_turn(logits: Float[Tensor, "B T"]) -> Float[Tensor, "B"]:
    """The turn (radians) at the likeliest of the directions and its two neighbours."""
    best = logits.argmax(1, keepdim=True)
    about = (best + torch.tensor([-1, 0, 1], device=logits.device)) % TURNS
    share = logits.softmax(1).gather(1, about)
    return (best[:, 0] + (share[:, 2] - share[:, 0]) / share.sum(1)) * (2 * torch.pi / TURNS)


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
