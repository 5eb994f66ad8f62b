"""A client of openpi's websocket server (pi0, pi0-FAST, pi0.5). Needs websockets, msgpack and httpx.

The server sends its metadata when a connection opens. Then each message is an observation, and each answer a
chunk of actions. A text frame instead of a binary one is the traceback of an error of the server.
"""

from __future__ import annotations

import contextlib
import math
import socket
import struct
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, cast

import httpx
import numpy as np
from jaxtyping import Float, UInt8
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.sync.connection import Connection

from failsafe.errors import PolicyError, UserError
from failsafe.models.address import check_key, hide_key
from failsafe.policies import msgpack_numpy
from failsafe.policies.contract import ActionSpace
from failsafe.policies.libero import OPENPI
from failsafe.policies.served import LIBERO, Preset, ServedPolicy, check_url, excerpt, libero_state
from failsafe.records.observation import PolicyObservation

IMAGE_VIEWS = MappingProxyType({"observation/image": "front", "observation/wrist_image": "hand"})

_MAX_BYTES = 4_000_000
"""Largest message in bytes; 64 actions take less than 20 kB, the rest is for what servers add."""
_METADATA = "metadata"
_CLOSE_TIMEOUT = 0.5
_TOO_BIG = 1009
"""Close code for a message that is too large (RFC 6455, 7.4.1)."""


class OpenpiPolicy(ServedPolicy):
    """A policy behind openpi's server, with the observations of its LIBERO configurations.

    `reset` opens the connection, which stays open. After a drop, it is reopened and the request repeated.

    Args:
        url: URL of the server, for example "ws://127.0.0.1:8000" or "wss://policy.example".
        image_views: The view to send as each image of a request, by the name of the image.
        state: Makes "observation/state" from an observation.
        action_space: Meaning of the actions; depends on the configuration of the server.
        size: Height and width of the images to send, pixels.
        timeout: Seconds for an answer, retries included. The first one takes longest: the server compiles.
        connect_timeout: Seconds for a connection and for the metadata.
        retries: Retries if no connection is made or a connection is dropped.
        pause: Seconds before the first retry; doubled for each further one.
        api_key: Sent in the header of openpi's own client, `Authorization: Api-Key KEY`; empty for none.
        name: Name in tables.
        preset: Conversions that replace the action space, the size and the state, for example
            `OpenpiPolicy.presets["libero"]`; None for none.

    Raises:
        UserError: If the URL, a number or the key is invalid.
    """

    presets = MappingProxyType({"libero": OPENPI})

    def __init__(
        self,
        url: str,
        image_views: Mapping[str, str] = IMAGE_VIEWS,
        state: Callable[[PolicyObservation], Float[np.ndarray, "D"]] = libero_state,
        action_space: ActionSpace = LIBERO,
        size: int = 224,
        timeout: float = 60.0,
        connect_timeout: float = 5.0,
        retries: int = 3,
        pause: float = 0.25,
        api_key: str = "",
        name: str = "openpi",
        preset: Preset | None = None,
    ) -> None:
        if timeout <= 0 or connect_timeout <= 0 or retries < 0 or pause < 0:
            raise UserError(
                "expected time-outs above 0, retries and pause not below, "
                f"got {timeout}, {connect_timeout}, {retries}, {pause}"
            )
        super().__init__(name, check_url(url, "ws", "wss"), image_views, action_space, size, preset)
        self._state = preset.state if preset and preset.state else state
        self._timeout, self._connect_timeout = timeout, connect_timeout
        self._retries, self._pause = retries, pause
        self._key = check_key(api_key, "the API key of openpi's server")
        self._connection: ClientConnection | None = None
        self._closing = contextlib.ExitStack()
        self._metadata: Mapping[str, Any] = {}

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of its requests: the key, if there is one."""
        return {"Authorization": f"Api-Key {self._key}"} if self._key else {}

    @property
    def timeout(self) -> float:
        """Seconds for an answer."""
        return self._timeout

    @property
    def connect_timeout(self) -> float:
        """Seconds for a connection and for the metadata."""
        return self._connect_timeout

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Metadata of the server; empty before the first `reset`."""
        return self._metadata

    def reset(self, instruction: str) -> None:
        """Begin an episode, and open the connection if there is none.

        Raises:
            PolicyError: If the instruction is empty, or there is no server.
        """
        super().reset(instruction)
        if self._connection is None:
            self._try(self._connect)

    def close(self) -> None:
        """Close the connection, if there is one."""
        self._connection = None
        self._closing.close()

    def is_healthy(self) -> bool:
        """Whether the server reports at `/healthz` that it is up; requests no action."""
        url = "http" + self._url.removeprefix("ws") + "/healthz"
        try:
            reply = httpx.get(url, headers=self.headers, timeout=self._connect_timeout, trust_env=False)
        except httpx.HTTPError:
            return False
        return reply.status_code == 200

    def _ask(
        self,
        shown: Mapping[str, UInt8[np.ndarray, "size size 3"]],
        observation: PolicyObservation,
        instruction: str,
    ) -> object:
        body = msgpack_numpy.packb(
            {**shown, "observation/state": self._state(observation), "prompt": instruction}
        )
        answer = self._try(lambda deadline: self._exchange(body, deadline))
        if "actions" not in answer:
            raise PolicyError(
                f"{self._where}: expected an answer with 'actions', got one with {sorted(map(str, answer))}: "
                "is it a server of a policy?"
            )
        return answer["actions"]

    def _try(self, step: Callable[[float], Any]) -> Any:
        """Run a step with retries, and return its result. The step gets its deadline.

        Raises:
            PolicyError: If the connection keeps failing, or the step raises it.
        """
        deadline = time.monotonic() + self._timeout
        pause, problem = self._pause, ""
        for attempt in range(self._retries + 1):
            try:
                return step(deadline)
            except ConnectionClosed as error:
                self.close()
                problem = str(error)
                if error.sent is not None and error.sent.code == _TOO_BIG:
                    raise PolicyError(
                        f"{self._where}: expected an answer of at most {_MAX_BYTES} bytes, got more: "
                        "is it a server of a policy?"
                    ) from None
            except (OSError, WebSocketException) as error:
                self.close()
                problem = str(error) or type(error).__name__
            except PolicyError:
                self.close()  # a late answer must not be read as the next one
                raise
            if attempt == self._retries or time.monotonic() + pause >= deadline:
                break
            time.sleep(pause)
            pause *= 2
        raise PolicyError(
            f"{self._where}: expected an answer, got no connection, or a dropped one "
            f"({hide_key(excerpt(problem), self._key)}): "
            "start the server, or correct its address"
        )

    def _connect(self, deadline: float) -> ClientConnection:
        seconds = min(self._connect_timeout, max(deadline - time.monotonic(), 0.01))
        connection = self._closing.enter_context(
            open_connection(self._url, seconds, self.headers, _MAX_BYTES)
        )
        self._metadata = self._receive(connection, self._connect_timeout, _METADATA)
        self._connection = connection
        return connection

    def _exchange(self, body: bytes, deadline: float) -> Mapping[str, Any]:
        connection = self._connection or self._connect(deadline)
        limit_sending(connection, max(deadline - time.monotonic(), 0.01))
        connection.send(body)
        return self._receive(connection, max(deadline - time.monotonic(), 0.01), "actions")

    def _receive(self, connection: ClientConnection, seconds: float, what: str) -> Mapping[str, Any]:
        try:
            frame = connection.recv(timeout=seconds)
        except TimeoutError:
            setting, limit = "timeout", self._timeout
            if what == _METADATA:
                setting, limit = "connect_timeout", self._connect_timeout
            raise PolicyError(
                f"{self._where}: expected {what} in time, got nothing within {seconds:.1f} s: see whether "
                f"the server is busy, or allow more time with ?{setting}={2 * limit:g} behind its address"
            ) from None
        if isinstance(frame, str):
            last = frame.strip().rpartition("\n")[2]  # the exception is the last line of a traceback
            raise PolicyError(
                f"{self._where}: expected {what}, got an error "
                f"({hide_key(excerpt(last), self._key)}): the server failed at the request, and its log has "
                "the rest"
            )
        try:
            answer = msgpack_numpy.unpackb(frame)
        except ValueError as error:
            raise PolicyError(
                f"{self._where}: expected {what} in MessagePack, got something else ({error}): "
                "is it a server of a policy?"
            ) from None
        if not isinstance(answer, dict):
            raise PolicyError(
                f"{self._where}: expected {what} as a map, got {type(answer).__name__}: "
                "is it a server of a policy?"
            )
        return cast(dict[str, Any], answer)


def open_connection(
    url: str, seconds: float, headers: Mapping[str, str] | None, max_bytes: int
) -> ClientConnection:
    """Open a connection to openpi's server, which sends the first message.

    Args:
        url: URL of the server.
        seconds: Time-out of the connection.
        headers: Additional HTTP headers.
        max_bytes: Largest message in bytes.

    Raises:
        OSError, WebSocketException: If the connection fails.
    """
    # No proxy between a robot and its policy. No pings: the server does not answer them while it computes, so
    # they would close the connection during the first, long query.
    return connect(
        url,
        additional_headers=headers,
        compression=None,
        proxy=None,
        open_timeout=seconds,
        ping_interval=None,
        close_timeout=_CLOSE_TIMEOUT,
        max_size=max_bytes,
    )


def limit_sending(connection: Connection, seconds: float) -> None:
    """Set the time-out of a connection's `send`, which otherwise blocks forever if the peer stops reading.

    Args:
        connection: The connection.
        seconds: The time-out.
    """
    fraction, whole = math.modf(seconds)
    limit = struct.pack("ll", int(whole), int(1e6 * fraction))
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
