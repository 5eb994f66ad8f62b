"""The network of the reference policies: what it sees, where that is, and where the tool is to be led.

One that says keyframes (James and Davison 2022, "Q-attention") finds in each picture where the tool is when
the gripper is next to open or close, makes places in space of that, says how the tool is turned there, and
goes by that alone. Without, a network comes to take where the tool stands still for where it was to go, and
where a cube can be grasped in two ways it grasps it between them, by its edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from failsafe.models.image_encoder import KEYPOINTS, WORDS, ImageEncoder, ImageFeatures, Words, mean_word
from failsafe.models.normalization import Normalization

PROPRIOCEPTION = 3 + 6 + 1
"""Numbers that say where the tool is, how it is held, and how far it is open."""
TURNS = 36
"""Turns of the tool about the vertical that are told apart, see `turn_shares`."""
_AHEAD = 2
"""Of the keyframes, the next one and the one after that lead the tool."""
_CLOSE = 64
"""Numbers that say what is to be seen in a picture where a keyframe is."""


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
        normalization: Scaling of tool positions and gripper openings.
        widths: Channels of the encoder, from stride 2 to stride 16.
        hidden: Width of the trunk.
        keyframes: How many an episode has at most, if it says where the tool is to open, close and end, and
            goes by that alone; else 0.
    """

    views: tuple[str, ...]
    size: int
    chunk: int
    rate_hz: float
    instructions: tuple[str, ...]
    reach: tuple[tuple[float, ...], tuple[float, ...]]
    normalization: Normalization
    widths: tuple[int, ...] = (16, 32, 64, 96)
    hidden: int = 384
    keyframes: int = 0


class Keyframes(NamedTuple):
    """Where a network says that the tool is to open, close and end.

    All of an episode have places of their own, those that are past mean nothing, and which is the next is
    said apart: what says the next one alone says a place between two of them where it does not know.

    Attributes:
        places: Scaled positions, see `Normalization.position`.
        pixels: Columns and rows in each picture, -1 at the left and upper edges and 1 at the others.
        following: Logits of each being the next one.
        turns: Logits of how the tool is turned about the vertical at the next one, see `turn_shares`.
    """

    places: Float[Tensor, "B K 3"]
    pixels: Float[Tensor, "B V K 2"]
    following: Float[Tensor, "B K"]
    turns: Float[Tensor, "B T"]


class TeacherForcing(NamedTuple):
    """What a network that says keyframes is told in training, in place of what it sees.

    It learns apart to see where the keyframes are, and to go there: what goes there by places that are a
    little wrong learns to stop short of them.

    Attributes:
        moved: Columns and rows (half a picture is 1) by which the pictures have been moved.
        places: Where the keyframes are, as in `Keyframes`.
        following: Which is the next one.
        turns: How the tool is turned about the vertical there, radians.
        proprioception: As in `ReferenceNet.forward`, of the tool taken to be a little elsewhere; the actions
            lead from there.
    """

    moved: Float[Tensor, "B V 2"]
    places: Float[Tensor, "B K 3"]
    following: Int64[Tensor, "B"]
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
        count = max(KEYPOINTS, config.keyframes)
        self.encoders = nn.ModuleList(
            ImageEncoder(3, config.widths, 192, fine=config.keyframes > 0, keypoints=count)
            for _ in config.views
        )
        self.words = nn.Embedding(WORDS, Words.size, padding_idx=0)
        hidden, seen = config.hidden, 192 * len(config.views)
        known = seen + PROPRIOCEPTION + Words.size
        if config.keyframes:
            views = len(config.views)
            self.places = _perceptron(config.keyframes * 3 * views + Words.size + 1, config.keyframes * 3)
            self.following = _perceptron(seen + Words.size + 1, config.keyframes)
            self.close = nn.ModuleList(nn.Conv2d(config.widths[1], _CLOSE, 3, 1, 1) for _ in config.views)
            self.turns = _perceptron(seen + _CLOSE * views + Words.size + PROPRIOCEPTION - 3, TURNS)
            known = _AHEAD * 6 + 2 + PROPRIOCEPTION - 3 + Words.size
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
        with torch.no_grad():  # initializes the lazy layers
            for encoder in self.encoders:
                encoder(torch.zeros(1, 3, config.size, config.size))
        self.train()

    def forward(
        self,
        frames: Float[Tensor, "B V 3 S S"],
        proprioception: Float[Tensor, "B P"],
        words: Int64[Tensor, "B W"],
        taught: TeacherForcing | None = None,
    ) -> tuple[Float[Tensor, "B H 7"], Keyframes | None]:
        """Where the tool is to be led, and the next keyframes where the network knows of them.

        Args:
            frames: The pictures.
            proprioception: As `reference.proprioception` gives it.
            words: The instruction's, hashed.
            taught: What a network that says keyframes is told in training.

        Returns:
            Of each row the numbers of `reference.to_numbers`, and the logit of the gripper's being open.
        """
        features = [encoder(frames[:, i]) for i, encoder in enumerate(self.encoders)]
        told = mean_word(self.words, words)
        known, keyframes = [*(view.embedding for view in features), proprioception, told], None
        if self.config.keyframes:
            keyframes = self._keyframes(features, proprioception[:, 3:], told, taught)
            if taught is None:
                places, following = keyframes.places, keyframes.following.argmax(1)
                turns = likeliest_turn(keyframes.turns)
            else:
                places, following, turns = taught.places, taught.following, taught.turns
                proprioception = taught.proprioception
            here, held = proprioception[:, :3], proprioception[:, 3:]
            ahead = following[:, None] + torch.arange(_AHEAD, device=following.device)
            ahead = ahead.clamp(max=self.config.keyframes - 1)[..., None].expand(-1, -1, 3)
            away = 2.0 * (places.gather(1, ahead) - here[:, None])
            near = away / away.norm(dim=2, keepdim=True).clamp(min=1.0)
            turn = (turns - torch.atan2(held[:, 1], held[:, 0]))[:, None]
            known = [away.flatten(1), near.flatten(1), turn.cos(), turn.sin(), held, told]
        rows = self.head(self.trunk(torch.cat(known, dim=1))).float()
        return rows.unflatten(1, (self.config.chunk, 7)), keyframes

    def _keyframes(
        self, features: list[ImageFeatures], held: Tensor, told: Tensor, taught: TeacherForcing | None
    ) -> Keyframes:
        """Where the keyframes are, by the images.

        For places it is not told where the tool is, which at the end of a demonstration is the place itself:
        a network that knows says of any place where it stops that it is the right one.
        """
        count = self.config.keyframes
        pixels = torch.stack([view.keypoints[:, :count] for view in features], dim=1)
        there = pixels if taught is None else pixels - taught.moved[:, :, None]
        blurred = torch.stack([_blur(view.heatmaps[:, :count]) for view in features], dim=1)
        places = self.places(torch.cat([there.flatten(1), blurred.flatten(1), told, held[:, -1:]], dim=1))
        seen = [view.embedding for view in features]
        following = self.following(torch.cat([*seen, told, held[:, -1:]], dim=1)).float()
        # How the tool is to be turned is to be seen at the place itself; by the hand, from how it is turned.
        which = following.argmax(1) if taught is None else taught.following
        each = torch.arange(len(which), device=which.device)
        close = [
            torch.einsum("bchw,bhw->bc", torch.relu(closer(view.cells)), view.heatmaps[each, which].detach())
            for closer, view in zip(self.close, features, strict=True)
        ]
        turns = self.turns(torch.cat([*seen, *close, told, held], dim=1))
        return Keyframes(places.float().unflatten(1, (count, 3)), pixels, following, turns.float())


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
