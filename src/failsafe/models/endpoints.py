"""Recovery models behind an OpenAI-compatible server, by their address."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from failsafe.errors import UnknownNameError, UserError
from failsafe.models.address import parse_address, read_key, read_setting
from failsafe.models.contract import RecoveryModel
from failsafe.models.loading import MODELS
from failsafe.records.assessment import WindowSpec

API_KEY = "FAILSAFE_API_KEY"
"""The environment variable with the key for a served model."""


class EndpointModels:
    """The entry of a scheme: a FailSafe-VLM behind an OpenAI-compatible server.

    An address is "SCHEME://HOST:PORT/v1?model=NAME". More settings, all optional:

    - `card`: folder of the checkpoint on this machine. Its card states the windows, instructions and failure
      modes that the model was trained on, and the seeds that must not be evaluated.
    - `size`: height and width of the images in pixels, where there is no card (384).
    - `timeout`: seconds for one assessment, retries included (30).
    - `retries`: how often a failed request is repeated (2).
    - `word_counts`: take the word "yes" or "no" as a probability of 1 or 0 where the server lists no
      log-probabilities (false).

    A key for the server is read from the environment variable `FAILSAFE_API_KEY`.

    Args:
        scheme: "openai+http" or "openai+https".
    """

    DEFAULTS: ClassVar[Mapping[str, object]] = {
        "model": "",
        "card": "",
        "size": 384,
        "timeout": 30.0,
        "retries": 2,
        "word_counts": False,
    }

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme

    def __call__(self, address: str, any_instruction: bool = False) -> RecoveryModel:
        """Connect to a model and query it once.

        Args:
            address: What stands behind "SCHEME:".
            any_instruction: Let it assess instructions that its card does not name.

        Raises:
            UserError: If the address is wrong, httpx is not installed, or the server does not answer.
        """
        url, settings = self._read(address)
        try:
            from failsafe.models.llava.card import LlavaCard, read_card
            from failsafe.models.llava.endpoint import EndpointModel, check_answer
        except ModuleNotFoundError as error:
            raise UserError(
                f"a served model needs {error.name}, which is not installed: "
                "pip install 'failsafe-vla[servers]'"
            ) from error
        key = read_key(API_KEY)
        folder = settings.pop("card")
        size = settings.pop("size")
        card = read_card(Path(str(folder))) if folder else LlavaCard(WindowSpec(size=int(str(size))))
        model = EndpointModel(
            url,
            str(settings.pop("model")),
            card,
            api_key=key,
            any_instruction=any_instruction,
            **settings,  # pyright: ignore[reportArgumentType]  (read as the types of their defaults)
        )
        try:
            check_answer(model)
        except UserError:
            model.close()
            raise
        return model

    def fingerprint(self, address: str) -> str:
        """Return the served model's name and URL."""
        url, settings = self._read(address)
        return f"{settings['model']} at {url}"

    def _read(self, text: str) -> tuple[str, dict[str, object]]:
        address = parse_address(self._scheme, text)
        settings = dict(self.DEFAULTS)
        for key, value in address.settings.items():
            if key not in self.DEFAULTS:
                raise UnknownNameError(f"key of {self._scheme}", key, self.DEFAULTS)
            settings[key] = read_setting(key, value, self.DEFAULTS[key])
        if not settings["model"]:
            raise UserError(
                f"expected the model's name on the server, as in {self._scheme}://HOST:PORT/v1?model=NAME, "
                "got no model"
            )
        return f"{self._scheme.removeprefix('openai+')}://{address.location}", settings


for _scheme in ("openai+http", "openai+https"):
    MODELS.add(_scheme, EndpointModels(_scheme))
