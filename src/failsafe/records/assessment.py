"""What a recovery model sees, and what it says: the window and the verdict."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from failsafe.errors import AssessmentError


@dataclass(frozen=True)
class WindowSpec:
    """What windows a model looks at.

    Attributes:
        views: Names of the cameras, in order.
        history: Control steps H that a window reaches back.
        frames: Moments F with a picture, evenly spread over those steps, the present one the last.
        size: Height and width of a picture, pixels.
    """

    views: tuple[str, ...] = ("front", "side", "hand")
    history: int = 10
    frames: int = 3
    size: int = 96

    @property
    def offsets(self) -> tuple[int, ...]:
        """Control steps of the pictures relative to now, oldest first: (-10, -5, 0)."""
        return (
            tuple(round(x) for x in np.linspace(-self.history, 0, self.frames)) if self.frames > 1 else (0,)
        )


@dataclass(frozen=True)
class Window:
    """The last moments of an episode, as a monitor has them: pictures and proprioception, nothing else.

    There is neither a stage nor a step count in it: both would tell the outcome without a look at the scene.

    Attributes:
        instruction: The task in words.
        spec: Views, moments and size of what follows.
        frames: Pictures, RGB, by view and moment, the oldest first. [V, F, S, S, 3]
        tcp_poses: Tool pose at each of the last H steps and now, robot base frame. [H+1, 7]
        gripper_widths: Measured opening of the gripper at the same moments, metres. [H+1]
        name: Where the window comes from, empty at run time; for an oracle to look it up by.
    """

    instruction: str
    spec: WindowSpec
    frames: UInt8[np.ndarray, "V F S S 3"]
    tcp_poses: Float32[np.ndarray, "H1 7"]
    gripper_widths: Float32[np.ndarray, "H1"]
    name: str = ""

    def check(self, wanted: WindowSpec) -> None:
        """Make sure that a model can look at the window.

        Raises:
            AssessmentError: If views, history, number or size of the pictures are not as wanted, or if
                something in the proprioception is not a finite number.
        """
        for what in ("views", "history", "frames", "size"):
            expected, got = getattr(wanted, what), getattr(self.spec, what)
            if expected != got:
                raise AssessmentError(f"expected a window with {what} {expected}, got {got}")
        size, steps = wanted.size, wanted.history + 1
        shape = (len(wanted.views), wanted.frames, size, size, 3)
        if self.frames.shape != shape:
            raise AssessmentError(f"expected pictures of shape {shape}, got {self.frames.shape}")
        if len(self.tcp_poses) != steps or len(self.gripper_widths) != steps:
            raise AssessmentError(
                f"expected a history of {steps} moments (H + 1), got {len(self.tcp_poses)}: an episode can "
                "be assessed once it is that long"
            )
        if not (np.isfinite(self.tcp_poses).all() and np.isfinite(self.gripper_widths).all()):
            raise AssessmentError("expected finite proprioception, got NaN or infinity in the window")


class Status(str, enum.Enum):
    """Whether there is an answer."""

    OK = "ok"
    UNREADABLE = "unreadable"
    """The model answered, and the answer does not parse."""
    REFUSED = "refused"
    """The model could not look at the window, or failed in doing so."""


@dataclass(frozen=True)
class Assessment:
    """What a model makes of a window.

    Attributes:
        status: Whether there is an answer; where there is none, nothing below but `raw` and `reason` counts.
        failure_probability: How likely it is that the episode fails if nothing is done.
        stage: The sub-task that is going on, in words.
        mode: What kind of failure, with its axis ("translation_x"), empty where there is none.
        mode_probability: How sure the model is of the kind, given that there is a failure.
        actions: 1..K rows `[dx, dy, dz, rx, ry, rz, gripper]` (m, rotation vector in rad, -1 closed to +1
            open), one a control step, the first from the measured tool pose; none where nothing is to do.
        continuation: Actions of the same form that the expert would take next from here if nothing failed; a
            monitor may execute them after a correction, before it hands back.
        frame: Frame of the deltas.
        needs_help: Whether the model takes the failure for one that no action brings back.
        explanation: One sentence.
        raw: The answer as the model gave it.
        reason: Why there is no answer.
        latency: Seconds that the assessment took.
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
        """Failing or not, at even odds."""
        return self.status is Status.OK and self.failure_probability >= 0.5
