"""Baselines behind the contract of a recovery model: what anything that learns has to beat.

Except for the oracle they look at proprioception and words alone, never at a picture.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from failsafe.errors import UserError
from failsafe.models.contract import MAX_ACTIONS, MAX_ROTATION, MAX_TRANSLATION, RecoveryModel, require
from failsafe.records import poses
from failsafe.records.assessment import Assessment, Window, WindowSpec
from failsafe.records.poses import Pose
from failsafe.samples.sample import Kind, Sample

MOVING = 0.0005
"""Metres a control step below which the tool stands still and has no direction."""
GRIPPER_SCALE = 0.02
"""Metres of opening that count as much as one step's translation or rotation."""
OPEN_SHARE = 0.75
"""Share of the widest opening from which on a gripper is open and holds nothing."""
AXES = ("translation_x", "translation_y", "translation_z", "rotation_x", "rotation_y", "rotation_z")
_THRESHOLD_ROWS = 2000
"""Moments that a threshold is set on; more would not move it."""


@dataclass(frozen=True)
class Constant:
    """Gives one verdict on every window."""

    name: str
    window_spec: WindowSpec
    assessment: Assessment

    def assess(self, window: Window) -> Assessment:
        """The verdict, whatever the window shows."""
        window.check(self.window_spec)
        return self.assessment


def never(spec: WindowSpec) -> Constant:
    """Sees no failure, ever."""
    return Constant("never", spec, Assessment(explanation="It is never failing."))


def always(spec: WindowSpec, mode: str = "", stage: str = "") -> Constant:
    """Sees a failure in everything, of the mode and in the stage that are given: the most frequent ones."""
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
    """Guesses; the same window gives the same guess.

    Attributes:
        window_spec: The windows that it takes.
        modes: The kinds of failure to choose from.
        stages: The words for sub-tasks to choose from.
        name: What it is called in tables.
    """

    window_spec: WindowSpec
    modes: tuple[str, ...] = AXES
    stages: tuple[str, ...] = ("",)
    name: str = "random"

    def assess(self, window: Window) -> Assessment:
        """A guess, drawn from a stream that the window's proprioception and words seed."""
        window.check(self.window_spec)
        content = (window.instruction.encode(), window.tcp_poses.tobytes(), window.gripper_widths.tobytes())
        seed = hashlib.sha256(b"\0".join(content)).digest()[:16]
        rng = np.random.default_rng(np.frombuffer(seed, dtype=np.uint32))
        probability = float(rng.random())
        stage = str(rng.choice(self.stages))
        if probability < 0.5:
            return Assessment(failure_probability=probability, stage=stage)
        total = rng.uniform(-1.0, 1.0, 6) * ([4.0 * MAX_TRANSLATION] * 3 + [4.0 * MAX_ROTATION] * 3)
        return Assessment(
            failure_probability=probability,
            stage=stage,
            mode=str(rng.choice(self.modes)),
            mode_probability=1.0 / len(self.modes),
            actions=spread(total, float(rng.choice([-1.0, 1.0]))),
            needs_help=bool(rng.random() < 0.5),
            explanation="A guess.",
        )


@dataclass(frozen=True)
class Reversals:
    """Takes a tool that keeps turning back for one that is failing.

    Attributes:
        window_spec: The windows that it takes.
        threshold: Rate of reversals at even odds.
        name: What it is called in tables.
    """

    window_spec: WindowSpec
    threshold: float = 0.1
    name: str = "direction reversals"

    @classmethod
    def fit(cls, samples: Sequence[Sample], windows: Iterable[Window], spec: WindowSpec) -> Reversals:
        """Set the threshold to where the balanced accuracy on some samples is best.

        Args:
            samples: Moments to learn from.
            windows: Their windows, in the same order.
            spec: The windows that it shall take.
        """
        rates = np.array([reversal_rate(window) for window in windows])
        truth = np.array([sample.failing for sample in samples])
        # Half a reversal where none is best: at a rate of zero nothing has been seen.
        return cls(spec, max(best_threshold(rates, truth), 0.5 / spec.history))

    def assess(self, window: Window) -> Assessment:
        """Probability r / (r + threshold) at a rate r of reversals; no mode, no actions."""
        window.check(self.window_spec)
        rate = reversal_rate(window)
        return Assessment(
            failure_probability=rate / (rate + self.threshold),
            explanation=f"The tool turned back in {rate:.0%} of its movements.",
        )


def reversal_rate(window: Window) -> float:
    """Share of the tool's movements, step to step, that go against the one before; 0 where it rests."""
    velocities = np.diff(window.tcp_poses[:, :3].astype(np.float64), axis=0)
    moving = velocities[np.linalg.norm(velocities, axis=1) > MOVING]
    if len(moving) < 2:
        return 0.0
    return float(np.mean(np.sum(moving[:-1] * moving[1:], axis=1) < 0.0))


@dataclass(frozen=True)
class _Memory:
    """Nominal moments of one instruction: tool poses [N, 7], openings [N], seeds [N], stages."""

    poses: Float[np.ndarray, "N 7"]
    widths: Float[np.ndarray, "N"]
    seeds: Int[np.ndarray, "N"]
    stages: tuple[str, ...]

    def nearest(self, pose: Pose, width: float, without_seed: int | None = None) -> tuple[int, float]:
        """The nominal moment next to a tool pose and opening, and how far away it is, in control steps."""
        metres = np.linalg.norm(self.poses[:, :3] - pose[:3], axis=1)
        radians = poses.angles_between(self.poses[:, 3:], np.tile(pose[3:], (len(self.poses), 1)))
        opening = (self.widths - width) / GRIPPER_SCALE
        far = np.sqrt((metres / MAX_TRANSLATION) ** 2 + (radians / MAX_ROTATION) ** 2 + opening**2)
        if without_seed is not None:
            far = np.where(self.seeds == without_seed, np.inf, far)
        index = int(np.argmin(far))
        return index, float(far[index])


@dataclass(frozen=True)
class NearestNominal:
    """Takes what is far from every moment of a good episode for failing, and leads back to the nearest.

    Distance is counted in control steps: translation and rotation by their limits a step, the gripper's
    opening by `GRIPPER_SCALE`.

    Attributes:
        window_spec: The windows that it takes.
        memory: Nominal moments by instruction.
        threshold: Distance at even odds.
        name: What it is called in tables.
    """

    window_spec: WindowSpec
    memory: Mapping[str, _Memory]
    threshold: float = 1.0
    name: str = "return to nominal"

    @classmethod
    def fit(cls, samples: Sequence[Sample], windows: Iterable[Window], spec: WindowSpec) -> NearestNominal:
        """Remember the nominal moments among some samples, and set the threshold on all of them.

        For the threshold every moment is compared with those of other seeds only; else the nominal ones
        would be their own nearest.

        Args:
            samples: Moments to learn from; those of the split "train" are used.
            windows: Their windows, in the same order.
            spec: The windows that it shall take.

        Raises:
            UserError: If there is no nominal moment among the training samples.
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
            raise UserError("expected nominal moments among the training samples, got none to return to")
        memory = {
            instruction: _Memory(
                np.stack([pose for _, pose, _ in found]),
                np.array([width for _, _, width in found]),
                np.array([sample.seed for sample, _, _ in found]),
                tuple(sample.stage for sample, _, _ in found),
            )
            for instruction, found in nominal.items()
        }
        known = [row for row in rows if row[0].instruction in memory]
        known = known[:: max(1, len(known) // _THRESHOLD_ROWS)]
        far = np.array([memory[s.instruction].nearest(pose, width, s.seed)[1] for s, pose, width in known])
        truth = np.array([sample.failing for sample, _, _ in known])
        comparable = np.isfinite(far)
        return cls(spec, memory, max(best_threshold(far[comparable], truth[comparable]), 1e-3))

    def assess(self, window: Window) -> Assessment:
        """Probability d / (d + threshold) at a distance d, and the way back to the nearest nominal pose.

        Raises:
            AssessmentError: If the window is not as wanted, or its instruction was not in what was learned.
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
        is_open = memory.widths[index] >= OPEN_SHARE * memory.widths.max()
        return Assessment(
            failure_probability=probability,
            stage=memory.stages[index],
            mode=AXES[int(np.argmax(np.abs(back / _LIMITS)))],
            mode_probability=1.0 / len(AXES),
            actions=spread(back, 1.0 if is_open else -1.0),
            explanation=f"The nearest nominal moment is {far:.1f} steps away.",
        )


@dataclass(frozen=True)
class Oracle:
    """Looks the truth up by the window's name: the best that any model could do.

    Attributes:
        window_spec: The windows that it takes.
        truth: What is true, by name of the window.
        name: What it is called in tables.
    """

    window_spec: WindowSpec
    truth: Mapping[str, Sample]
    name: str = "oracle"

    def assess(self, window: Window) -> Assessment:
        """The truth as a verdict.

        Raises:
            AssessmentError: If the window is not as wanted, or nothing is known of its name.
        """
        window.check(self.window_spec)
        sample = self.truth.get(window.name)
        require(sample is not None, f"expected a window whose truth is known, got '{window.name}'")
        assert sample is not None
        return Assessment(
            failure_probability=1.0 if sample.failing else 0.0,
            stage=sample.stage,
            mode=sample.mode,
            mode_probability=1.0 if sample.mode else 0.0,
            actions=sample.actions,
            needs_help=sample.recoverable is False,
            explanation="As the trace has it.",
        )


def fit_baselines(
    samples: Sequence[Sample], windows: Iterable[Window], spec: WindowSpec, truth: Collection[Sample]
) -> tuple[RecoveryModel, ...]:
    """All baselines, in the order of the tables.

    Args:
        samples: Training samples; with none, the two baselines that learn from them are left out.
        windows: Their windows, in the same order, without pictures: nothing here looks at them.
        spec: The windows that the baselines shall take.
        truth: Every sample that the oracle will be asked about.
    """
    seen = list(windows)
    fitted = (Reversals.fit(samples, seen, spec), NearestNominal.fit(samples, seen, spec)) if samples else ()
    modes = [sample.mode for sample in samples if sample.failing and sample.mode != "compound"]
    stages = [sample.stage for sample in samples]
    return (
        never(spec),
        always(spec, _commonest(modes), _commonest(stages)),
        RandomGuess(spec, tuple(sorted(set(modes))) or AXES, tuple(sorted(set(stages))) or ("",)),
        *fitted,
        Oracle(spec, {sample.name: sample for sample in truth}),
    )


def spread(total: Float[np.ndarray, "6"], gripper: float) -> tuple[tuple[float, ...], ...]:
    """A displacement (m, rotation vector in rad) as the fewest equal actions within the limits of a step.

    Where more than `MAX_ACTIONS` would be needed, the rest of the way is left out.
    """
    length = max(np.linalg.norm(total[:3]) / MAX_TRANSLATION, np.linalg.norm(total[3:]) / MAX_ROTATION)
    steps = max(1, int(np.ceil(length - 1e-9)))
    row = (*(total / steps).tolist(), gripper)
    return (row,) * min(steps, MAX_ACTIONS)


def best_threshold(scores: Float[np.ndarray, "n"], truth: Bool[np.ndarray, "n"]) -> float:
    """The score from which on to say yes for the best balanced accuracy, halfway between its neighbours.

    Raises:
        UserError: If all rows are of one sort.
    """
    if truth.all() or not truth.any():
        raise UserError("expected failing and other moments to set a threshold on, got one sort alone")
    order = np.argsort(scores, kind="stable")
    ranked, yes = scores[order], truth[order]
    # With the first k rows called "no": what is missed of the failing ones, what is right of the others.
    missed = np.concatenate([[0.0], np.cumsum(yes)]) / yes.sum()
    right = np.concatenate([[0.0], np.cumsum(~yes)]) / (~yes).sum()
    gain = right - missed
    splits = np.concatenate([[True], np.diff(ranked) > 0, [True]])
    k = int(np.argmax(np.where(splits, gain, -np.inf)))
    if k in (0, len(ranked)):
        return float(ranked[0] if k == 0 else np.nextafter(ranked[-1], np.inf))
    return float((ranked[k - 1] + ranked[k]) / 2.0)


_LIMITS = np.array([MAX_TRANSLATION] * 3 + [MAX_ROTATION] * 3)


def _pose(window: Window) -> Pose:
    now = window.tcp_poses[-1].astype(np.float64)
    return poses.pose(now[:3], now[3:])


def _commonest(words: Sequence[str]) -> str:
    return min(Counter(words).items(), key=lambda item: (-item[1], item[0]), default=("", 0))[0]
