"""The network of the reference policies: image encoders, keyframes and an action head.

With keyframes (James and Davison 2022, "Q-attention") the network locates in each image where the tool is
when the gripper opens or closes next, converts this to positions and to a rotation of the tool, and acts on
these alone. Without keyframes, a network learns to stop wherever demonstrations stop, and averages over the
two ways to grasp a cube.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from failsafe.models.image_encoder import (
    KEYPOINTS,
    WORDS,
    ImageEncoder,
    ImageFeatures,
    Words,
    check_encoders,
    mean_word,
)
from failsafe.models.normalization import Normalization

PROPRIOCEPTION = 3 + 6 + 1
"""Size of the proprioception: position (3), two axes of the orientation (6), opening (1)."""
DOWN = ((0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0))
"""Orientations of a tool that points down, half a turn apart, quaternions wxyz, base frame."""
TURNS = 36
"""Number of bins of the rotation about the vertical axis, see `turn_shares`."""
_AHEAD = 2
"""Number of keyframes ahead that the action head takes."""
_CLOSE = 64
"""Size of the image feature at a keyframe."""


@dataclass(frozen=True)
class ReferenceConfig:
    """Configuration of a reference policy's network.

    Attributes:
        views: Names of the cameras.
        size: Height and width of an image, pixels.
        chunk: Control steps H of a chunk.
        rate_hz: Control steps per second.
        instructions: The instructions that it was trained on.
        reach: Lowest and highest x, y and z (m, base frame) of the tool in the demonstrations.
        normalization: Scaling of tool positions and gripper openings.
        widths: Channels of the encoder, from stride 2 to stride 16.
        hidden: Width of the trunk.
        keyframes: Largest number of keyframes of an episode; 0: no keyframes.
        orientation: Orientation from which predicted rotations count, quaternion wxyz, base frame.
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
    orientation: tuple[float, ...] = DOWN[0]

    def __post_init__(self) -> None:
        """Refuse sizes out of their range.

        Raises:
            ValueError: On such a size.
        """
        check_encoders(len(self.views), self.size, self.widths)
        bounds = {"chunk": (1, 1024), "hidden": (1, 65_536), "keyframes": (0, 256)}
        for name, (least, most) in bounds.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"expected {least} to {most} for '{name}', got {getattr(self, name)}")
        if len(self.orientation) != 4 or not 0.5 < sum(x * x for x in self.orientation) < 2:
            raise ValueError(f"expected an orientation as a unit quaternion, got {self.orientation}")
        if not self.rate_hz > 0 or any(len(corner) != 3 for corner in self.reach):
            raise ValueError(
                f"expected a rate above 0 Hz and corners of x, y and z, got {self.rate_hz} and {self.reach}"
            )


class Keyframes(NamedTuple):
    """Predicted keyframes: where the tool opens, closes and ends.

    Every keyframe of an episode has its own position (those of past ones are ignored), and the index of the
    next one is predicted separately. A network that predicts the next position alone averages over two
    keyframes where it is uncertain.

    Attributes:
        places: Scaled positions, see `Normalization.position`.
        pixels: Columns and rows in each image, from -1 (left, top) to 1 (right, bottom).
        following: Logits of the index of the next keyframe.
        turns: Logits of the rotation about the vertical axis at the next keyframe, see `turn_shares`.
    """

    places: Float[Tensor, "B K 3"]
    pixels: Float[Tensor, "B V K 2"]
    following: Float[Tensor, "B K"]
    turns: Float[Tensor, "B T"]


class TeacherForcing(NamedTuple):
    """Ground-truth keyframes that replace the predicted ones in training.

    Keyframes and actions are learned separately: an action head that learns from inaccurate keyframes learns
    to stop short of them.

    Attributes:
        moved: Translation of the augmented images in columns and rows (half an image is 1).
        places: Positions of the keyframes, as in `Keyframes`.
        following: Index of the next keyframe.
        turns: Rotation of the tool about the vertical axis there, radians.
        proprioception: As in `ReferenceNet.forward`, of a slightly displaced tool; the actions start there.
    """

    moved: Float[Tensor, "B V 2"]
    places: Float[Tensor, "B K 3"]
    following: Int64[Tensor, "B"]
    turns: Float[Tensor, "B"]
    proprioception: Float[Tensor, "B P"]


class ReferenceNet(nn.Module):
    """The network of a reference policy.

    Args:
        config: Its configuration.
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
        teacher: TeacherForcing | None = None,
    ) -> tuple[Float[Tensor, "B H 7"], Keyframes | None]:
        """Predict a chunk of actions, and the keyframes if the network has any.

        Args:
            frames: The images.
            proprioception: As from `reference.proprioception`.
            words: Hashed words of the instruction.
            teacher: Ground-truth keyframes, in training.

        Returns:
            For each row the numbers of `reference.to_numbers` and the logit of an open gripper; the
            keyframes.
        """
        features = [encoder(frames[:, i]) for i, encoder in enumerate(self.encoders)]
        instruction = mean_word(self.words, words)
        known, keyframes = [*(view.embedding for view in features), proprioception, instruction], None
        if self.config.keyframes:
            keyframes = self._keyframes(features, proprioception[:, 3:], instruction, teacher)
            if teacher is None:
                places, following = keyframes.places, keyframes.following.argmax(1)
                turns = likeliest_turn(keyframes.turns)
            else:
                places, following, turns = teacher.places, teacher.following, teacher.turns
                proprioception = teacher.proprioception
            here, held = proprioception[:, :3], proprioception[:, 3:]
            ahead = following[:, None] + torch.arange(_AHEAD, device=following.device)
            ahead = ahead.clamp(max=self.config.keyframes - 1)[..., None].expand(-1, -1, 3)
            away = 2.0 * (places.gather(1, ahead) - here[:, None])
            near = away / away.norm(dim=2, keepdim=True).clamp(min=1.0)
            turn = (turns - torch.atan2(held[:, 1], held[:, 0]))[:, None]
            known = [away.flatten(1), near.flatten(1), turn.cos(), turn.sin(), held, instruction]
        rows = self.head(self.trunk(torch.cat(known, dim=1))).float()
        return rows.unflatten(1, (self.config.chunk, 7)), keyframes

    def _keyframes(
        self, features: list[ImageFeatures], held: Tensor, instruction: Tensor, teacher: TeacherForcing | None
    ) -> Keyframes:
        """Predict the keyframes from the images.

        Positions are predicted without the position of the tool, because at the end of a demonstration the
        two are equal, and a network with this input learns to copy it.
        """
        count = self.config.keyframes
        pixels = torch.stack([view.keypoints[:, :count] for view in features], dim=1)
        there = pixels if teacher is None else pixels - teacher.moved[:, :, None]
        blurred = torch.stack([_blur(view.heatmaps[:, :count]) for view in features], dim=1)
        places = self.places(
            torch.cat([there.flatten(1), blurred.flatten(1), instruction, held[:, -1:]], dim=1)
        )
        seen = [view.embedding for view in features]
        following = self.following(torch.cat([*seen, instruction, held[:, -1:]], dim=1)).float()
        # The rotation is visible at the keyframe; in the hand camera, it is relative to the rotation of the
        # tool.
        which = following.argmax(1) if teacher is None else teacher.following
        each = torch.arange(len(which), device=which.device)
        close = [
            torch.einsum("bchw,bhw->bc", torch.relu(closer(view.cells)), view.heatmaps[each, which].detach())
            for closer, view in zip(self.close, features, strict=True)
        ]
        turns = self.turns(torch.cat([*seen, *close, instruction, held], dim=1))
        return Keyframes(places.float().unflatten(1, (count, 3)), pixels, following, turns.float())


def _blur(shares: Float[Tensor, "B K H W"]) -> Float[Tensor, "B K"]:
    """Return the spread of heatmaps: the standard deviation about their mean, large for hidden keyframes."""
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
    """Encode rotations (radians) as shares of the two nearest of `TURNS` bins.

    Rotations are classified instead of regressed, because the mean of two correct rotations is wrong.
    """
    at = turns / (2 * torch.pi) * TURNS
    low = at.floor()
    shares = at.new_zeros(len(at), TURNS)
    shares.scatter_(1, (low.long() % TURNS)[:, None], (1 - (at - low))[:, None])
    return shares.scatter_(1, ((low.long() + 1) % TURNS)[:, None], (at - low)[:, None])


def likeliest_turn(logits: Float[Tensor, "B T"]) -> Float[Tensor, "B"]:
    """Decode the rotation (radians) from the most likely bin and its two neighbours."""
    best = logits.argmax(1, keepdim=True)
    about = (best + torch.tensor([-1, 0, 1], device=logits.device)) % TURNS
    share = logits.softmax(1).gather(1, about)
    return (best[:, 0] + (share[:, 2] - share[:, 0]) / share.sum(1)) * (2 * torch.pi / TURNS)
