"""Clients of the REST servers of OpenVLA and OpenVLA-OFT, each the `vla-scripts/deploy.py` of its repository.

Both take `POST /act` with JSON in which arrays are encoded as by json-numpy, and both answer the word "error"
to whatever goes wrong. Needs httpx.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import httpx
import numpy as np
from jaxtyping import Float, UInt8

from failsafe.errors import PolicyError, UserError
from failsafe.policies import json_numpy
from failsafe.policies.contract import ActionSpace, Anchor, RotationFormat
from failsafe.policies.libero import OPENVLA, OPENVLA_OFT
from failsafe.policies.served import LIBERO, Preset, ServedPolicy, check_url, excerpt, libero_state
from failsafe.records.observation import PolicyObservation

BRIDGE = ActionSpace(
    rotation=RotationFormat.EULER, anchor=Anchor.MEASURED, gripper_open=1.0, gripper_closed=0.0, rate_hz=5.0
)
"""Actions of OpenVLA under `unnorm_key=bridge_orig`: metres, roll, pitch and yaw in radians."""
LIBERO_OFT = replace(LIBERO, gripper_open=1.0, gripper_closed=0.0, chunk=8)
"""Actions of OpenVLA-OFT's checkpoints for LIBERO: LIBERO's own, but for the gripper."""
IMAGE_VIEWS = MappingProxyType({"image": "front"})
IMAGE_VIEWS_OFT = MappingProxyType({"full_image": "front", "wrist_image": "hand"})

_MAX_BYTES = 1_000_000
"""The most bytes of an answer; 64 actions take under 6 kB."""


class OpenVlaPolicy(ServedPolicy):
    """OpenVLA: one image and the instruction are sent, one action is returned.

    Args:
        url: URL of the server, for example "http://127.0.0.1:8000"; "/act" is added where it is missing.
        unnorm_key: Dataset whose statistics scale the actions; empty if the server has one dataset only.
        image_views: The view to send as each image of a request, by the name of the image.
        action_space: Meaning of the actions; depends on the checkpoint and on `unnorm_key`.
        size: Height and width of the images to send, pixels.
        timeout: Seconds for an answer, retries included.
        retries: Retries if no connection is made or a connection is dropped.
        pause: Seconds before the first retry; doubled for each further one.
        double_encode: Send the request as JSON within JSON, under the key "encoded", for servers that need
            it. The answer is encoded in the same way.
        name: Name in tables.
        preset: Conversions that replace the action space and the size, for example
            `OpenVlaPolicy.presets["libero"]`; None for none.

    Raises:
        UserError: If the URL or a number is invalid.
    """

    presets = MappingProxyType({"libero": OPENVLA})

    def __init__(
        self,
        url: str,
        unnorm_key: str = "",
        image_views: Mapping[str, str] = IMAGE_VIEWS,
        action_space: ActionSpace = BRIDGE,
        size: int = 224,
        timeout: float = 30.0,
        retries: int = 2,
        pause: float = 0.25,
        double_encode: bool = False,
        name: str = "openvla",
        preset: Preset | None = None,
    ) -> None:
        super().__init__(name, url, image_views, action_space, size, preset)
        self._unnorm_key = unnorm_key
        self._server = _ActServer(url, self._where, timeout, retries, pause, double_encode)

    def close(self) -> None:
        """Close open connections."""
        self._server.close()

    def _ask(
        self,
        shown: Mapping[str, UInt8[np.ndarray, "size size 3"]],
        observation: PolicyObservation,
        instruction: str,
    ) -> object:
        extra = {"unnorm_key": self._unnorm_key} if self._unnorm_key else {}
        return [self._server.act({**shown, "instruction": instruction, **extra})]


class OpenVlaOftPolicy(ServedPolicy):
    """OpenVLA-OFT: images, proprioception and instruction are sent, a chunk of actions is returned.

    The server treats each key that contains "wrist" as a wrist camera: "wrist_image" in LIBERO,
    "left_wrist_image" and "right_wrist_image" in ALOHA. The statistics that scale the actions are an option
    of the server.

    Args:
        url: URL of the server, for example "http://127.0.0.1:8777"; "/act" is added where it is missing.
        image_views: The view to send as each image of a request, by the name of the image.
        state: Makes the proprioception from an observation; None if the server takes none.
        action_space: Meaning of the actions; depends on the checkpoint.
        size: Height and width of the images to send, pixels.
        timeout: Seconds for an answer, retries included.
        retries: Retries if no connection is made or a connection is dropped.
        pause: Seconds before the first retry; doubled for each further one.
        double_encode: As for `OpenVlaPolicy`.
        name: Name in tables.
        preset: Conversions that replace the action space, the size and the state, for example
            `OpenVlaOftPolicy.presets["libero"]`; None for none.

    Raises:
        UserError: If the URL or a number is invalid.
    """

    presets = MappingProxyType({"libero": OPENVLA_OFT})

    def __init__(
        self,
        url: str,
        image_views: Mapping[str, str] = IMAGE_VIEWS_OFT,
        state: Callable[[PolicyObservation], Float[np.ndarray, "D"]] | None = libero_state,
        action_space: ActionSpace = LIBERO_OFT,
        size: int = 224,
        timeout: float = 30.0,
        retries: int = 2,
        pause: float = 0.25,
        double_encode: bool = False,
        name: str = "openvla-oft",
        preset: Preset | None = None,
    ) -> None:
        super().__init__(name, url, image_views, action_space, size, preset)
        self._state = preset.state if preset and preset.state else state
        self._server = _ActServer(url, self._where, timeout, retries, pause, double_encode)

    def close(self) -> None:
        """Close open connections."""
        self._server.close()

    def _ask(
        self,
        shown: Mapping[str, UInt8[np.ndarray, "size size 3"]],
        observation: PolicyObservation,
        instruction: str,
    ) -> object:
        extra = {"state": self._state(observation)} if self._state else {}
        return self._server.act({**shown, **extra, "instruction": instruction})


def _act_url(url: str) -> str:
    """Return the URL of the action; OpenVLA-OFT's own client is given it whole."""
    return check_url(url, "http", "https").removesuffix("/act") + "/act"


class _ActServer:
    """`POST /act` with bounded time and size; every fault is a `PolicyError`."""

    def __init__(
        self, url: str, where: str, timeout: float, retries: int, pause: float, double_encode: bool
    ) -> None:
        if timeout <= 0 or retries < 0 or pause < 0:
            raise UserError(
                f"expected timeout above 0, retries and pause not below, got {timeout}, {retries}, {pause}"
            )
        self._url, self._where = _act_url(url), where
        self._timeout, self._retries, self._pause = timeout, retries, pause
        self._double_encode = double_encode
        # No proxy between a robot and its policy. The context reads SSL_CERT_FILE, for a private authority.
        self._client = httpx.Client(trust_env=False, verify=httpx.create_ssl_context())

    def close(self) -> None:
        self._client.close()

    def act(self, payload: Mapping[str, object]) -> Any:
        """Send a request and return the decoded answer.

        Raises:
            PolicyError: If there is no answer, or the answer is the word "error".
        """
        body = json_numpy.dumps(payload)
        if self._double_encode:
            body = json_numpy.dumps({"encoded": body})
        reply = self._ask(body.encode())
        try:
            answer = json_numpy.loads(reply)
            if self._double_encode and isinstance(answer, str) and answer != "error":
                answer = json_numpy.loads(answer)
        except ValueError as error:
            raise PolicyError(
                f"{self._where}: expected JSON with actions, got '{excerpt(reply)}' ({error}): "
                "is this its server?"
            ) from None
        if isinstance(answer, str):
            raise PolicyError(
                f"{self._where}: expected actions, got the word '{excerpt(answer)}': the server failed "
                "at the request; see its log for the cause (often an unknown unnorm_key or state)"
            )
        return answer

    def _ask(self, body: bytes) -> bytes:
        deadline = time.monotonic() + self._timeout
        pause, problem = self._pause, ""
        for attempt in range(self._retries + 1):
            try:
                status, reply = self._post(body, deadline)
            except httpx.TimeoutException:
                raise PolicyError(
                    f"{self._where}: expected actions within {self._timeout:g} s, got none: see whether "
                    f"the server is busy, or allow more time with ?timeout={2 * self._timeout:g} behind its "
                    "address"
                ) from None
            except httpx.HTTPError as error:
                problem = str(error) or type(error).__name__
            else:
                if status == 200:
                    return reply
                raise PolicyError(
                    f"{self._where}: expected status 200, got {status} ({excerpt(reply)}): "
                    "see the server's log"
                )
            if attempt == self._retries or time.monotonic() + pause >= deadline:
                break
            time.sleep(pause)
            pause *= 2
        raise PolicyError(
            f"{self._where}: expected an answer, got no connection, or a dropped one ({problem}): "
            "start the server, or correct its address"
        )

    def _post(self, body: bytes, deadline: float) -> tuple[int, bytes]:
        left = deadline - time.monotonic()
        if left <= 0:
            raise httpx.ReadTimeout("")
        found = bytearray()
        headers = {"Content-Type": "application/json"}
        with self._client.stream("POST", self._url, content=body, headers=headers, timeout=left) as response:
            for part in response.iter_bytes():
                found += part
                if len(found) > _MAX_BYTES:
                    raise PolicyError(
                        f"{self._where}: expected an answer of at most {_MAX_BYTES} bytes, got more: "
                        "is this its server?"
                    )
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("")
        return response.status_code, bytes(found)
