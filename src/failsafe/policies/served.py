"""Common parts of the clients of policy servers: the images to send, and the check of the answer."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from failsafe.errors import PolicyError, UserError
from failsafe.policies.contract import MAX_CHUNK, ActionSpace, Anchor, check_chunk
from failsafe.records import poses
from failsafe.records.embodiment import EmbodimentSpec
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
"""Actions of LIBERO, for robosuite's OSC_POSE controller: from -1 to 1, rotation vectors."""


@dataclass(frozen=True)
class Preset:
    """What a suite's published evaluations do between their simulator and one kind of server.

    The last three fields are for a monitor between an evaluation and its server, which sees the requests.

    Attributes:
        size: Height and width of the rendered images, pixels.
        picture: Makes the image of a request from a rendered one, which is upright and not mirrored.
        action_space: Meaning of the actions that `actions` returns.
        actions: Converts the rows of an answer to actions. [H, 7]
        state: Makes the state of a request from an observation; None for the client's own.
        readings: Readings of an observation that `state` takes.
        sentence: Makes the instruction of a request from a task's; None for the task's own.
        upright: Makes an upright image that is not mirrored from that of a request; None if it is one.
        instruction: Makes a task's instruction from that of a request; the inverse of `sentence`.
        embodiment: The suite's robot.
    """

    size: int
    picture: Callable[[UInt8[np.ndarray, "S S 3"]], UInt8[np.ndarray, "s s 3"]]
    action_space: ActionSpace
    actions: Callable[[Float[np.ndarray, "H 7"]], Float[np.ndarray, "H 7"]]
    state: Callable[[PolicyObservation], Float[np.ndarray, "D"]] | None = None
    readings: tuple[str, ...] = ()
    sentence: Callable[[str], str] | None = None
    upright: Callable[[UInt8[np.ndarray, "H W 3"]], UInt8[np.ndarray, "H W 3"]] | None = None
    instruction: Callable[[str], str] | None = None
    embodiment: EmbodimentSpec | None = None


class ServedPolicy(abc.ABC):
    """A policy that runs behind a server, in an environment of its own.

    The server is stateless: each request holds the instruction and the whole observation, and the client
    executes the chunk. So a request can be repeated, and there is no queue to drop.

    Args:
        name: Name in tables.
        url: URL of the server.
        image_views: The view to send as each image of a request, by the name of the image; an image with an
            empty view is omitted.
        action_space: Meaning of the actions. The first `chunk` rows of an answer are used.
        size: Height and width of the images to send, pixels.
        preset: Conversions that replace the action space and the size; None for none.

    Raises:
        PolicyError: If there is no image, or its size is not positive.
    """

    presets: ClassVar[Mapping[str, Preset]] = MappingProxyType({})
    """Presets of the client, by name: one for each suite whose evaluations it can repeat."""

    def __init__(
        self,
        name: str,
        url: str,
        image_views: Mapping[str, str],
        action_space: ActionSpace,
        size: int,
        preset: Preset | None = None,
    ) -> None:
        self._name, self._url, self._preset = name, url, preset
        self._action_space = preset.action_space if preset else action_space
        self._size = preset.size if preset else size
        self._image_views = {key: view for key, view in image_views.items() if view}
        self._instruction = ""
        if size < 1 or not self._image_views:
            raise PolicyError(
                f"{name}: expected at least one image, of 1 pixel or more, got {image_views}, {size}"
            )

    @property
    def name(self) -> str:
        """Name in tables."""
        return self._name

    @property
    def url(self) -> str:
        """URL of the server."""
        return self._url

    @property
    def image_views(self) -> Mapping[str, str]:
        """The view in each image of a request, by the name of the image."""
        return MappingProxyType(self._image_views)

    @property
    def action_space(self) -> ActionSpace:
        """Meaning of its actions."""
        return self._action_space

    @property
    def views(self) -> Mapping[str, int]:
        """Height and width (pixels) of the images that it takes, by camera."""
        return MappingProxyType(dict.fromkeys(self._image_views.values(), self._size))

    @property
    def preset(self) -> Preset | None:
        """Conversions of a suite's own evaluations; None for none."""
        return self._preset

    @property
    def full_quality(self) -> bool:
        """Whether images are rendered as by the suite's own evaluations, whatever that takes."""
        return self._preset is not None

    @property
    def readings(self) -> tuple[str, ...]:
        """Readings of the robot that an observation must have."""
        return self._preset.readings if self._preset else ()

    def reset(self, instruction: str) -> None:
        """Begin an episode.

        Raises:
            PolicyError: If the instruction is empty or not valid Unicode.
        """
        # A lone surrogate is valid in a Python string, but cannot be encoded.
        if not instruction.strip() or instruction.encode(errors="replace").decode() != instruction:
            raise PolicyError(f"{self._name}: expected an instruction as text, got {instruction!r:.80}")
        self._instruction = instruction

    def act(self, observation: PolicyObservation) -> Float[np.ndarray, "H 7"]:
        """Return the next chunk of actions.

        Raises:
            PolicyError: If there is no valid chunk.
        """
        if not self._instruction:
            raise PolicyError(f"{self._name}: expected an instruction before the first action: reset it")
        shown = {key: self._image(observation, view) for key, view in self._image_views.items()}
        sentence = self._preset.sentence if self._preset else None
        instruction = sentence(self._instruction) if sentence else self._instruction
        answer = self._ask(shown, observation, instruction)
        rows = check_chunk(self._where, answer, MAX_CHUNK)[: self._action_space.chunk]
        return self._preset.actions(rows) if self._preset else rows

    def drop_queue(self) -> None:  # noqa: B027 - subclasses need not override this
        """Do nothing: there are no planned actions."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close the connection, if there is one."""

    @abc.abstractmethod
    def _ask(
        self,
        shown: Mapping[str, UInt8[np.ndarray, "size size 3"]],
        observation: PolicyObservation,
        instruction: str,
    ) -> object:
        """Query the server, and return the actions unchecked.

        Args:
            shown: The images, by their names in the request.
            observation: The observation.
            instruction: The instruction.

        Raises:
            PolicyError: If there is no answer.
        """

    @property
    def _where(self) -> str:
        return f"{self._name} at {self._url}"

    def _image(self, observation: PolicyObservation, view: str) -> UInt8[np.ndarray, "size size 3"]:
        try:
            image = observation.images[view]
        except KeyError:
            raise PolicyError(
                f"{self._name}: expected the view {view} in the observation, got "
                f"{', '.join(observation.images)}"
            ) from None
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise PolicyError(
                f"{self._name}: expected RGB of uint8 from {view}, got {image.dtype} {image.shape}"
            )
        fitted = fit(image, self._size)
        return self._preset.picture(fitted) if self._preset else fitted


def fit(image: UInt8[np.ndarray, "H W 3"], size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Scale an image, and pad it with black instead of squeezing it, as openpi's client does.

    Args:
        image: RGB.
        size: Height and width to return, pixels.
    """
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(ImageOps.pad(Image.fromarray(image), (size, size), Image.Resampling.BILINEAR))


def check_url(url: str, *schemes: str) -> str:
    """Check the URL of a server, and return it without a trailing slash.

    Args:
        url: The URL.
        *schemes: The accepted schemes.

    Raises:
        UserError: If it is not such a URL.
    """
    try:
        parts = urlsplit(url)
        sound = parts.scheme in schemes and parts.port != 0 and bool((parts.hostname or "").encode("idna"))
        secret = "@" in parts.netloc
    except ValueError:  # an invalid port or host name
        sound, secret = False, "@" in url
    if secret:  # not repeated: it may hold a password
        raise UserError(f"expected a server such as {schemes[0]}://127.0.0.1:8000, got one with a user name")
    if not sound:
        raise UserError(f"expected a server such as {schemes[0]}://127.0.0.1:8000, got {url!r}")
    return url.rstrip("/")


def libero_state(observation: PolicyObservation) -> Float[np.ndarray, "8"]:
    """Return the proprioception of LIBERO: position, rotation vector, and both fingers with opposite signs.

    The position is in the robot's base frame, metres; LIBERO itself uses the world frame.

    Raises:
        PolicyError: If a number is not finite.
    """
    turn = poses.to_rotation_vector(observation.tcp_pose[3:])
    finger = observation.gripper_width / 2
    state = np.array([*observation.tcp_pose[:3], *turn, finger, -finger])
    if not np.isfinite(state).all():
        raise PolicyError("expected a finite tool pose and gripper width, got NaN or infinity")
    return state


def observe_libero_state(state: object) -> tuple[Pose, float]:
    """Return the tool pose and the gripper opening (m) of a state; the inverse of `libero_state`.

    Args:
        state: 8 numbers, unchecked.

    Raises:
        PolicyError: If it is not 8 finite numbers.
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
    """Return the start of a server's answer on one line, for a message."""
    decoded = text[:800].decode(errors="replace") if isinstance(text, bytes) else text
    return " ".join(decoded.split())[:200] or "nothing"
