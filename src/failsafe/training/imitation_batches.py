"""Batches of demonstrations for the reference policy's network, augmented."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor

from failsafe.models.image_encoder import word_codes
from failsafe.models.normalization import Normalization
from failsafe.policies.reference import METRES, proprioception, stack_views, to_numbers
from failsafe.policies.reference_net import DOWN, TeacherForcing
from failsafe.records import poses
from failsafe.samples.demonstrations import DemonstrationSet
from failsafe.training.imitation_config import ImitationTraining

_FREE_METRES, _FREE_RADIANS = 0.02, 0.15
"""Perturbation of the tool pose far from a keyframe: factors on a standard normal."""
_KEYFRAME_METRES, _KEYFRAME_RADIANS = 0.002, 0.02
"""The same where the gripper opens or closes, which needs an exact pose."""


@dataclass(frozen=True)
class Batch:
    """Samples to learn from.

    Attributes:
        frames: Images, augmented. [B, V, 3, S, S]
        proprioception: Tool pose and gripper opening, see `failsafe.policies.reference`. [B, P]
        words: Hashed words of the instruction. [B, W]
        actions: Demonstrated actions, see `to_numbers`. With keyframes, relative to the tool pose of
            `teacher`. [B, H, 7]
        tcp_poses: Tool poses, base frame. [B, 7]
        keyframes: Positions of the keyframes, base frame, metres. [B, K, 3]
        cameras: Cameras, see `failsafe.models.camera_geometry.project`. [B, V, 9]
        teacher: Ground truth that replaces predictions in training.
    """

    frames: Float[Tensor, "B V 3 S S"]
    proprioception: Float[Tensor, "B P"]
    words: Int64[Tensor, "B W"]
    actions: Float[Tensor, "B H 7"]
    tcp_poses: Float[Tensor, "B 7"]
    keyframes: Float[Tensor, "B K 3"]
    cameras: Float[Tensor, "B V 9"]
    teacher: TeacherForcing


def batches(
    demonstrations: DemonstrationSet,
    normalization: Normalization,
    settings: ImitationTraining,
    orientation: tuple[float, ...] = DOWN[0],
) -> Iterator[Batch]:
    """Iterate over augmented batches without end, in another order in each epoch.

    Args:
        demonstrations: The samples.
        normalization: Scaling of tool positions and gripper openings.
        settings: Hyperparameters, of which size, shift, keyframes and seed are used.
        orientation: Orientation from which rotations count, see `to_numbers`.
    """
    manifest = demonstrations.manifest
    codes = {task: word_codes(text) for task, text in manifest.instructions.items()}
    cameras = {
        task: np.array([view.numbers for view in demonstrations.cameras(task)], np.float32)
        for task in manifest.cameras
    }
    states = zip(demonstrations.tcp_poses, demonstrations.gripper_widths, strict=True)
    felt = np.stack(
        [proprioception(pose.astype(np.float64), float(width), normalization) for pose, width in states]
    )
    chunks = zip(demonstrations.tcp_poses, demonstrations.actions, strict=True)
    actions = np.stack(
        [_as_numbers(pose.astype(np.float64), rows.astype(np.float64), orientation) for pose, rows in chunks]
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
            wanted, perturbed = actions[rows], felt[rows] + noise
            if settings.keyframes:
                noise[:, :3] = 0.0  # the network predicts positions; their noise is in `perturbed`
                perturbed, wanted = perturb_tool(
                    felt[rows] + noise, wanted, demonstrations.at_keyframe[rows], normalization, rng
                )
            yield Batch(
                frames=_relight(stack_views(_shift(frames, pixels)), rng),
                proprioception=torch.from_numpy(felt[rows] + noise),
                words=torch.from_numpy(np.stack([codes[task] for task in tasks])),
                actions=torch.from_numpy(wanted),
                tcp_poses=torch.from_numpy(demonstrations.tcp_poses[rows]),
                keyframes=torch.from_numpy(places[rows]),
                cameras=torch.from_numpy(np.stack([cameras[task] for task in tasks])),
                teacher=TeacherForcing(
                    moved=torch.from_numpy((2.0 / frames.shape[2] * pixels).astype(np.float32)),
                    places=torch.from_numpy(normalization.position(places[rows]).astype(np.float32)),
                    following=torch.from_numpy(following[rows]),
                    turns=torch.from_numpy(turns[rows]),
                    proprioception=torch.from_numpy(perturbed),
                ),
            )


def perturb_tool(
    felt: Float32[np.ndarray, "B P"],
    actions: Float32[np.ndarray, "B H 7"],
    at_keyframe: Bool[np.ndarray, "B"],
    normalization: Normalization,
    rng: np.random.Generator,
) -> tuple[Float32[np.ndarray, "B P"], Float32[np.ndarray, "B H 7"]]:
    """Move the tool to the side of the demonstrated path, with actions that lead to the same targets.

    A policy leaves the demonstrated path, and a demonstration does not show how to return to it. The tool
    moves by up to 2 cm times a standard normal and turns about the vertical by 0.15 rad times another one.
    Where the gripper opens or closes, only by 2 mm and 0.02 rad: there the pose must be exact.

    Args:
        felt: Proprioception.
        actions: Actions from there, see `to_numbers`.
        at_keyframe: Whether the gripper command of the next keyframe has been given.
        normalization: Scaling of the tool positions.
        rng: Source of randomness.

    Returns:
        Proprioception and actions of the perturbed tool.
    """
    steady = (actions[:, :, 6] == actions[:, :1, 6]).all(1) & ~at_keyframe
    metres = np.where(steady, rng.uniform(0.0, _FREE_METRES, len(felt)), _KEYFRAME_METRES)[:, None]
    metres = (metres * rng.normal(size=(len(felt), 3))).astype(np.float32)
    radians = np.where(steady, _FREE_RADIANS, _KEYFRAME_RADIANS) * rng.normal(size=len(felt))
    radians = radians.astype(np.float32)
    felt, actions = felt.copy(), actions.copy()
    felt[:, :3] += metres * normalization.position_scale
    actions[..., :3] -= (metres / METRES)[:, None]
    cos, sin = np.cos(radians), np.sin(radians)
    for axis in (3, 6):
        x, y = felt[:, axis].copy(), felt[:, axis + 1].copy()
        felt[:, axis], felt[:, axis + 1] = cos * x - sin * y, sin * x + cos * y
    return felt, actions


def _as_numbers(
    tcp_pose: Float[np.ndarray, "7"], rows: Float[np.ndarray, "H 7"], orientation: tuple[float, ...]
) -> Float32[np.ndarray, "H 7"]:
    """Return the commands of the next steps as the network predicts them."""
    targets = [poses.apply_delta(tcp_pose, row[:6]) for row in rows]
    numbers = [
        [*to_numbers(tcp_pose, target, orientation), row[6]]
        for target, row in zip(targets, rows, strict=True)
    ]
    return np.array(numbers, dtype=np.float32)


def _shift(
    frames: UInt8[np.ndarray, "B V S S 3"], pixels: Int64[np.ndarray, "B V 2"]
) -> UInt8[np.ndarray, "B V S S 3"]:
    """Shift every image by its own number of columns and rows, in place."""
    for sample, moves in zip(frames, pixels.tolist(), strict=True):
        for view, (columns, rows) in zip(sample, moves, strict=True):
            view[:] = np.roll(view, (rows, columns), (0, 1))
    return frames


def _relight(frames: Float[Tensor, "B V 3 S S"], rng: np.random.Generator) -> Float[Tensor, "B V 3 S S"]:
    """Change the light of images, in place."""
    b, v = frames.shape[:2]
    gain = rng.uniform(0.8, 1.2, (b, v, 1, 1, 1)) * rng.uniform(0.95, 1.05, (b, v, 3, 1, 1))
    return frames.mul_(torch.from_numpy(gain.astype(np.float32))).clamp_(0.0, 1.0)
