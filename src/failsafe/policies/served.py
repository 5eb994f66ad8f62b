"""What the clients of policy servers have in common: what they are shown, and what is made of the answer."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from failsafe.errors import PolicyError, UserError
from failsafe.policies.contract import MAX_CHUNK, ActionSpace, Anchor, check_chunk
from failsafe.records import poses
from failsafe.records.observation import PolicyObservation
from failsafe.records.poses import Pose

LIBERO = ActionSpace(
    anchor=Anchor.MEASURED,
    translation_scale=0.05,
    rotation_scale=0.5,
    gripper_open=-1.0,
    gripper_closed=1.0,
    rate_hz=20.0,
    chunk=5,
)
"""Actions as LIBERO takes them, for robosuite's OSC_POSE controller: from -1 to 1, rotation vectors."""


class ServedPolicy(abc.ABC):
    """A policy that runs behind a server, in an environment of its own.

    Such a server keeps nothing between two requests: the words of the task and all that the policy sees go
    with each of them, and a chunk is executed here. So a request can be sent again, and there is no queue to
    drop.

    Args:
        name: What it is called in tables.
        url: Where its server is.
        pictures: Names of pictures on the wire, and which of our views each shows; a name without a view is
            left out.
        action_space: What the actions mean. Of the rows of an answer, the first `chunk` are taken.
        size: Height and width of the pictures that the server is sent, pixels.
    """

    def __init__(
        self, name: str, url: str, pictures: Mapping[str, str], action_space: ActionSpace, size: int
    ) -> None:
        self._name, self._url, self._action_space, self._size = name, url, action_space, size
        self._pictures = {key: view for key, view in pictures.items() if view}
        self._instruction = ""
        if size < 1 or not self._pictures:
            raise PolicyError(
                f"{name}: expected at least one picture, of 1 pixel or more, got {pictures}, {size}"
            )

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return self._name

    @property
    def url(self) -> str:
        """Where its server is."""
        return self._url

    @property
    def pictures(self) -> Mapping[str, str]:
        """Names of the pictures that it sends, and the view in each."""
        return MappingProxyType(self._pictures)

    @property
    def action_space(self) -> ActionSpace:
        """What its actions mean."""
        return self._action_space

    @property
    def views(self) -> Mapping[str, int]:
        """The cameras that it looks through, and the size of their pictures in pixels."""
        return MappingProxyType(dict.fromkeys(self._pictures.values(), self._size))

    def reset(self, instruction: str) -> None:
        """Begin an episode.

        Raises:
            PolicyError: If there are no words in the instruction.
        """
        # Half of a surrogate pair is text to Python, and cannot be sent.
        if not instruction.strip() or instruction.encode(errors="replace").decode() != instruction:
            raise PolicyError(f"{self._name}: expected an instruction in words, got {instruction!r:.80}")
        self._instruction = instruction

    def act(self, observation: PolicyObservation) -> Float[np.ndarray, "H 7"]:
        """The next chunk of actions.

        Raises:
            PolicyError: If there is no answer, or none that can be used.
        """
        if not self._instruction:
            raise PolicyError(f"{self._name}: expected an instruction before the first action: reset it")
        shown = {key: self._picture(observation, view) for key, view in self._pictures.items()}
        answer = self._ask(shown, observation, self._instruction)
        return check_chunk(self._where, answer, MAX_CHUNK)[: self._action_space.chunk]

    def drop_queue(self) -> None:  # noqa: B027 - there is nothing to do, and nothing left to others
        """Nothing: actions thought out before are not kept."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close the connection, if there is one."""

    @abc.abstractmethod
    def _ask(
        self,
        shown: Mapping[str, UInt8[np.ndarray, "size size 3"]],
        observation: PolicyObservation,
        words: str,
    ) -> object:
        """The actions that the server answers with, not looked at yet.

        Raises:
            PolicyError: If there is no answer.
        """

    @property
    def _where(self) -> str:
        return f"{self._name} at {self._url}"

    def _picture(self, observation: PolicyObservation, view: str) -> UInt8[np.ndarray, "size size 3"]:
        try:
            picture = observation.images[view]
        except KeyError:
            raise PolicyError(
                f"{self._name} looks through {view}, and the observation has no such view"
            ) from None
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            raise PolicyError(
                f"{self._name}: expected RGB of uint8 from {view}, got {picture.dtype} {picture.shape}"
            )
        if picture.shape[:2] == (self._size, self._size):
            return picture
        # Padded with black and not squeezed, as openpi's client does it.
        fitted = ImageOps.pad(Image.fromarray(picture), (self._size, self._size), Image.Resampling.BILINEAR)
        return np.asarray(fitted)


def check_url(url: str, *schemes: str) -> str:
    """Make sure that a URL is one of a server, and give it back without a slash at its end.

    Raises:
        UserError: If it is none.
    """
    try:
        parts = urlsplit(url)
        sound = parts.scheme in schemes and parts.port != 0 and bool((parts.hostname or "").encode("idna"))
    except ValueError:  # a port that is no number, a name that no host can have
        sound = False
    if not sound:
        raise UserError(f"expected a server such as {schemes[0]}://127.0.0.1:8000, got {url!r}")
    return url.rstrip("/")


def libero_state(observation: PolicyObservation) -> Float[np.ndarray, "8"]:
    """Proprioception as LIBERO has it: position, rotation vector, and the two fingers, with unlike signs.

    The position is in the robot's base frame, metres; LIBERO's own counts from the world's origin.

    Raises:
        PolicyError: If there is a number that is none.
    """
    turn = poses.to_rotation_vector(observation.tcp_pose[3:])
    finger = observation.gripper_width / 2
    state = np.array([*observation.tcp_pose[:3], *turn, finger, -finger])
    if not np.isfinite(state).all():
        raise PolicyError("expected a finite tool pose and gripper width, got NaN or infinity")
    return state


def observe_libero_state(state: object) -> tuple[Pose, float]:
    """The tool pose and the gripper's opening in metres that a state stands for; inverse of `libero_state`.

    Args:
        state: 8 numbers, as they were read from the wire.

    Raises:
        PolicyError: If it is something else, or a number is none.
    """
    try:
        numbers = np.asarray(state, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (8,) or not np.isfinite(numbers).all():
        raise PolicyError(f"expected a state of 8 finite numbers, got {state!r:.120}")
    turn = poses.from_rotation_vector(numbers[3:6])
    return poses.pose(numbers[:3], turn), float(numbers[6] - numbers[7])


def excerpt(text: bytes | str) -> str:
    """The beginning of what a server said, on one line, for a message."""
    words = text[:800].decode(errors="replace") if isinstance(text, bytes) else text
    return " ".join(words.split())[:200] or "nothing"
