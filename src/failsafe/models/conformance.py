"""The conformance suite for recovery models.

Each rule is a function whose docstring states the rule. It returns a summary of what was observed, or raises
`Broken` with what was expected and what was observed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from failsafe.errors import AssessmentError
from failsafe.models.contract import RecoveryModel, assess_safely, embodiment_of, flaw
from failsafe.records.assessment import Assessment, Status, Window, WindowSpec
from failsafe.simulators.conformance import CheckResult, check_rule
from failsafe.simulators.conformance.bench import Broken

FRAMES = ("robot_base", "tcp")
"""Valid frames of the actions."""
TOLERANCE = 1e-6
"""Tolerance for rounding, metres or radians."""
PATIENCE = 60.0
"""Longest useful latency of an assessment, seconds."""


@dataclass(frozen=True)
class Subject:
    """A model under test, and windows to test it on.

    Attributes:
        model: The model.
        windows: At least one. Different kinds of windows find more violations.
        repeatable: Whether the same window must give the same assessment.
    """

    model: RecoveryModel
    windows: tuple[Window, ...]
    repeatable: bool = True


def check_model(
    model: RecoveryModel, windows: Sequence[Window], repeatable: bool = True
) -> tuple[CheckResult, ...]:
    """Check every rule on a recovery model.

    Args:
        model: The model.
        windows: At least one window that matches the model's `window_spec` and has a known instruction.
        repeatable: Whether the same window must give the same assessment; False for a model that samples.

    Returns:
        One result for each rule. A rule that raises another exception counts as violated.

    Raises:
        ValueError: If there are no windows.
    """
    if not windows:
        raise ValueError("expected at least one window to try the model on")
    results: list[CheckResult] = []
    for rule in RULES:
        # Each rule gets fresh copies, because a model may write into its windows.
        case = Subject(model, tuple(copy.deepcopy(window) for window in windows), repeatable)
        results.append(check_rule(rule, case))
    return tuple(results)


def the_name_and_the_spec_are_sane(case: Subject) -> str:
    """The name and the window specification are valid."""
    missing = [name for name in ("name", "window_spec", "assess") if not hasattr(case.model, name)]
    if missing:
        raise Broken(f"expected all of failsafe.models.contract.RecoveryModel, missing: {', '.join(missing)}")
    name, spec = case.model.name, case.model.window_spec
    if not name.strip() or name != name.strip() or "\n" in name:
        raise Broken(f"expected a name of one line, got {name!r}")
    if not spec.views or len(set(spec.views)) < len(spec.views):
        raise Broken(f"expected at least one view, and each once, got {spec.views}")
    if spec.history < 1 or not 1 <= spec.frames <= spec.history + 1 or spec.size < 1:
        raise Broken(f"expected a history, 1 to history + 1 frames, and a size, got {spec}")
    for window in case.windows:
        window.check(spec)
    return (
        f"{name}: {', '.join(spec.views)}; {spec.frames} frames of {spec.size} px over {spec.history} steps"
    )


def assessments_are_numbers_in_range(case: Subject) -> str:
    """Probabilities are within 0 and 1, actions at most 24 rows of 7 finite numbers, texts are strings."""
    for window in case.windows:
        _expect_sound(case.model.assess(window))
    return f"{len(case.windows)} windows"


def actions_keep_the_step_limits(case: Subject) -> str:
    """An action keeps the step limits of the model's robot; the gripper is from -1 to 1."""
    most, most_turn = embodiment_of(case.model).step_limits
    longest, turn, rows = 0.0, 0.0, 0
    for window in case.windows:
        for row in case.model.assess(window).actions:
            metres, radians = math.hypot(*row[:3]), math.hypot(*row[3:6])
            if metres > most + TOLERANCE or radians > most_turn + TOLERANCE:
                raise Broken(
                    f"expected at most {most} m and {most_turn} rad in one action, got "
                    f"{metres:.4f} m and {radians:.4f} rad"
                )
            if not -1.0 <= row[6] <= 1.0:
                raise Broken(f"expected the gripper from -1 (closed) to 1 (open), got {row[6]}")
            longest, turn, rows = max(longest, metres), max(turn, radians), rows + 1
    return f"{rows} actions, at most {1000 * longest:.1f} mm and {turn:.3f} rad"


def the_frame_is_stated(case: Subject) -> str:
    """The frame of the actions is a valid one."""
    frames = {case.model.assess(window).frame for window in case.windows}
    if not frames <= set(FRAMES):
        raise Broken(f"expected one of the frames {', '.join(FRAMES)}, got {', '.join(sorted(frames))}")
    return ", ".join(sorted(frames))


def the_same_window_gives_the_same_assessment(case: Subject) -> str:
    """An assessment depends on the window alone, not on earlier windows; its latency may differ."""
    if not case.repeatable:
        return "not tried: the model is declared random"
    first = [_timeless(case.model.assess(window)) for window in case.windows]
    again = [_timeless(case.model.assess(window)) for window in reversed(case.windows)]
    for number, (a, b) in enumerate(zip(first, reversed(again), strict=True)):
        if a != b:
            raise Broken(f"expected the same assessment of window {number}, got {b} after {a}")
    return f"{len(case.windows)} windows, forwards and backwards"


def the_window_is_left_alone(case: Subject) -> str:
    """The model does not modify images and proprioception."""
    for window in case.windows:
        before = _bytes(window)
        case.model.assess(window)
        if _bytes(window) != before:
            raise Broken("expected an unmodified window, got one that the model has changed")
        kept = replace(window, frames=_read_only(window.frames), tcp_poses=_read_only(window.tcp_poses))
        case.model.assess(replace(kept, gripper_widths=_read_only(window.gripper_widths)))
    return f"{len(case.windows)} windows, read-only as well"


def wrong_windows_are_refused(case: Subject) -> str:
    """Other views, another size, too few frames or too short a history raise AssessmentError."""
    tried: list[str] = []
    for what, window in _wrong_windows(case.windows[0]):
        _expect_refusal(case.model, window, what)
        tried.append(what)
    return ", ".join(tried)


def numbers_that_are_none_are_refused(case: Subject) -> str:
    """NaN or infinity in the proprioception raises AssessmentError."""
    window = case.windows[0]
    for value in (math.nan, math.inf):
        pose, width = window.tcp_poses.copy(), window.gripper_widths.copy()
        pose[-1, 0], width[0] = value, value
        _expect_refusal(case.model, replace(window, tcp_poses=pose), f"{value} in a tool pose")
        _expect_refusal(case.model, replace(window, gripper_widths=width), f"{value} in an opening")
    return "tool pose and opening"


def a_black_image_gives_an_assessment(case: Subject) -> str:
    """Black and white images do not raise an exception."""
    for window in case.windows:
        for brightness in (0, 255):
            _expect_sound(case.model.assess(replace(window, frames=np.full_like(window.frames, brightness))))
    return "black and white"


def an_unknown_instruction_is_an_assessment_or_a_refusal(case: Subject) -> str:
    """An unknown instruction gives an assessment or raises AssessmentError, and no other exception."""
    refused = 0
    words = ("", "sing the alphabet backwards", "立方体を持ち上げて " * 200)
    for instruction in words:
        try:
            _expect_sound(case.model.assess(replace(case.windows[0], instruction=instruction)))
        except AssessmentError:
            refused += 1
    return f"{refused} of {len(words)} refused"


def the_latency_is_measured(case: Subject) -> str:
    """`assess_safely` measures a finite latency that is short enough for a control loop."""
    slowest = 0.0
    for window in case.windows:
        assessment = assess_safely(case.model, window)
        if assessment.status is Status.REFUSED:
            raise Broken(f"expected an assessment of a valid window, got a refusal: {assessment.reason}")
        slowest = max(slowest, assessment.latency)
    if not (math.isfinite(slowest) and 0.0 < slowest <= PATIENCE):
        raise Broken(f"expected an assessment within {PATIENCE:.0f} s, got {slowest} s")
    return f"at most {1000 * slowest:.1f} ms"


def garbage_never_raises_in_a_control_loop(case: Subject) -> str:
    """`assess_safely` returns an assessment with valid numbers for any window."""
    tried = 0
    for window in _garbage(case.windows[0]):
        try:
            assessment = assess_safely(case.model, window)
        except Exception as error:
            raise Broken(f"expected an assessment, got {type(error).__name__}: {error}") from error
        if assessment.status is Status.OK:
            _expect_sound(assessment)
        tried += 1
    return f"{tried} windows of garbage"


RULES: tuple[Callable[[Subject], str], ...] = (
    the_name_and_the_spec_are_sane,
    assessments_are_numbers_in_range,
    actions_keep_the_step_limits,
    the_frame_is_stated,
    the_same_window_gives_the_same_assessment,
    the_window_is_left_alone,
    wrong_windows_are_refused,
    numbers_that_are_none_are_refused,
    a_black_image_gives_an_assessment,
    an_unknown_instruction_is_an_assessment_or_a_refusal,
    the_latency_is_measured,
    garbage_never_raises_in_a_control_loop,
)
"""Every rule, in the order in which they are checked."""


def _expect_sound(assessment: Assessment) -> None:
    if problem := flaw(assessment):
        raise Broken(problem)
    if assessment.status is Status.REFUSED:
        raise Broken(
            f"expected an assessment or AssessmentError, got the status refused: {assessment.reason}"
        )
    if assessment.status is Status.UNREADABLE and assessment.actions:
        raise Broken("expected no actions from an unreadable answer, got some")


def _expect_refusal(model: RecoveryModel, window: Window, what: str) -> None:
    try:
        model.assess(window)
    except AssessmentError:
        return
    except Exception as error:
        raise Broken(f"expected AssessmentError for {what}, got {type(error).__name__}: {error}") from error
    raise Broken(f"expected AssessmentError for {what}, got an assessment")


def _timeless(assessment: Assessment) -> Assessment:
    return replace(assessment, latency=0.0)


def _bytes(window: Window) -> tuple[bytes, ...]:
    return window.frames.tobytes(), window.tcp_poses.tobytes(), window.gripper_widths.tobytes()


def _read_only(array: np.ndarray) -> np.ndarray:
    kept = array.copy()
    kept.flags.writeable = False
    return kept


def _wrong_windows(window: Window) -> Iterator[tuple[str, Window]]:
    """Yield windows that do not match the model's specification, or whose arrays do not match their own."""
    spec, frames = window.spec, window.frames
    shorter = {"tcp_poses": window.tcp_poses[1:], "gripper_widths": window.gripper_widths[1:]}
    views = (*spec.views[:-1], "a camera that is not there")
    yield "other views", replace(window, spec=replace(spec, views=views))
    yield (
        "another size",
        replace(window, spec=replace(spec, size=spec.size - 1), frames=frames[:, :, :-1, :-1]),
    )
    yield "a view missing", replace(window, spec=replace(spec, views=spec.views[:-1]), frames=frames[:-1])
    yield (
        "a frame missing",
        replace(window, spec=replace(spec, frames=spec.frames - 1), frames=frames[:, :-1]),
    )
    yield (
        "too short a history",
        replace(window, spec=WindowSpec(spec.views, spec.history - 1, spec.frames, spec.size), **shorter),
    )
    yield "a history shorter than it says", replace(window, **shorter)
    yield "fewer images than it says", replace(window, frames=frames[:, :-1])


def _garbage(window: Window) -> Iterator[Window]:
    rng = np.random.default_rng(0)
    steps = len(window.tcp_poses)
    yield from (wrong for _, wrong in _wrong_windows(window))
    for value in (0.0, math.nan, math.inf, -math.inf, 1e30, -1e30):
        yield replace(window, tcp_poses=np.full((steps, 7), value, dtype=np.float32))
        yield replace(window, gripper_widths=np.full(steps, value, dtype=np.float32))
    for _ in range(5):
        noise = rng.integers(0, 256, window.frames.shape, dtype=np.uint8)
        poses = (1000.0 * rng.standard_normal((steps, 7))).astype(np.float32)
        yield replace(window, frames=noise, tcp_poses=poses, instruction="\x00\ud800")
    yield replace(window, frames=np.zeros((0, 0, 0, 0, 3), dtype=np.uint8))
    yield replace(
        window,
        tcp_poses=np.zeros((0, 7), dtype=np.float32),
        gripper_widths=np.zeros(0, dtype=np.float32),
    )
