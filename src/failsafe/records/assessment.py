"""Input and output of a recovery model: the window and the assessment."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from failsafe.errors import AssessmentError, UserError


@dataclass(frozen=True)
class WindowSpec:
    """Format of a model's input windows.

    Attributes:
        views: Names of the cameras, in order.
        history: Number H of past control steps in a window.
        frames: Number F of time steps with images, evenly spaced over the history; the last is the current.
        size: Height and width of an image, pixels.
        source: Height and width at which a simulator renders an image before it is resampled to `size`,
            pixels; 0 renders at `size`. See `failsafe.records.transforms`.
    """

    views: tuple[str, ...] = ("front", "side", "hand")
    history: int = 10
    frames: int = 3
    size: int = 96
    source: int = 0

    def __post_init__(self) -> None:
        """Refuse windows that would take more memory than any model needs.

        Raises:
            UserError: On such a window.
        """
        bounds = {"history": (0, 4096), "frames": (0, 64), "size": (0, 4096), "source": (0, 4096)}
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise UserError(
                    f"expected windows with {name} from {low} to {high}, got {getattr(self, name)}"
                )
        if len(self.views) > 16:
            raise UserError(f"expected windows of at most 16 views, got {len(self.views)}")

    @classmethod
    def from_seconds(
        cls,
        seconds: float,
        control_hz: float,
        views: tuple[str, ...] = ("front", "side", "hand"),
        frames: int = 3,
        size: int = 96,
    ) -> WindowSpec:
        """Return the format of windows that cover a duration.

        A window counts in control steps, which are shorter on a faster robot: 0.5 s are 10 steps at 20 Hz and
        40 at 80 Hz.

        Args:
            seconds: Duration of the history.
            control_hz: Control steps per second of the robot.
            views: Names of the cameras.
            frames: Number of time steps with images.
            size: Height and width of an image, pixels.
        """
        return cls(views, max(1, round(seconds * control_hz)), frames, size)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Control steps of the images relative to the current step, oldest first: (-10, -5, 0)."""
        return (
            tuple(round(x) for x in np.linspace(-self.history, 0, self.frames)) if self.frames > 1 else (0,)
        )


@dataclass(frozen=True)
class Window:
    """The recent past of an episode as a monitor observes it: images and proprioception.

    A window holds neither the stage nor the step count, because a model could infer the outcome from them
    without the scene.

    Attributes:
        instruction: What the robot is told to do, in natural language.
        spec: Format of the arrays below.
        frames: RGB images by view and time, oldest first. [V, F, S, S, 3]
        tcp_poses: Tool pose at each of the last H steps and now, robot base frame. [H+1, 7]
        gripper_widths: Measured gripper opening at the same steps, metres. [H+1]
        name: Name of the sample, by which an oracle finds the truth; empty at run time.
    """

    instruction: str
    spec: WindowSpec
    frames: UInt8[np.ndarray, "V F S S 3"]
    tcp_poses: Float32[np.ndarray, "H1 7"]
    gripper_widths: Float32[np.ndarray, "H1"]
    name: str = ""

    def check(self, wanted: WindowSpec) -> None:
        """Check that the window has the format that a model expects.

        Args:
            wanted: The model's format.

        Raises:
            AssessmentError: If views, history, or the number or size of the images differ, or if the
                proprioception holds NaN or infinity.
        """
        for what in ("views", "history", "frames", "size"):
            expected, got = getattr(wanted, what), getattr(self.spec, what)
            if expected != got:
                raise AssessmentError(f"expected a window with {what} {expected}, got {got}")
        size, steps = wanted.size, wanted.history + 1
        shape = (len(wanted.views), wanted.frames, size, size, 3)
        if self.frames.shape != shape:
            raise AssessmentError(f"expected images of shape {shape}, got {self.frames.shape}")
        if len(self.tcp_poses) != steps or len(self.gripper_widths) != steps:
            raise AssessmentError(
                f"expected a history of {steps} time steps (H + 1), got {len(self.tcp_poses)}: assess the "
                "episode once it is that long"
            )
        if not (np.isfinite(self.tcp_poses).all() and np.isfinite(self.gripper_widths).all()):
            raise AssessmentError("expected finite proprioception, got NaN or infinity in the window")


class Status(str, enum.Enum):
    """Whether an assessment is usable."""

    OK = "ok"
    UNREADABLE = "unreadable"
    """The model's answer does not parse."""
    REFUSED = "refused"
    """The model rejected the window or raised."""


@dataclass(frozen=True)
class Assessment:
    """A model's output for one window.

    Attributes:
        status: Whether the assessment is usable. If not, only `raw` and `reason` below are meaningful.
        failure_probability: Probability that the episode fails without a correction, in [0, 1].
        stage: Name of the current stage.
        mode: Failure mode with its axis ("translation_x"); empty without a failure.
        mode_probability: Probability of that mode given a failure, in [0, 1].
        actions: 1..K rows `[dx, dy, dz, rx, ry, rz, gripper]` (m, rotation vector in rad, -1 closed to +1
            open), one per control step, the first from the measured tool pose; empty: no correction. [K, 7]
        continuation: Actions of the same form that the expert would take next from here if nothing failed; a
            monitor may execute them after a correction, before it hands back.
        frame: Frame of the deltas.
        needs_help: Whether the model considers the failure unrecoverable.
        explanation: One sentence for a person.
        raw: The model's unparsed answer.
        reason: Why the assessment is not usable.
        latency: Time that the assessment took, seconds.
    """

    status: Status = Status.OK
    failure_probability: float = 0.0
    stage: str = ""
    mode: str = ""
    mode_probability: float = 0.0
    actions: tuple[tuple[float, ...], ...] = ()
    continuation: tuple[tuple[float, ...], ...] = ()
    frame: str = "robot_base"
    needs_help: bool = False
    explanation: str = ""
    raw: str = ""
    reason: str = ""
    latency: float = 0.0

    @property
    def failing(self) -> bool:
        """Whether a failure is more likely than not."""
        return self.status is Status.OK and self.failure_probability >= 0.5
