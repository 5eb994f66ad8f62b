"""A monitor between a client of openpi's server and that server: what it does with requests and answers.

A client sends one request per chunk, and executes the first rows of each answer. Several control steps pass
between two requests, and only their ends are observed; the steps between are interpolated. The model is
queried at requests only, because nothing can be changed at the steps between.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from jaxtyping import Float, UInt8

from failsafe.errors import PolicyError, UserError
from failsafe.models.contract import RecoveryModel
from failsafe.monitors.monitor import EventCallback, Monitor
from failsafe.monitors.settings import MonitorSettings
from failsafe.monitors.waypoints import Waypoint
from failsafe.policies import msgpack_numpy
from failsafe.policies.contract import MAX_CHUNK, ActionSpace, Anchor, check_chunk
from failsafe.policies.openpi import IMAGE_VIEWS
from failsafe.policies.served import LIBERO, Preset, observe_libero_state
from failsafe.records import poses
from failsafe.records.assessment import Assessment, Window, WindowSpec
from failsafe.records.embodiment import MANISKILL_PANDA, EmbodimentSpec
from failsafe.records.event import Event, EventKind
from failsafe.records.observation import PolicyObservation
from failsafe.records.poses import Pose

ACTIONS, STATE, PROMPT = "actions", "observation/state", "prompt"
JUMP_STEPS = 6.0
"""A tool that moved farther between two requests than it can in this many control steps was placed there by a
reset: another episode has started."""
OVERSHOOT = 1.2
"""A tool may move by this many times its reach in one step; counts where many steps pass between two
requests."""
MAX_PROMPT = 10_000
"""Longest prompt in characters; the monitor does not read a request with a longer one."""
_KEPT_EVENTS = 100
"""Events of an episode that are kept; a robot may run one episode for days."""
LAG_STEPS = 2.0
"""A tool may lag behind its target by this many control steps' limits; a target farther away is not used."""

ClientEventCallback = Callable[[int, Event], None]
"""Called with a client's number and an event, from several threads."""


@dataclass(frozen=True)
class Wire:
    """The meaning of the numbers and images in a client's requests.

    Attributes:
        action_space: What the actions mean. The client executes the first `chunk` rows of an answer before
            its next request.
        image_views: View that each image of a request shows, by the image's key.
        base: Position of the robot's base in the frame of the state's positions, metres; same axes.
        embodiment: The robot, with its step limits and workspace. The control rate is the action space's.
        preset: Conversions of a suite's own evaluations, whose client sends the requests; None for none.

    Raises:
        UserError: If two images show one view, or the base's position is not finite.
    """

    action_space: ActionSpace = LIBERO
    image_views: Mapping[str, str] = field(default_factory=lambda: IMAGE_VIEWS)
    base: tuple[float, float, float] = (0.0, 0.0, 0.0)
    embodiment: EmbodimentSpec = MANISKILL_PANDA
    preset: Preset | None = None

    def __post_init__(self) -> None:
        """Refuse images and positions that cannot be used."""
        views = list(self.image_views.values())
        if not views or len(set(views)) < len(views):
            raise UserError(f"expected images that each show another view, got {views}")
        if not np.isfinite(self.base).all():
            raise UserError(f"expected a finite position of the robot's base, got {self.base}")

    @property
    def robot(self) -> EmbodimentSpec:
        """The embodiment at the control rate of the action space."""
        return replace(self.embodiment, control_hz=self.action_space.rate_hz)

    @property
    def response(self) -> tuple[float, float] | None:
        """Shares of a commanded translation and rotation that an arm that lags covers in one control step."""
        pace, space = self.embodiment.pace, self.action_space
        if pace is None or not np.isfinite(space.limit):
            return None
        return pace[0] / (space.limit * space.translation_scale), pace[1] / (
            space.limit * abs(space.rotation_scale)
        )

    def missing_views(self, spec: WindowSpec) -> tuple[str, ...]:
        """Return the views of a model that no image shows. The model gets black images for them."""
        return tuple(view for view in spec.views if view not in self.image_views.values())


class RequestGuard:
    """A monitor on one client's requests, which may replace an answer by a correction.

    A fault leaves the answer unchanged, to the byte, and is an event. No method raises.

    Args:
        monitor: The monitor of this client alone.
        wire: The meaning of the numbers and images.
        on_event: Called with the events that are not the monitor's own.
    """

    def __init__(self, monitor: Monitor, wire: Wire, on_event: EventCallback) -> None:
        self._monitor, self._wire, self._on_event = monitor, wire, on_event
        spec = monitor.model.window_spec
        black = np.zeros((spec.size, spec.size, 3), dtype=np.uint8)
        self._black = dict.fromkeys(wire.missing_views(spec), black)
        self._shown_views = {key: view for key, view in wire.image_views.items() if view in spec.views}
        self._prompt = ""
        self._last: PolicyObservation | None = None
        self._now: PolicyObservation | None = None
        self._target: Pose | None = None
        self._executed = 0
        self._waypoints: deque[Waypoint] = deque()

    def on_request(self, request: bytes | str) -> None:
        """Show a request to the monitor.

        Args:
            request: The message as received.
        """
        self._now = None
        del self._monitor.events[:-_KEPT_EVENTS]
        try:
            prompt, now = self._parse(request)
            self._now = self._observe(prompt, now)
        except Exception as error:  # a request that the monitor cannot read still goes to the policy
            self._step_aside(f"request: {type(error).__name__}: {error}")

    def on_answer(self, answer: bytes) -> bytes:
        """Return what the client gets for a policy's answer.

        Args:
            answer: The answer as received.

        Returns:
            The same bytes, or an answer with a correction as its actions: as many rows, of the same type.
        """
        try:
            return self._replace_actions(answer)
        except Exception as error:  # an answer that the monitor cannot read still goes to the client
            self._step_aside(f"answer: {type(error).__name__}: {error}")
            return answer

    def _parse(self, request: bytes | str) -> tuple[str, PolicyObservation]:
        """Return the instruction and the observation of a request.

        Raises:
            PolicyError: If something is missing or malformed.
        """
        fields = _parse_map(request)
        prompt = fields.get(PROMPT)
        if not isinstance(prompt, str):
            raise PolicyError(f"expected a string under '{PROMPT}', got {type(prompt).__name__}")
        if len(prompt) > MAX_PROMPT:
            raise PolicyError(f"expected at most {MAX_PROMPT} characters under '{PROMPT}', got {len(prompt)}")
        pose, width = observe_libero_state(fields.get(STATE))
        pose[:3] -= self._wire.base
        images = {view: _image(fields, key) for key, view in self._shown_views.items()}
        if preset := self._wire.preset:
            prompt = preset.instruction(prompt) if preset.instruction else prompt
            images = {view: preset.upright(x) if preset.upright else x for view, x in images.items()}
        target = self._target
        lag = LAG_STEPS * self._wire.robot.max_translation
        if target is None or poses.distance(target, pose)[0] > lag:
            target = pose
        return prompt, PolicyObservation({**self._black, **images}, pose, target, width)

    def _observe(self, prompt: str, now: PolicyObservation) -> PolicyObservation:
        """Show the monitor the control steps since the last request; an episode starts with one."""
        last, self._last = self._last, now
        executed, self._executed = self._executed, 0
        if last is None or prompt != self._prompt or self._jumped(last, now, executed):
            self._prompt, self._target = prompt, None
            now = replace(now, target_pose=now.tcp_pose)
            self._waypoints.clear()
            self._monitor.reset(prompt)
            observations = [now]
        else:
            observations = between(last, now, executed)
        for observation in observations[:-1]:
            self._monitor.observe(observation)
        if self._waypoints:
            self._monitor.observe(now)
        elif observations:
            self._waypoints.extend(self._monitor.decide(now))
        return now

    def _jumped(self, last: PolicyObservation, now: PolicyObservation, steps: int) -> bool:
        """Return whether the tool moved farther than it can between two requests."""
        limit = _reach(self._wire.robot)
        return poses.distance(last.tcp_pose, now.tcp_pose)[0] > limit * max(JUMP_STEPS, OVERSHOOT * steps)

    def _replace_actions(self, answer: bytes) -> bytes:
        fields = _parse_map(answer)
        actions = fields.get(ACTIONS)
        if not isinstance(actions, np.ndarray) or not np.issubdtype(actions.dtype, np.floating):
            raise PolicyError(f"expected an array of floats under '{ACTIONS}', got {type(actions).__name__}")
        chunk = check_chunk("the policy", actions, MAX_CHUNK)
        executed = min(self._wire.action_space.chunk, len(chunk))
        self._executed += executed
        now = self._now
        if now is None:
            return answer
        if not self._waypoints:
            self._target = self._target_of(chunk[:executed], now)
            return answer
        rows, targets = self._correction(len(chunk), now)
        changed = msgpack_numpy.packb({**fields, ACTIONS: rows.astype(actions.dtype)})
        for _ in range(min(executed, len(self._waypoints))):
            self._waypoints.popleft()
        self._target = targets[executed - 1]
        return changed

    def _correction(
        self, rows: int, now: PolicyObservation
    ) -> tuple[Float[np.ndarray, "rows 7"], list[Pose]]:
        """Return the next actions of the correction, and the target pose of each.

        After the last waypoint its row is repeated, so that the tool stays there. The measured poses between
        two rows are not known here: an action that counts from the measured pose counts from the pose that
        the arm is expected to have reached.
        """
        space, limits = self._wire.action_space, self._wire.robot.step_limits
        waypoints = list(self._waypoints)[:rows]
        waypoints += [waypoints[-1]] * (rows - len(waypoints))
        at = now.target_pose if space.anchor is Anchor.TARGET else now.tcp_pose
        actions, targets = np.empty((rows, 7)), list[Pose]()
        for i, waypoint in enumerate(waypoints):
            target = poses.limit_step(at, waypoint.pose, *limits)
            actions[i] = space.from_pose(target, waypoint.gripper, at, at)
            targets.append(target)
            at = target if space.anchor is Anchor.TARGET else self._expected(at, target)
        return actions, targets

    def _expected(self, at: Pose, target: Pose) -> Pose:
        """Return where the tool is expected a control step after it was commanded to a target."""
        if self._wire.response is None:
            return target
        translation, rotation = self._wire.response
        delta = poses.delta_between(at, target)
        return poses.apply_delta(at, [*(delta[:3] * translation), *(delta[3:] * rotation)])

    def _target_of(self, rows: Float[np.ndarray, "n 7"], now: PolicyObservation) -> Pose | None:
        """Return the target pose of the policy's rows; None if it depends on poses measured later."""
        space = self._wire.action_space
        if space.anchor is Anchor.MEASURED:
            return None
        target = now.target_pose
        for row in rows:
            target, _ = space.to_pose(row, target, target)
        return target

    def _step_aside(self, problem: str) -> None:
        """Leave the policy in control, and record why."""
        self._on_event(Event(self._monitor.step, EventKind.FAULT, description=problem[:400]))
        self._target = None
        self._waypoints.clear()
        self._monitor.hand_back()


def guard_clients(
    model: RecoveryModel,
    threshold: float | Callable[[str], float],
    settings: MonitorSettings,
    wire: Wire,
    on_event: ClientEventCallback,
) -> Callable[[int], RequestGuard]:
    """Return a function that makes the guard of a client, with a monitor of its own, from its number.

    Args:
        model: The recovery model, shared by all clients; it is queried by one of them at a time.
        threshold: Score above which an alarm is raised: a number, or a function of the instruction.
        settings: When to query, take over, hand back and give up.
        wire: The meaning of the numbers and images.
        on_event: Called with every event. What it raises is dropped: it must not cut the robot off.
    """
    shared = _SerializedModel(model)

    def make(number: int) -> RequestGuard:
        def record(event: Event) -> None:
            with contextlib.suppress(Exception):
                on_event(number, event)

        return RequestGuard(Monitor(shared, wire.robot, threshold, settings, record), wire, record)

    return make


def between(first: PolicyObservation, last: PolicyObservation, steps: int) -> list[PolicyObservation]:
    """Return the observations after the first until the last, one per control step, interpolated.

    Args:
        first: An observation.
        last: The observation that many steps later; the last of the result.
        steps: Control steps between the two; the length of the result. Images are those of the nearer end.
    """
    if not steps:
        return []
    path = poses.interpolate(first.tcp_pose, last.tcp_pose, steps)
    widths = np.linspace(first.gripper_width, last.gripper_width, steps + 1)[1:]
    observations = [
        PolicyObservation(
            (last if 2 * (i + 1) >= steps else first).images, path[i], path[i], float(widths[i])
        )
        for i in range(steps - 1)
    ]
    return [*observations, last]


class _SerializedModel:
    """A model queried from several threads, one query at a time: not every model is thread-safe."""

    def __init__(self, model: RecoveryModel) -> None:
        self._model = model
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def window_spec(self) -> WindowSpec:
        return self._model.window_spec

    def assess(self, window: Window) -> Assessment:
        with self._lock:
            return self._model.assess(window)


def _reach(robot: EmbodimentSpec) -> float:
    """Return how far a tool gets in a control step, metres; an arm that lags falls short of its limit."""
    return robot.pace[0] * 3**0.5 if robot.pace else robot.max_translation


def _parse_map(message: bytes | str) -> Mapping[Any, Any]:
    """Return a message as a map.

    Raises:
        PolicyError: If it is something else.
    """
    if isinstance(message, str):
        raise PolicyError("expected bytes, got text")
    try:
        fields = msgpack_numpy.unpackb(message)
    except ValueError as error:
        raise PolicyError(f"expected MessagePack, got something else ({error})") from None
    if not isinstance(fields, dict):
        raise PolicyError(f"expected a map, got {type(fields).__name__}")
    return cast(Mapping[Any, Any], fields)


def _image(fields: Mapping[Any, Any], key: str) -> UInt8[np.ndarray, "H W 3"]:
    image = fields.get(key)
    if not isinstance(image, np.ndarray):
        raise PolicyError(f"expected an image under '{key}', got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise PolicyError(f"expected RGB of uint8 under '{key}', got {image.dtype} {image.shape}")
    return image
