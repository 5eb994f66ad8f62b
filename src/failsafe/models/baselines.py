"""Baseline recovery models, which a learned model has to beat.

All but the oracle use proprioception and the instruction alone, no images.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from failsafe.errors import UserError
from failsafe.models.contract import MAX_ACTIONS, RecoveryModel, require
from failsafe.records import poses
from failsafe.records.assessment import Assessment, Window, WindowSpec
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.poses import Pose
from failsafe.samples.sample import Kind, Sample

MOVING = 0.01
"""Speed of the tool (m/s) below which the tool counts as still."""
GRIPPER_SCALE = 0.25
"""Change of the gripper opening, as a share of its travel, that counts as much as one step of the tool."""
OPEN_SHARE = 0.75
"""A gripper opened wider than this share of its widest opening counts as open."""
AXES = ("translation_x", "translation_y", "translation_z", "rotation_x", "rotation_y", "rotation_z")
_THRESHOLD_ROWS = 2000
"""Largest number of samples that a threshold is fitted to."""


@dataclass(frozen=True)
class Constant:
    """Returns the same assessment for every window.

    Attributes:
        name: Name of the model in tables.
        window_spec: The windows that it takes.
        assessment: What it returns.
    """

    name: str
    window_spec: WindowSpec
    assessment: Assessment

    def assess(self, window: Window) -> Assessment:
        """Return the constant assessment."""
        window.check(self.window_spec)
        return self.assessment


def never(spec: WindowSpec) -> Constant:
    """Make a model that never reports a failure."""
    return Constant("never", spec, Assessment(explanation="It is never failing."))


def always(spec: WindowSpec, mode: str = "", stage: str = "") -> Constant:
    """Make a model that always reports a failure.

    Args:
        spec: The windows that it takes.
        mode: The mode that it reports, for example the most frequent one.
        stage: The stage that it reports.
    """
    assessment = Assessment(
        failure_probability=1.0,
        mode=mode,
        stage=stage,
        mode_probability=1.0 if mode else 0.0,
        explanation="It is always failing.",
    )
    return Constant("always", spec, assessment)


@dataclass(frozen=True)
class RandomGuess:
    """Guesses at random, but always the same for the same window.

    Attributes:
        window_spec: The windows that it takes.
        embodiment: The robot, whose step limits bound the actions.
        modes: Modes to choose from.
        stages: Names of stages to choose from.
        name: Name in tables.
    """

    window_spec: WindowSpec
    embodiment: EmbodimentSpec
    modes: tuple[str, ...] = AXES
    stages: tuple[str, ...] = ("",)
    name: str = "random"

    def assess(self, window: Window) -> Assessment:
        """Draw a guess. Instruction and proprioception seed the random generator."""
        window.check(self.window_spec)
        content = (window.instruction.encode(), window.tcp_poses.tobytes(), window.gripper_widths.tobytes())
        seed = hashlib.sha256(b"\0".join(content)).digest()[:16]
        rng = np.random.default_rng(np.frombuffer(seed, dtype=np.uint32))
        probability = float(rng.random())
        stage = str(rng.choice(self.stages))
        if probability < 0.5:
            return Assessment(failure_probability=probability, stage=stage)
        metres, radians = self.embodiment.step_limits
        total = rng.uniform(-1.0, 1.0, 6) * ([4.0 * metres] * 3 + [4.0 * radians] * 3)
        return Assessment(
            failure_probability=probability,
            stage=stage,
            mode=str(rng.choice(self.modes)),
            mode_probability=1.0 / len(self.modes),
            actions=spread(total, float(rng.choice([-1.0, 1.0])), self.embodiment),
            needs_help=bool(rng.random() < 0.5),
            explanation="A guess.",
        )


@dataclass(frozen=True)
class Reversals:
    """Reports a failure where the tool keeps reversing its direction.

    Attributes:
        window_spec: The windows that it takes.
        control_hz: Control steps per second.
        threshold: Rate of reversals at a failure probability of 0.5.
        name: Name in tables.
    """

    window_spec: WindowSpec
    control_hz: float
    threshold: float = 0.1
    name: str = "direction reversals"

    @classmethod
    def fit(
        cls, samples: Sequence[Sample], windows: Iterable[Window], spec: WindowSpec, control_hz: float
    ) -> Reversals:
        """Set the threshold to the one with the best balanced accuracy on the samples.

        Args:
            samples: Samples to fit the threshold to.
            windows: Their windows, in the same order.
            spec: The windows that the model takes.
            control_hz: Control steps per second.
        """
        rates = np.array([reversal_rate(window, control_hz) for window in windows])
        truth = np.array([sample.failing for sample in samples])
        # At least half a reversal, so that a rate of zero is never a failure.
        return cls(spec, control_hz, max(best_threshold(rates, truth), 0.5 / spec.history))

    def assess(self, window: Window) -> Assessment:
        """Return the probability r / (r + threshold) at a rate r of reversals; no mode, no actions."""
        window.check(self.window_spec)
        rate = reversal_rate(window, self.control_hz)
        return Assessment(
            failure_probability=rate / (rate + self.threshold),
            explanation=f"The tool turned back in {rate:.0%} of its movements.",
        )


def reversal_rate(window: Window, control_hz: float) -> float:
    """Return the share of the tool's movements that reverse the previous one; 0 if it is at rest.

    Args:
        window: The window.
        control_hz: Control steps per second.
    """
    steps = np.diff(window.tcp_poses[:, :3].astype(np.float64), axis=0)
    moving = steps[np.linalg.norm(steps, axis=1) > MOVING / control_hz]
    if len(moving) < 2:
        return 0.0
    return float(np.mean(np.sum(moving[:-1] * moving[1:], axis=1) < 0.0))


@dataclass(frozen=True)
class _Memory:
    """Nominal samples of one instruction: tool poses [N, 7], openings [N], seeds [N], stages; their robot."""

    poses: Float[np.ndarray, "N 7"]
    widths: Float[np.ndarray, "N"]
    seeds: Int[np.ndarray, "N"]
    stages: tuple[str, ...]
    embodiment: EmbodimentSpec

    def nearest(self, pose: Pose, width: float, without_seed: int | None = None) -> tuple[int, float]:
        """Find the nominal sample that is nearest to a tool pose and opening.

        Args:
            pose: Tool pose, base frame.
            width: Gripper opening, metres.
            without_seed: Seed to leave out.

        Returns:
            Index of the sample, and its distance in control steps.
        """
        metres = np.linalg.norm(self.poses[:, :3] - pose[:3], axis=1)
        radians = poses.angles_between(self.poses[:, 3:], np.tile(pose[3:], (len(self.poses), 1)))
        opening = (self.widths - width) / ((GRIPPER_SCALE * self.embodiment.gripper_travel) or np.inf)
        step, turn = self.embodiment.step_limits
        far = np.sqrt((metres / step) ** 2 + (radians / turn) ** 2 + opening**2)
        if without_seed is not None:
            far = np.where(self.seeds == without_seed, np.inf, far)
        index = int(np.argmin(far))
        return index, float(far[index])


@dataclass(frozen=True)
class NearestNominal:
    """Reports a failure far from every nominal sample, and corrects towards the nearest one.

    Distances are in control steps: translation and rotation divided by the robot's limits per step, the
    gripper opening by `GRIPPER_SCALE` of its travel.

    Attributes:
        window_spec: The windows that it takes.
        embodiment: The robot.
        memory: Nominal samples by instruction.
        threshold: Distance at a failure probability of 0.5, control steps.
        name: Name in tables.
    """

    window_spec: WindowSpec
    embodiment: EmbodimentSpec
    memory: Mapping[str, _Memory]
    threshold: float = 1.0
    name: str = "return to nominal"

    @classmethod
    def fit(
        cls,
        samples: Sequence[Sample],
        windows: Iterable[Window],
        spec: WindowSpec,
        embodiment: EmbodimentSpec,
    ) -> NearestNominal:
        """Store the nominal samples, and fit the threshold to all samples.

        For the threshold, each sample is compared with nominal samples of other seeds only, because a nominal
        sample is its own nearest neighbour.

        Args:
            samples: Samples to learn from; those of the split "train" are used.
            windows: Their windows, in the same order.
            spec: The windows that the model takes.
            embodiment: The robot of the samples.

        Raises:
            UserError: If there is no nominal sample among the training samples.
        """
        rows = [
            (sample, _pose(window), float(window.gripper_widths[-1]))
            for sample, window in zip(samples, windows, strict=True)
            if sample.split == "train"
        ]
        nominal: dict[str, list[tuple[Sample, Pose, float]]] = defaultdict(list)
        for row in rows:
            if row[0].kind is Kind.NOMINAL:
                nominal[row[0].instruction].append(row)
        if not nominal:
            raise UserError("expected nominal samples in the split train, got none")
        memory = {
            instruction: _Memory(
                np.stack([pose for _, pose, _ in found]),
                np.array([width for _, _, width in found]),
                np.array([sample.seed for sample, _, _ in found]),
                tuple(sample.stage for sample, _, _ in found),
                embodiment,
            )
            for instruction, found in nominal.items()
        }
        known = [row for row in rows if row[0].instruction in memory]
        known = known[:: max(1, len(known) // _THRESHOLD_ROWS)]
        far = np.array([memory[s.instruction].nearest(pose, width, s.seed)[1] for s, pose, width in known])
        truth = np.array([sample.failing for sample, _, _ in known])
        comparable = np.isfinite(far)
        return cls(spec, embodiment, memory, max(best_threshold(far[comparable], truth[comparable]), 1e-3))

    def assess(self, window: Window) -> Assessment:
        """Return the probability d / (d + threshold) at a distance d, and the correction to the nearest pose.

        Raises:
            AssessmentError: If the window does not match `window_spec`, or its instruction is unknown.
        """
        window.check(self.window_spec)
        memory = self.memory.get(window.instruction)
        require(
            memory is not None, f"expected one of {sorted(self.memory)}, got the task '{window.instruction}'"
        )
        assert memory is not None
        now = _pose(window)
        index, far = memory.nearest(now, float(window.gripper_widths[-1]))
        probability = far / (far + self.threshold)
        if probability < 0.5:
            return Assessment(failure_probability=probability, stage=memory.stages[index])
        back = poses.delta_between(now, memory.poses[index])
        metres, radians = self.embodiment.step_limits
        in_steps = np.abs(back / np.array([metres] * 3 + [radians] * 3))
        is_open = memory.widths[index] >= OPEN_SHARE * memory.widths.max()
        return Assessment(
            failure_probability=probability,
            stage=memory.stages[index],
            mode=AXES[int(np.argmax(in_steps))],
            mode_probability=1.0 / len(AXES),
            actions=spread(back, 1.0 if is_open else -1.0, self.embodiment),
            explanation=f"The nearest nominal sample is {far:.1f} steps away.",
        )


@dataclass(frozen=True)
class Oracle:
    """Returns the ground truth of a window by its name: an upper bound for any model.

    Attributes:
        window_spec: The windows that it takes.
        truth: The sample of each window, by name.
        name: Name in tables.
    """

    window_spec: WindowSpec
    truth: Mapping[str, Sample]
    name: str = "oracle"

    def assess(self, window: Window) -> Assessment:
        """Return the ground truth as an assessment.

        Raises:
            AssessmentError: If the window does not match `window_spec`, or its name is unknown.
        """
        window.check(self.window_spec)
        sample = self.truth.get(window.name)
        require(sample is not None, f"expected a window of a known sample, got '{window.name}'")
        assert sample is not None
        return Assessment(
            failure_probability=1.0 if sample.failing else 0.0,
            stage=sample.stage,
            mode=sample.mode,
            mode_probability=1.0 if sample.mode else 0.0,
            actions=sample.actions,
            needs_help=sample.recoverable is False,
            explanation="Ground truth.",
        )


def fit_baselines(
    samples: Sequence[Sample],
    windows: Iterable[Window],
    spec: WindowSpec,
    truth: Collection[Sample],
    embodiment: EmbodimentSpec,
) -> tuple[RecoveryModel, ...]:
    """Fit all baselines, in the order of the tables.

    Args:
        samples: Training samples; if empty, the two baselines that learn from samples are left out.
        windows: Their windows, in the same order; images may be missing.
        spec: The windows that the baselines take.
        truth: Every sample that the oracle will be queried with.
        embodiment: The robot of the samples.
    """
    seen, fitted = list(windows), ()
    if samples:
        fitted = (
            Reversals.fit(samples, seen, spec, embodiment.control_hz),
            NearestNominal.fit(samples, seen, spec, embodiment),
        )
    modes = [sample.mode for sample in samples if sample.failing and sample.mode != "compound"]
    stages = [sample.stage for sample in samples]
    return (
        never(spec),
        always(spec, _most_frequent(modes), _most_frequent(stages)),
        RandomGuess(spec, embodiment, tuple(sorted(set(modes))) or AXES, tuple(sorted(set(stages))) or ("",)),
        *fitted,
        Oracle(spec, {sample.name: sample for sample in truth}),
    )


def spread(
    total: Float[np.ndarray, "6"], gripper: float, embodiment: EmbodimentSpec
) -> tuple[tuple[float, ...], ...]:
    """Divide a displacement into the fewest equal actions within the limits of a step.

    Args:
        total: Translation (m) and rotation vector (rad). [6]
        gripper: Gripper command of every action, from -1 (closed) to 1 (open).
        embodiment: The robot, with its step limits.

    Returns:
        The actions, at most `MAX_ACTIONS`: a longer displacement is cut short.
    """
    metres, radians = embodiment.step_limits
    length = max(np.linalg.norm(total[:3]) / metres, np.linalg.norm(total[3:]) / radians)
    steps = max(1, int(np.ceil(length - 1e-9)))
    row = (*(total / steps).tolist(), gripper)
    return (row,) * min(steps, MAX_ACTIONS)


def best_threshold(scores: Float[np.ndarray, "n"], truth: Bool[np.ndarray, "n"]) -> float:
    """Return the threshold with the best balanced accuracy, halfway between the neighbouring scores.

    Args:
        scores: Scores; larger means more likely true. [n]
        truth: Ground truth. [n]

    Raises:
        UserError: If all samples are of the same class.
    """
    if truth.all() or not truth.any():
        raise UserError("expected failing and other samples to fit a threshold to, got one class only")
    order = np.argsort(scores, kind="stable")
    ranked, yes = scores[order], truth[order]
    # With the first k rows classified as negative: share of missed positives, share of true negatives.
    missed = np.concatenate([[0.0], np.cumsum(yes)]) / yes.sum()
    right = np.concatenate([[0.0], np.cumsum(~yes)]) / (~yes).sum()
    gain = right - missed
    splits = np.concatenate([[True], np.diff(ranked) > 0, [True]])
    k = int(np.argmax(np.where(splits, gain, -np.inf)))
    if k in (0, len(ranked)):
        return float(ranked[0] if k == 0 else np.nextafter(ranked[-1], np.inf))
    return float((ranked[k - 1] + ranked[k]) / 2.0)


def _pose(window: Window) -> Pose:
    now = window.tcp_poses[-1].astype(np.float64)
    return poses.pose(now[:3], now[3:])


def _most_frequent(names: Sequence[str]) -> str:
    return min(Counter(names).items(), key=lambda item: (-item[1], item[0]), default=("", 0))[0]
