"""A served FailSafe-VLM, or another vision-language model, behind an OpenAI-compatible endpoint. Needs httpx.

What is asked is the same as in process; the server is told the answer's JSON schema as `response_format`. A
control loop hangs on what comes back, so time and size are bounded and every fault is a verdict: "refused"
where no answer came, "unreadable" where one came that is none.
"""

from __future__ import annotations

import base64
import io
import json
import math
import time
from typing import Any, cast

import httpx
import numpy as np

from failsafe.errors import UserError
from failsafe.models.contract import assess_safely
from failsafe.models.llava.answer import MAX_TOKENS, answer_schema
from failsafe.models.llava.card import LlavaCard
from failsafe.models.llava.prompt import pictures, prompt_text
from failsafe.models.llava.reading import Token, to_assessment
from failsafe.records.assessment import Assessment, Status, Window, WindowSpec

_TRANSIENT = frozenset({429, 500, 502, 503, 504})
_MAX_BYTES = 4_000_000
"""The most bytes of a response; 1,024 tokens with 20 alternatives each take under 2 MB."""
_ALTERNATIVES = 20
"""How many tokens a server is asked to list at each place: the most that OpenAI's protocol allows."""


class EndpointModel:
    """A model behind an endpoint as a recovery model.

    The probability of failure is read from the log-probabilities that the server lists for `yes` and `no`. A
    server that lists none is not believed by its word: the verdict is "refused", unless `word_counts` says
    that probabilities of 0 and 1 will do.

    Args:
        url: Up to and with the version, "http://127.0.0.1:8000/v1".
        model_name: The model's name on the server.
        card: What is known of its training. One with nothing but windows, of a model that was trained
            elsewhere: any instruction will do, and any kind of failure.
        timeout: Seconds for an assessment, tries included. A response that trickles in may take longer, by
            the time between two of its parts.
        retries: How often it is asked again where the server says that it failed or cannot be reached.
        pause: Seconds before it is asked again, twice as many each time.
        api_key: Sent as a bearer token where it is not empty.
        word_counts: Take the word for a probability of 0 or 1 where the server lists no log-probabilities.
        any_instruction: Assess instructions that it was not trained on, too; by default they are refused.

    Raises:
        UserError: If the URL or a number is not as it must be.
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
        try:
            scheme = httpx.URL(url).scheme
        except httpx.InvalidURL:
            scheme = ""
        if scheme not in ("http", "https"):
            raise UserError(f"expected an endpoint such as http://127.0.0.1:8000/v1, got '{url}'")
        if timeout <= 0 or retries < 0 or pause < 0:
            raise UserError(
                f"expected timeout above 0, retries and pause not below, got {timeout}, {retries}, {pause}"
            )
        self._url = url.rstrip("/") + "/chat/completions"
        self._model_name, self._card = model_name, card
        self._timeout, self._retries, self._pause = timeout, retries, pause
        self._word_counts, self._any_instruction = word_counts, any_instruction
        self._schema = answer_schema(card.modes)
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(headers=headers)

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return self._model_name

    @property
    def window_spec(self) -> WindowSpec:
        """The windows that it looks at."""
        return self._card.spec

    @property
    def meta(self) -> LlavaCard:
        """What is known of its training."""
        return self._card

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._client.close()

    def assess(self, window: Window) -> Assessment:
        """Assess one window.

        Raises:
            AssessmentError: If the window or its instruction is not one that the model can look at.
        """
        self._card.check(window, self._any_instruction)
        body = json.dumps(self._request(window)).encode()
        try:
            text, tokens, cut = _read_completion(self._ask(body))
        except _NoAnswerError as error:
            return Assessment(status=Status.REFUSED, reason=str(error))
        assessment = to_assessment(text, tokens, self._word_counts, self._card.modes)
        if cut and assessment.status is Status.UNREADABLE:
            return Assessment(
                status=Status.UNREADABLE,
                raw=text,
                reason=f"the server cut the answer short: {assessment.reason}",
            )
        return assessment

    def _request(self, window: Window) -> dict[str, Any]:
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": _data_url(picture)}} for picture in pictures(window)
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
        """The body of the response.

        Raises:
            _NoAnswerError: If none came in time, or the server refuses.
        """
        deadline = time.monotonic() + self._timeout
        pause, problem = self._pause, ""
        for attempt in range(self._retries + 1):
            try:
                status, reply = self._post(body, deadline)
            except httpx.TimeoutException:
                raise _NoAnswerError(f"no answer from {self._url} within {self._timeout:g} s") from None
            except httpx.HTTPError as error:
                problem = f"no answer from {self._url}: {error or type(error).__name__}"
            else:
                if status == 200:
                    return reply
                problem = f"{self._url} answered with status {status}: {_excerpt(reply)}"
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


class _NoAnswerError(Exception):
    """There is no answer; says why."""


def _data_url(picture: Any) -> str:
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _read_completion(reply: bytes) -> tuple[str, list[Token], bool]:
    """Text and tokens of a chat completion, and whether it was cut short.

    Raises:
        _NoAnswerError: If it is none.
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
    """The tokens of a completion; none where they are not as the protocol has them."""
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
