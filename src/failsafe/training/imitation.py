"""Train a reference policy by imitation of demonstrations."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from failsafe.errors import UserError
from failsafe.models import version_1
from failsafe.models.camera_geometry import project
from failsafe.models.normalization import Normalization
from failsafe.policies.reference import (
    ReferenceMeta,
    ReferencePolicy,
    reference_orientation,
    save_reference,
)
from failsafe.policies.reference_net import Keyframes, ReferenceConfig, ReferenceNet, turn_shares
from failsafe.records import codec
from failsafe.records.provenance import collect_provenance
from failsafe.samples.demonstrations import DemonstrationSet
from failsafe.training.allocation import keep_freed_memory
from failsafe.training.imitation_batches import Batch, batches
from failsafe.training.imitation_config import ImitationTraining
from failsafe.training.optimization import Optimization


def train_reference(
    demonstrations: DemonstrationSet,
    settings: ImitationTraining,
    out: Path,
    callback: Callable[[int, float], None],
    base: ReferencePolicy | None = None,
) -> Path:
    """Train a reference policy, or train one further.

    Args:
        demonstrations: What to imitate.
        settings: Hyperparameters.
        out: File of the checkpoint.
        callback: Called every 100 steps with the number of steps done and the mean loss since the last call.
        base: Policy to train further: the network starts with its weights. None to start anew.

    Returns:
        The checkpoint.

    Raises:
        UserError: If there are fewer samples than a batch, the demonstrations are not what `base` takes, or
            `out` exists or has another ending than ".safetensors".
    """
    if len(demonstrations) < settings.batch:
        raise UserError(
            f"expected at least {settings.batch} samples (a batch), got {len(demonstrations)}: take a "
            "smaller batch or more demonstrations"
        )
    if out.suffix != ".safetensors":
        raise UserError(f"expected a checkpoint with the ending .safetensors, got {out}")
    if out.exists():
        raise UserError(
            f"expected a new file for the checkpoint, got {out}, which exists; choose another one"
        )
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(settings.seed)
    keep_freed_memory()
    config = _network_config(demonstrations, settings.keyframes)
    if base is not None:
        config = _continued_config(config, base.meta.config)
        settings = replace(settings, keyframes=config.keyframes > 0)
    net = ReferenceNet(config)
    if base is not None:
        net.load_state_dict(base.net.state_dict())
    cast(Any, net).to(memory_format=torch.channels_last)
    optimization = Optimization(net, settings.rate, settings.decay, settings.average, settings.steps)
    begun, losses, reported = time.monotonic(), 0.0, 0
    drawn = batches(demonstrations, config.normalization, settings, config.orientation)
    for step in range(1, settings.steps + 1):
        batch = next(drawn)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rows, keyframes = net(batch.frames, batch.proprioception, batch.words, batch.teacher)
        loss = imitation_loss(rows, batch.actions)
        if keyframes is not None:
            loss = loss + keyframe_loss(keyframes, batch)
        losses += optimization.step(loss)
        if step % 100 == 0 or step == settings.steps:
            callback(step, losses / (step - reported))
            losses, reported = 0.0, step
    before = base.meta.train_seeds if base else {}
    seeds = {task: {*known} for task, known in before.items()}
    for task, seed in zip(demonstrations.tasks, demonstrations.seeds, strict=True):
        seeds.setdefault(task, set()).add(seed)
    meta = ReferenceMeta(
        config,
        max(map(len, seeds.values()))
        if base
        else settings.demonstrations or demonstrations.manifest.config.episodes,
        {task: tuple(sorted(found)) for task, found in sorted(seeds.items())},
        {
            "settings": codec.dumps(settings),
            "seconds": f"{time.monotonic() - begun:.0f}",
            "commit": collect_provenance().commit,
            **({"base": base.name, "dataset": demonstrations.manifest.config.dataset} if base else {}),
        },
    )
    save_reference(out, optimization.averaged, meta)
    return out


def imitation_loss(predicted: Tensor, actions: Tensor) -> Tensor:
    """Return the distance of predicted actions from the demonstrated ones.

    Poses are compared by smooth L1, the gripper by cross-entropy.

    Args:
        predicted: Actions of the network; the gripper as a logit of being open. [B, H, 7]
        actions: Demonstrated actions; the gripper from -1 (closed) to 1 (open). [B, H, 7]
    """
    pose = F.smooth_l1_loss(predicted[..., :6], actions[..., :6], beta=0.05)
    gripper = F.binary_cross_entropy_with_logits(predicted[..., 6], (actions[..., 6] > 0).float())
    return 5.0 * pose + 0.5 * gripper


def keyframe_loss(predicted: Keyframes, batch: Batch) -> Tensor:
    """Return the distance of predicted keyframes from the demonstrated ones, in space and in the images.

    Args:
        predicted: Keyframes of the network.
        batch: The demonstrated ones.
    """
    pixels, inside = project(batch.cameras, batch.tcp_poses, batch.keyframes)
    pixels = pixels + batch.teacher.moved[:, :, None]
    following = batch.teacher.following
    remaining = torch.arange(predicted.places.shape[1]) >= following[:, None]
    inside = inside & remaining[:, None]
    in_images = F.smooth_l1_loss(predicted.pixels, pixels, reduction="none", beta=0.01).sum(-1)
    in_images = torch.where(inside, in_images, 0.0).sum() / inside.sum().clamp(min=1)
    in_space = F.smooth_l1_loss(predicted.places, batch.teacher.places, reduction="none", beta=0.02).mean(-1)
    in_space = torch.where(remaining, in_space, 0.0).sum() / remaining.sum()
    shares = turn_shares(batch.teacher.turns)
    turn = F.kl_div(predicted.turns.log_softmax(1), shares, reduction="batchmean")
    return 5.0 * in_space + 5.0 * in_images + turn + F.cross_entropy(predicted.following, following)


def _continued_config(found: ReferenceConfig, base: ReferenceConfig) -> ReferenceConfig:
    """Return the configuration of a policy that is trained further, whose tool may reach farther.

    Raises:
        UserError: If the demonstrations do not have the form of those that it was trained on.
    """
    for name in ("views", "size", "chunk", "rate_hz", "normalization"):
        if getattr(found, name) != getattr(base, name):
            raise UserError(
                f"expected demonstrations like those of the policy, with {name} {getattr(base, name)}, got "
                f"{getattr(found, name)}: make them with the policy's settings"
            )
    if unknown := sorted({*found.instructions} - {*base.instructions}):
        raise UserError(
            f"expected demonstrations of what the policy was trained on, got '{unknown[0]}': leave out that "
            "task, or train a new policy"
        )
    if base.keyframes and found.keyframes > base.keyframes:
        raise UserError(
            f"expected episodes of at most {base.keyframes} keyframes, got {found.keyframes}: train a new "
            "policy"
        )
    low, high = zip(found.reach, base.reach, strict=True)
    return replace(base, reach=(tuple(map(min, *low)), tuple(map(max, *high))))


def _network_config(demonstrations: DemonstrationSet, keyframes: bool) -> ReferenceConfig:
    made = demonstrations.manifest.config
    targets = (demonstrations.tcp_poses[:, None, :3] + demonstrations.actions[..., :3]).astype(np.float64)
    low, high = (edge.round(3).tolist() for edge in (targets.min((0, 1)), targets.max((0, 1))))
    embodiment = demonstrations.manifest.embodiment
    return ReferenceConfig(
        views=demonstrations.views,
        size=made.size,
        chunk=made.chunk,
        rate_hz=demonstrations.manifest.control_hz,
        instructions=tuple(sorted(demonstrations.manifest.instructions.values())),
        reach=(tuple(low), tuple(high)),
        normalization=version_1.NORMALIZATION if embodiment is None else Normalization.of(embodiment),
        keyframes=demonstrations.keyframes.shape[1] if keyframes else 0,
        orientation=reference_orientation(demonstrations.tcp_poses),
    )
