"""Train a reference policy: imitation of demonstrations, nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor
from torch.nn import functional as F

from failsafe.errors import UserError
from failsafe.models.image_encoder import word_codes
from failsafe.models.object_localizer import PLACE_SCALE, project
from failsafe.policies.reference import (
    METRES,
    ReferenceMeta,
    proprioception,
    save_reference,
    stack_views,
    to_numbers,
    to_place,
)
from failsafe.policies.reference_net import (
    Keyframes,
    ReferenceConfig,
    ReferenceNet,
    TeacherForcing,
    turn_shares,
)
from failsafe.records import codec, poses
from failsafe.records.provenance import collect_provenance
from failsafe.samples.demonstrations import DemonstrationSet
from failsafe.training.allocation import keep_freed_memory
from failsafe.training.descent import Descent


@dataclass(frozen=True)
class ImitationTraining:
    """How a reference policy is trained.

    Attributes:
        demonstrations: Episodes of each task to learn from, 0 for all that there are.
        steps: Gradient steps.
        batch: Moments in a step.
        rate: Highest learning rate.
        decay: Weight decay.
        average: Share of the running average of the weights kept at every step.
        seed: Seed of everything that is drawn.
        keyframes: Learn to say the next keyframes, and to go by them, see `ReferenceConfig`.
        shift: Pixels by which the pictures of a view are shifted at most.
    """

    demonstrations: int = 0
    steps: int = 3000
    batch: int = 96
    rate: float = 1.5e-3
    decay: float = 0.02
    average: float = 0.998
    seed: int = 0
    keyframes: bool = False
    shift: int = 4

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.demonstrations < 0 or self.steps < 1 or self.batch < 1:
            raise UserError(
                "expected at least 0 demonstrations (for all), 1 step and 1 moment in a batch, got "
                f"{self.demonstrations}, {self.steps} and {self.batch}"
            )
        if self.shift < 0:
            raise UserError(f"expected to shift pictures by 0 pixels or more, got {self.shift}")


def train_reference(
    demonstrations: DemonstrationSet,
    settings: ImitationTraining,
    out: Path,
    tell: Callable[[int, float], None],
) -> Path:
    """Train a reference policy.

    Args:
        demonstrations: What to imitate.
        settings: How.
        out: The checkpoint's file.
        tell: Called now and then with the number of steps done and the mean loss since the last call.

    Returns:
        The checkpoint.

    Raises:
        UserError: If there are fewer moments than a batch, or `out` exists already or has
            another ending.
    """
    if len(demonstrations) < settings.batch:
        raise UserError(f"expected at least {settings.batch} moments, got {len(demonstrations)}")
    if out.suffix != ".safetensors":
        raise UserError(f"expected a checkpoint with the ending .safetensors, got {out}")
    if out.exists():
        raise UserError(f"{out} exists already; choose another --out")
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(settings.seed)
    keep_freed_memory()
    config = _config(demonstrations, settings.keyframes)
    net = ReferenceNet(config)
    cast(Any, net).to(memory_format=torch.channels_last)
    descent = Descent(net, settings.rate, settings.decay, settings.average, settings.steps)
    begun, losses, told = time.monotonic(), 0.0, 0
    drawn = batches(demonstrations, settings)
    for step in range(1, settings.steps + 1):
        batch = next(drawn)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rows, keyframes = net(batch.frames, batch.felt, batch.words, batch.taught)
        loss = imitation_loss(rows, batch.wanted)
        if keyframes is not None:
            loss = loss + keyframe_loss(keyframes, batch)
        losses += descent.step(loss)
        if step % 100 == 0 or step == settings.steps:
            tell(step, losses / (step - told))
            losses, told = 0.0, step
    seeds: dict[str, set[int]] = {}
    for task, seed in zip(demonstrations.tasks, demonstrations.seeds, strict=True):
        seeds.setdefault(task, set()).add(seed)
    meta = ReferenceMeta(
        config,
        settings.demonstrations or demonstrations.manifest.config.episodes,
        {task: tuple(sorted(found)) for task, found in sorted(seeds.items())},
        {
            "settings": codec.dumps(settings),
            "seconds": f"{time.monotonic() - begun:.0f}",
            "commit": collect_provenance().commit,
        },
    )
    save_reference(out, descent.smooth, meta)
    return out


def imitation_loss(said: Tensor, wanted: Tensor) -> Tensor:
    """Distance of what is said from what was done: pose by smooth L1, gripper by cross-entropy."""
    way = F.smooth_l1_loss(said[..., :6], wanted[..., :6], beta=0.05)
    grip = F.binary_cross_entropy_with_logits(said[..., 6], (wanted[..., 6] > 0).float())
    return 5.0 * way + 0.5 * grip


def keyframe_loss(said: Keyframes, batch: Batch) -> Tensor:
    """How far the keyframes that are said are from the demonstration's, in space and in the pictures."""
    pixels, inside = project(batch.cameras, batch.tcp_poses, batch.keyframes)
    pixels = pixels + batch.taught.moved[:, :, None]
    following = batch.taught.following
    ahead = torch.arange(said.places.shape[1]) >= following[:, None]
    inside = inside & ahead[:, None]
    aside = F.smooth_l1_loss(said.pixels, pixels, reduction="none", beta=0.01).sum(-1)
    aside = torch.where(inside, aside, 0.0).sum() / inside.sum().clamp(min=1)
    off = F.smooth_l1_loss(said.places, batch.taught.places, reduction="none", beta=0.02).mean(-1)
    off = torch.where(ahead, off, 0.0).sum() / ahead.sum()
    turned = F.kl_div(said.turns.log_softmax(1), turn_shares(batch.taught.turns), reduction="batchmean")
    return 5.0 * off + 5.0 * aside + turned + F.cross_entropy(said.following, following)


def _config(demonstrations: DemonstrationSet, keyframes: bool) -> ReferenceConfig:
    made = demonstrations.manifest.config
    led = (demonstrations.tcp_poses[:, None, :3] + demonstrations.actions[..., :3]).astype(np.float64)
    low, high = (edge.round(3).tolist() for edge in (led.min((0, 1)), led.max((0, 1))))
    return ReferenceConfig(
        views=made.views,
        size=made.size,
        chunk=made.chunk,
        rate_hz=demonstrations.manifest.control_hz,
        instructions=tuple(sorted(demonstrations.manifest.instructions.values())),
        reach=(tuple(low), tuple(high)),
        keyframes=demonstrations.keyframes.shape[1] if keyframes else 0,
    )


@dataclass(frozen=True)
class Batch:
    """Moments to learn from.

    Attributes:
        frames: Pictures, augmented. [B, V, 3, S, S]
        felt: Proprioception. [B, P]
        words: The instruction's, hashed. [B, W]
        wanted: What was done, see `to_numbers`; by keyframes, from the tool as `taught` tells it. [B, H, 7]
        tcp_poses: Of the tool, base frame. [B, 7]
        keyframes: Places of the keyframes, metres, base frame. [B, K, 3]
        cameras: As `failsafe.models.object_localizer.project` takes them. [B, V, 9]
        taught: What the network is told.
    """

    frames: Tensor
    felt: Tensor
    words: Tensor
    wanted: Tensor
    tcp_poses: Tensor
    keyframes: Tensor
    cameras: Tensor
    taught: TeacherForcing


def batches(demonstrations: DemonstrationSet, settings: ImitationTraining) -> Iterator[Batch]:
    """Batches without end, epoch after epoch in another order, augmented."""
    manifest = demonstrations.manifest
    codes = {task: word_codes(text) for task, text in manifest.instructions.items()}
    cameras = {
        task: np.array([view.numbers for view in views], np.float32)
        for task, views in manifest.cameras.items()
    }
    felt = np.stack(
        [
            proprioception(pose.astype(np.float64), float(width))
            for pose, width in zip(demonstrations.tcp_poses, demonstrations.gripper_widths, strict=True)
        ]
    )
    wanted = np.stack(
        [
            _as_numbers(pose.astype(np.float64), rows.astype(np.float64))
            for pose, rows in zip(demonstrations.tcp_poses, demonstrations.actions, strict=True)
        ]
    )
    places, following = demonstrations.keyframes[..., :3], demonstrations.following
    quaternions = demonstrations.keyframes[np.arange(len(following)), following, 3:].astype(np.float64)
    axes = np.stack([poses.rotate(q, (1.0, 0.0, 0.0)) for q in quaternions])
    turns = np.arctan2(axes[:, 1], axes[:, 0]).astype(np.float32)
    rng = np.random.default_rng(settings.seed)
    while True:
        order = rng.permutation(len(demonstrations))
        for start in range(0, len(order) - settings.batch + 1, settings.batch):
            rows = order[start : start + settings.batch]
            tasks = [demonstrations.tasks[i] for i in rows.tolist()]
            frames = np.stack([demonstrations.frames(i) for i in rows.tolist()])
            pixels = rng.integers(-settings.shift, settings.shift + 1, (*frames.shape[:2], 2))
            noise = rng.normal(0.0, 0.01, felt[rows].shape).astype(np.float32)
            led, there = wanted[rows], felt[rows] + noise
            if settings.keyframes:
                noise[:, :3] = 0.0  # of the place, what is led by it has its own, and knows it
                there, led = _elsewhere(felt[rows] + noise, led, demonstrations.at_keyframe[rows], rng)
            yield Batch(
                frames=_relight(stack_views(_move(frames, pixels)), rng),
                felt=torch.from_numpy(felt[rows] + noise),
                words=torch.from_numpy(np.stack([codes[task] for task in tasks])),
                wanted=torch.from_numpy(led),
                tcp_poses=torch.from_numpy(demonstrations.tcp_poses[rows]),
                keyframes=torch.from_numpy(places[rows]),
                cameras=torch.from_numpy(np.stack([cameras[task] for task in tasks])),
                taught=TeacherForcing(
                    moved=torch.from_numpy((2.0 / frames.shape[2] * pixels).astype(np.float32)),
                    places=torch.from_numpy(to_place(places[rows]).astype(np.float32)),
                    following=torch.from_numpy(following[rows]),
                    turns=torch.from_numpy(turns[rows]),
                    proprioception=torch.from_numpy(there),
                ),
            )


def _elsewhere(
    felt: Float32[np.ndarray, "B P"],
    wanted: Float32[np.ndarray, "B H 7"],
    at_keyframe: Bool[np.ndarray, "B"],
    rng: np.random.Generator,
) -> tuple[Float32[np.ndarray, "B P"], Float32[np.ndarray, "B H 7"]]:
    """The same moments with the tool a little beside where it was, and led to the same poses from there.

    What a demonstration never shows, to be beside the way, is what a policy comes to. The tool is moved by
    up to 2 cm times a normal and turned about the vertical by 0.15 rad times another. Where the gripper is
    told to open or close, or has been and is about to, it has to be at the right place: there by 2 mm and
    0.02 rad only.
    """
    steady = (wanted[:, :, 6] == wanted[:, :1, 6]).all(1) & ~at_keyframe
    metres = np.where(steady, rng.uniform(0.0, 0.02, len(felt)), 0.002)[:, None]
    metres = (metres * rng.normal(size=(len(felt), 3))).astype(np.float32)
    radians = (np.where(steady, 0.15, 0.02) * rng.normal(size=len(felt))).astype(np.float32)
    felt, wanted = felt.copy(), wanted.copy()
    felt[:, :3] += metres * PLACE_SCALE
    wanted[..., :3] -= (metres / METRES)[:, None]
    cos, sin = np.cos(radians), np.sin(radians)
    for axis in (3, 6):
        x, y = felt[:, axis].copy(), felt[:, axis + 1].copy()
        felt[:, axis], felt[:, axis + 1] = cos * x - sin * y, sin * x + cos * y
    return felt, wanted


def _as_numbers(
    tcp_pose: Float[np.ndarray, "7"], rows: Float[np.ndarray, "H 7"]
) -> Float32[np.ndarray, "H 7"]:
    """What the commands of the next steps are to the network."""
    said = [[*to_numbers(tcp_pose, poses.apply_delta(tcp_pose, row[:6])), row[6]] for row in rows]
    return np.array(said, dtype=np.float32)


def _move(frames: UInt8[np.ndarray, "B V S S 3"], pixels: np.ndarray) -> UInt8[np.ndarray, "B V S S 3"]:
    """Every picture moved by its own columns and rows."""
    for sample, moves in zip(frames, pixels.tolist(), strict=True):
        for view, (columns, rows) in zip(sample, moves, strict=True):
            view[:] = np.roll(view, (rows, columns), (0, 1))
    return frames


def _relight(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Pictures in other light."""
    b, v = frames.shape[:2]
    gain = rng.uniform(0.8, 1.2, (b, v, 1, 1, 1)) * rng.uniform(0.95, 1.05, (b, v, 3, 1, 1))
    return frames.mul_(torch.from_numpy(gain.astype(np.float32))).clamp_(0.0, 1.0)
