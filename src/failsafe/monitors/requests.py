"""What the monitor does with each request of a client of openpi's server, and with its answer.

A client asks once a chunk, and executes the first rows of each answer: so many control steps pass between two
requests, and only their ends are on the wire. What lies between is interpolated. The model is asked at the
request alone, for at the steps before it nothing can be done any more.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from jaxtyping import Float, UInt8

from failsafe.errors import PolicyError, UserError
from failsafe.models.contract import MAX_ROTATION, MAX_TRANSLATION, RecoveryModel
from failsafe.monitors.monitor import Monitor, MonitorSettings
from failsafe.monitors.waypoints import Waypoint
from failsafe.policies import msgpack_numpy
from failsafe.policies.contract import MAX_CHUNK, ActionSpace, Anchor, check_chunk
from failsafe.policies.openpi import PICTURES
from failsafe.policies.served import LIBERO, observe_libero_state
from failsafe.records import poses
from failsafe.records.assessment import Assessment, Window, WindowSpec
from failsafe.records.event import Event, EventKind
from failsafe.records.observation import PolicyObservation
from failsafe.records.poses import Pose

ACTIONS, STATE, PROMPT = "actions", "observation/state", "prompt"
JUMP = 0.15
"""Metres between two requests from which on the tool was put there: another episode has begun."""
FASTEST = 0.03
"""Metres a control step that a tool may really move; counts where many steps pass between two requests."""
LAG = 0.05
"""Metres that an arm may lie behind the pose asked for last; farther off, that pose is not believed."""

Tell = Callable[[int, Event], None]
"""Called with a client's number and an event; from several threads."""


@dataclass(frozen=True)
class Wire:
    """What the numbers and pictures of a client's requests mean.

    Attributes:
        action_space: What the actions mean; the first `chunk` rows of an answer are executed before the next
            request.
        pictures: Names of pictures in a request, and which of our views each shows.
        base: Where the robot's base is in the frame of the state's positions, metres. The axes are the same.
    """

    action_space: ActionSpace = LIBERO
    pictures: Mapping[str, str] = field(default_factory=lambda: PICTURES)
    base: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        shown = list(self.pictures.values())
        if not shown or len(set(shown)) < len(shown):
            raise UserError(f"expected pictures that show a view each, no two the same, got {shown}")
        if not np.isfinite(self.base).all():
            raise UserError(f"expected a finite position of the robot's base, got {self.base}")

    def hidden(self, spec: WindowSpec) -> tuple[str, ...]:
        """The views that a model looks through and no picture shows: it sees black there."""
        return tuple(view for view in spec.views if view not in self.pictures.values())


class RequestGuard:
    """A monitor that sees what one client sends, and may put a correction in the place of an answer.

    Whatever goes wrong leaves the answer as it came, to the byte, and is an event. Nothing is raised.

    Args:
        monitor: The monitor of this client alone.
        wire: What the numbers and pictures mean.
        tell: Called with the events that are not the monitor's own.
    """

    def __init__(self, monitor: Monitor, wire: Wire, tell: Callable[[Event], None]) -> None:
        self._monitor, self._wire, self._tell = monitor, wire, tell
        spec = monitor.model.window_spec
        black = np.zeros((spec.size, spec.size, 3), dtype=np.uint8)
        self._black = dict.fromkeys(wire.hidden(spec), black)
        self._seen_views = {key: view for key, view in wire.pictures.items() if view in spec.views}
        self._prompt = ""
        self._last: PolicyObservation | None = None
        self._now: PolicyObservation | None = None
        self._target: Pose | None = None
        self._passed = 0
        self._way: deque[Waypoint] = deque()

    def see(self, request: bytes | str) -> None:
        """Show a request to the monitor.

        Args:
            request: The message as it came.
        """
        self._now = None
        try:
            prompt, now = self._read(request)
            self._now = self._feed(prompt, now)
        except Exception as error:  # a request that the monitor cannot follow is the policy's all the same
            self._give_way(f"request: {type(error).__name__}: {error}")

    def answer(self, reply: bytes) -> bytes:
        """What the client is given for a policy's answer.

        Args:
            reply: The answer as it came.

        Returns:
            The very same, or one with the rows of a correction as its actions: as many, of the same type.
        """
        try:
            return self._answer(reply)
        except Exception as error:  # so is an answer
            self._give_way(f"answer: {type(error).__name__}: {error}")
            return reply

    def _read(self, request: bytes | str) -> tuple[str, PolicyObservation]:
        """The words and the observation of a request.

        Raises:
            PolicyError: If something in it is missing, or not as it must be.
        """
        said = _read_map(request)
        prompt = said.get(PROMPT)
        if not isinstance(prompt, str):
            raise PolicyError(f"expected words under '{PROMPT}', got {type(prompt).__name__}")
        pose, width = observe_libero_state(said.get(STATE))
        pose[:3] -= self._wire.base
        shown = {view: _picture(said, key) for key, view in self._seen_views.items()}
        target = self._target
        if target is None or poses.distance(target, pose)[0] > LAG:
            target = pose
        return prompt, PolicyObservation({**self._black, **shown}, pose, target, width)

    def _feed(self, prompt: str, now: PolicyObservation) -> PolicyObservation:
        """Show the monitor the steps since the request before; an episode begins with a single one."""
        last, self._last = self._last, now
        passed, self._passed = self._passed, 0
        if last is None or prompt != self._prompt or _jumped(last, now, passed):
            self._prompt, self._target = prompt, None
            now = replace(now, target_pose=now.tcp_pose)
            self._way.clear()
            self._monitor.begin(prompt)
            moments = [now]
        else:
            moments = between(last, now, passed)
        for moment in moments[:-1]:
            self._monitor.follow(moment)
        if self._way:
            self._monitor.follow(now)
        elif moments:
            self._way.extend(self._monitor.watch(now))
        return now

    def _answer(self, reply: bytes) -> bytes:
        said = _read_map(reply)
        actions = said.get(ACTIONS)
        if not isinstance(actions, np.ndarray) or not np.issubdtype(actions.dtype, np.floating):
            raise PolicyError(f"expected an array of floats under '{ACTIONS}', got {type(actions).__name__}")
        chunk = check_chunk("the policy", actions, MAX_CHUNK)
        executed = min(self._wire.action_space.chunk, len(chunk))
        self._passed += executed
        now = self._now
        if now is None:
            return reply
        if not self._way:
            self._target = self._asked_for(chunk[:executed], now)
            return reply
        rows, asked = self._correction(len(chunk), now)
        changed = msgpack_numpy.packb({**said, ACTIONS: rows.astype(actions.dtype)})
        for _ in range(min(executed, len(self._way))):
            self._way.popleft()
        self._target = asked[executed - 1]
        return changed

    def _correction(
        self, rows: int, now: PolicyObservation
    ) -> tuple[Float[np.ndarray, "rows 7"], list[Pose]]:
        """The next actions of the correction, and the pose that each asks for.

        Behind its end stands the last waypoint, again and again: the tool stays there. What the arm measures
        between two rows is not known here, so that each counts from the pose that the one before asks for.
        """
        space = self._wire.action_space
        way = list(self._way)[:rows]
        way += [way[-1]] * (rows - len(way))
        at = now.target_pose if space.anchor is Anchor.TARGET else now.tcp_pose
        found, asked = np.empty((rows, 7)), list[Pose]()
        for i, waypoint in enumerate(way):
            wanted = poses.limit_step(at, waypoint.pose, MAX_TRANSLATION, MAX_ROTATION)
            found[i] = space.from_pose(wanted, waypoint.gripper, at, at)
            asked.append(wanted)
            at = wanted
        return found, asked

    def _asked_for(self, rows: Float[np.ndarray, "n 7"], now: PolicyObservation) -> Pose | None:
        """The pose that the policy's rows ask for, None where it depends on what is measured meanwhile."""
        space = self._wire.action_space
        if space.anchor is Anchor.MEASURED:
            return None
        target = now.target_pose
        for row in rows:
            target, _ = space.to_pose(row, target, target)
        return target

    def _give_way(self, problem: str) -> None:
        """Leave the policy in charge, and say why."""
        self._tell(Event(self._monitor.step, EventKind.FAULT, description=problem[:400]))
        self._target = None
        self._way.clear()
        if self._monitor.in_charge:
            self._monitor.hand_back()


def guard_clients(
    model: RecoveryModel,
    threshold: float | Callable[[str], float],
    settings: MonitorSettings,
    wire: Wire,
    tell: Tell,
) -> Callable[[int], RequestGuard]:
    """Makes a guard for each client, by its number, with a monitor of its own.

    Args:
        model: The recovery model, which they share: it is asked by one of them at a time.
        threshold: Score above which an alarm is raised: a number, or one by instruction.
        settings: When to look, act and give up.
        wire: What the numbers and pictures mean.
        tell: Called with every event.
    """
    shared = _OneAtATime(model)

    def make(number: int) -> RequestGuard:
        def note(event: Event) -> None:
            tell(number, event)

        return RequestGuard(Monitor(shared, threshold, settings, note), wire, note)

    return make


def between(first: PolicyObservation, last: PolicyObservation, steps: int) -> list[PolicyObservation]:
    """The moments after the first until the last, one a control step; each with the nearer one's pictures.

    Args:
        first: An observation.
        last: The one after so many steps; it is the last of the result.
        steps: Control steps between the two; there is a moment for each.
    """
    if not steps:
        return []
    path = poses.interpolate(first.tcp_pose, last.tcp_pose, steps)
    widths = np.linspace(first.gripper_width, last.gripper_width, steps + 1)[1:]
    moments = [
        PolicyObservation(
            (last if 2 * (i + 1) >= steps else first).images, path[i], path[i], float(widths[i])
        )
        for i in range(steps - 1)
    ]
    return [*moments, last]


class _OneAtATime:
    """A model that several threads may ask; not every one can answer two at once."""

    def __init__(self, model: RecoveryModel) -> None:
        self._model = model
        self._free = threading.Lock()

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def window_spec(self) -> WindowSpec:
        return self._model.window_spec

    def assess(self, window: Window) -> Assessment:
        with self._free:
            return self._model.assess(window)


def _jumped(last: PolicyObservation, now: PolicyObservation, steps: int) -> bool:
    return poses.distance(last.tcp_pose, now.tcp_pose)[0] > max(JUMP, FASTEST * steps)


def _read_map(message: bytes | str) -> Mapping[Any, Any]:
    """A message as a map.

    Raises:
        PolicyError: If it is something else.
    """
    if isinstance(message, str):
        raise PolicyError("expected bytes, got text")
    try:
        said = msgpack_numpy.unpackb(message)
    except ValueError as error:
        raise PolicyError(f"expected MessagePack, got something else ({error})") from None
    if not isinstance(said, dict):
        raise PolicyError(f"expected a map, got {type(said).__name__}")
    return cast(Mapping[Any, Any], said)


def _picture(said: Mapping[Any, Any], key: str) -> UInt8[np.ndarray, "H W 3"]:
    picture = said.get(key)
    if not isinstance(picture, np.ndarray):
        raise PolicyError(f"expected a picture under '{key}', got {type(picture).__name__}")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise PolicyError(f"expected RGB of uint8 under '{key}', got {picture.dtype} {picture.shape}")
    return picture
