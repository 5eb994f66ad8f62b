"""A served FailSafe-VLM, or another vision-language model, behind an OpenAI-compatible endpoint. Needs httpx.

The prompt is the same as in process; the JSON schema of the answer is sent as `response_format`. Time and
size of a response are bounded, because a control loop waits for it. Every fault becomes an assessment:
"refused" if there is no response, "unreadable" if the response is not a valid answer.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
import time
from collections.abc import Mapping
from typing import Any, cast

import httpx
import numpy as np

from failsafe.errors import UserError
from failsafe.models.address import check_key, hide_key, is_loopback
from failsafe.models.contract import assess_safely
from failsafe.models.llava.answer import MAX_TOKENS, answer_schema
from failsafe.models.llava.card import LlavaCard
from failsafe.models.llava.prompt import prompt_text, window_images
from failsafe.models.llava.reading import Token, to_assessment
from failsafe.records.assessment import Assessment, Status, Window, WindowSpec

_TRANSIENT = frozenset({429, 500, 502, 503, 504})
_NOT_FOUND = frozenset({404, 405})
_MAX_BYTES = 4_000_000
"""Largest response in bytes; 1,024 tokens with 20 alternatives each take less than 2 MB."""
_ANY_ADDRESS = ("0.0.0.0", "::")
"""Addresses to listen on; a client that connects to one reaches its own machine."""
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_ALTERNATIVES = 20
"""Alternatives requested for each token: the most that OpenAI's protocol allows."""


class EndpointModel:
    """A model behind an endpoint as a recovery model.

    The failure probability is computed from the log-probabilities of `yes` and `no`. Without them the
    assessment is "refused", unless `word_counts` is set.

    Args:
        url: Base URL with the version, for example "http://127.0.0.1:8000/v1".
        model_name: Name of the model on the server.
        card: The card of its training. With a card that states the windows alone, any instruction and any
            mode are accepted.
        timeout: Seconds for an assessment, retries included. A response that arrives in parts may take longer
            by the time between two parts.
        retries: Retries if the server fails or cannot be reached.
        pause: Seconds before the first retry; doubled for each further one.
        api_key: Bearer token; empty for none.
        word_counts: Use the word as a probability of 0 or 1 if the server lists no log-probabilities.
        any_instruction: Assess instructions that it was not trained on; by default they are refused.

    Raises:
        UserError: If the URL, a number or the key is invalid, or the environment names a proxy that cannot be
            used. An address of this machine is never reached through a proxy.
    """

    def __init__(
        self,
        url: str,
        model_name: str,
        card: LlavaCard,
        timeout: float = 30.0,
        retries: int = 2,
        pause: float = 0.25,
        api_key: str = "",
        word_counts: bool = False,
        any_instruction: bool = False,
    ) -> None:
        base = _check_endpoint(url)
        if timeout <= 0 or retries < 0 or pause < 0:
            raise UserError(
                f"expected timeout above 0, retries and pause not below, got {timeout}, {retries}, {pause}"
            )
        self._url = str(base).rstrip("/") + "/chat/completions"
        self._model_name, self._card = model_name, card
        self._timeout, self._retries, self._pause = timeout, retries, pause
        self._word_counts, self._any_instruction = word_counts, any_instruction
        self._schema = answer_schema(card.embodiment, card.modes)
        self._key = check_key(api_key, "the API key of the endpoint")
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._client = _make_client(base.host, headers)

    @property
    def name(self) -> str:
        """Name in tables."""
        return self._model_name

    @property
    def window_spec(self) -> WindowSpec:
        """The windows that it takes."""
        return self._card.spec

    @property
    def instructions(self) -> tuple[str, ...]:
        """The instructions that it assesses; none if it assesses any."""
        return () if self._any_instruction else self._card.instructions

    @property
    def meta(self) -> LlavaCard:
        """The card of its training."""
        return self._card

    def close(self) -> None:
        """Close open connections."""
        self._client.close()

    def assess(self, window: Window) -> Assessment:
        """Assess one window.

        Raises:
            AssessmentError: If the window does not match `window_spec`, or the model refuses its instruction.
        """
        self._card.check(window, self._any_instruction)
        body = json.dumps(self._request(window)).encode()
        try:
            text, tokens, cut = _read_completion(self._ask(body))
        except _NoAnswerError as error:
            return Assessment(status=Status.REFUSED, reason=hide_key(str(error), self._key))
        assessment = to_assessment(text, tokens, self._card.embodiment, self._word_counts, self._card.modes)
        if cut and assessment.status is Status.UNREADABLE:
            return Assessment(
                status=Status.UNREADABLE,
                raw=text,
                reason=f"the server cut the answer short: {assessment.reason}",
            )
        return assessment

    def _request(self, window: Window) -> dict[str, Any]:
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": _data_url(image)}} for image in window_images(window)
        ]
        content.append({"type": "text", "text": prompt_text(window)})
        return {
            "model": self._model_name,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": MAX_TOKENS,
            "temperature": 0.0,
            "logprobs": True,
            "top_logprobs": _ALTERNATIVES,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "assessment", "strict": True, "schema": self._schema},
            },
        }

    def _ask(self, body: bytes) -> bytes:
        """Send a request and return the body of the response.

        Raises:
            _NoAnswerError: If there is no response in time, or the server refuses.
        """
        deadline = time.monotonic() + self._timeout
        pause, problem = self._pause, ""
        for attempt in range(self._retries + 1):
            try:
                status, reply = self._post(body, deadline)
            except httpx.TimeoutException:
                raise _NoAnswerError(
                    f"no answer from {self._url} within {self._timeout:g} s; more time is allowed by "
                    f"timeout={2 * self._timeout:g} in its address"
                ) from None
            except httpx.HTTPError as error:
                problem = f"no answer from {self._url}: {error or type(error).__name__}"
            else:
                if status == 200:
                    return reply
                problem = f"{self._url} answered with status {status}: {_excerpt(reply)}"
                if status in _NOT_FOUND and not self._url.endswith("/v1/chat/completions"):
                    problem += " (the address has no /v1, which most servers expect: http://HOST:PORT/v1)"
                if status not in _TRANSIENT:
                    raise _NoAnswerError(problem)
            if attempt == self._retries or time.monotonic() + pause >= deadline:
                break
            time.sleep(pause)
            pause *= 2
        raise _NoAnswerError(problem)

    def _post(self, body: bytes, deadline: float) -> tuple[int, bytes]:
        left = deadline - time.monotonic()
        if left <= 0:
            raise httpx.ReadTimeout("")
        found = bytearray()
        with self._client.stream(
            "POST", self._url, content=body, headers={"Content-Type": "application/json"}, timeout=left
        ) as response:
            for part in response.iter_bytes():
                found += part
                if len(found) > _MAX_BYTES:
                    raise _NoAnswerError(
                        f"expected a response of at most {_MAX_BYTES} bytes from {self._url}"
                    )
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("")
        return response.status_code, bytes(found)


def check_answer(model: EndpointModel) -> None:
    """Query a server once, with black images, before many queries depend on it.

    Args:
        model: The model behind the server.

    Raises:
        UserError: If there is no answer; the message says why.
    """
    spec = model.window_spec
    steps = spec.history + 1
    window = Window(
        instruction=next(iter(model.meta.instructions), "Pick up the cube"),
        spec=spec,
        frames=np.zeros((len(spec.views), spec.frames, spec.size, spec.size, 3), np.uint8),
        tcp_poses=np.tile(np.array([0.5, 0.0, 0.2, 0.0, 1.0, 0.0, 0.0], np.float32), (steps, 1)),
        gripper_widths=np.zeros(steps, np.float32),
    )
    assessment = assess_safely(model, window)
    if assessment.status is Status.REFUSED:
        raise UserError(
            f"expected an assessment from the model {model.name} to a first query, got none: "
            f"{assessment.reason}; check the server and the address"
        )


def _check_endpoint(url: str) -> httpx.URL:
    expected = "expected an endpoint such as http://127.0.0.1:8000/v1"
    try:
        found = httpx.URL(url)
    except httpx.InvalidURL:
        found = httpx.URL("")
    if found.userinfo:  # not repeated: it may hold a password
        raise UserError(f"{expected}, got one with a user name: give the key as FAILSAFE_API_KEY")
    if found.scheme not in ("http", "https") or not found.host:
        raise UserError(f"{expected}, got '{url}'")
    if found.query or found.fragment:
        raise UserError(f"{expected}, got '{url}' with a query or a fragment: leave it out")
    if found.path.rstrip("/").endswith("/chat/completions"):
        raise UserError(f"{expected}, got '{url}': leave out /chat/completions, which is added")
    return found


def _make_client(host: str, headers: Mapping[str, str]) -> httpx.Client:
    """Return a client; one for an address of this machine reads no proxies from the environment."""
    if is_loopback(host) or host in _ANY_ADDRESS:
        return httpx.Client(headers=headers, trust_env=False)
    try:
        return httpx.Client(headers=headers)
    except (ImportError, ValueError, TypeError, httpx.InvalidURL) as error:
        # Proxies may hold passwords: only their names are told.
        found = [name for name in os.environ if name.lower() in _PROXIES and os.environ[name]]
        why = f" ({error})" if isinstance(error, ImportError) else ""
        raise UserError(
            f"expected proxies that can be used for {host} in the environment, got another value in one of "
            f"{', '.join(sorted(found))}{why}: correct it, or unset it"
        ) from None


class _NoAnswerError(Exception):
    """There is no answer; the message states why."""


def _data_url(image: Any) -> str:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _read_completion(reply: bytes) -> tuple[str, list[Token], bool]:
    """Read text and tokens of a chat completion, and whether it was cut short.

    Raises:
        _NoAnswerError: If the response is not a chat completion.
    """
    try:
        choice = json.loads(reply)["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError):
        raise _NoAnswerError(f"expected a chat completion, got: {_excerpt(reply)}") from None
    if not isinstance(text, str):
        raise _NoAnswerError(f"the model refuses: {refusal!s:.200}" if refusal else "the model gave no text")
    return text, _read_tokens(choice.get("logprobs")), choice.get("finish_reason") == "length"


def _read_tokens(logprobs: object) -> list[Token]:
    """Read the tokens of a completion; empty if they do not follow the protocol."""
    try:
        listed = cast(Any, logprobs)["content"]
        return [
            Token(
                _text(entry["token"]),
                _logprob(entry["logprob"]),
                {_text(o["token"]): _logprob(o["logprob"]) for o in entry.get("top_logprobs") or ()},
            )
            for entry in listed
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        return []


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _logprob(value: object) -> float:
    number = float(cast(Any, value))
    if math.isnan(number) or number > 1e-6:
        raise ValueError
    return min(max(number, -1e4), 0.0)  # some servers write minus infinity


def _excerpt(reply: bytes) -> str:
    text = " ".join(reply[:400].decode(errors="replace").split())
    return text[:200] or "nothing"
