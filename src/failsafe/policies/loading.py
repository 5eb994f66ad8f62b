"""Policies by name: one that ships, one behind a server, or a class of one's own."""

from __future__ import annotations

import enum
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from failsafe.errors import PolicyError, UnknownNameError, UserError
from failsafe.models.loading import fingerprint
from failsafe.policies.contract import ActionSpace, Policy

FORMS = (
    "reference:weak, reference:medium, reference:strong",
    "openvla://HOST:PORT",
    "openvla-oft://HOST:PORT",
    "openpi://HOST:PORT",
    "python:MODULE:CLASS",
)
"""What a policy can be named as; the ones with a port take settings, as in `?rate_hz=20&chunk=4`."""

_SERVED = {
    "openvla": ("failsafe.policies.openvla", "OpenVlaPolicy", "http"),
    "openvla-oft": ("failsafe.policies.openvla", "OpenVlaOftPolicy", "http"),
    "openpi": ("failsafe.policies.openpi", "OpenpiPolicy", "ws"),
    "ws": ("failsafe.policies.openpi", "OpenpiPolicy", "ws"),
    "wss": ("failsafe.policies.openpi", "OpenpiPolicy", "wss"),
}
_NOT_IN_URLS = ("url", "api_key")
"""Arguments that are no settings; a secret has no place in a name that is printed and written down."""


def load_policy(name: str) -> Policy:
    """The policy that a name stands for.

    Behind the `?` of a server can stand every field of `ActionSpace`, every number and word that the client's
    constructor takes (`unnorm_key`, `timeout`, ...), and every picture that it sends, with the view to be
    shown in it (`image=side`; `wrist_image=` leaves it out). The rest is as the client has it by default.

    Args:
        name: One of `FORMS`.

    Returns:
        The policy; a server has not been asked for anything yet.

    Raises:
        UserError: If there is no such policy, or what it needs is not installed.
    """
    kind, colon, rest = name.partition(":")
    if kind == "reference" and colon:
        return _import("failsafe.policies.reference", "compact").load_reference(rest)
    if kind == "python" and colon:
        return _own(name, rest)
    if kind in _SERVED and rest.startswith("//"):
        return _served(name, kind)
    raise UserError(f"expected a policy such as {'; '.join(FORMS)}; got '{name}'")


def policy_fingerprint(name: str) -> str:
    """SHA-256 of a policy's weights; empty for one whose weights are behind a server or in code of one's own.

    Args:
        name: As for `load_policy`.
    """
    kind, _, rest = name.partition(":")
    if kind != "reference":
        return ""
    return fingerprint(str(_import("failsafe.policies.reference", "compact").reference_path(rest)))


def _import(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "failsafe":
            raise
        raise UserError(
            f"this policy needs {missing}, which is not installed: pip install 'failsafe-vla[{extra}]'"
        ) from error


def _own(name: str, path: str) -> Policy:
    module_name, colon, class_name = path.partition(":")
    try:
        factory: Any = getattr(importlib.import_module(module_name), class_name) if colon else None
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"expected python:MODULE:CLASS of a policy, got '{name}': {error}") from error
    if not callable(factory):
        raise UserError(f"expected python:MODULE:CLASS of a policy, got '{name}'")
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise UserError(
            f"expected a class that can be made without arguments, got '{name}': {error}"
        ) from error
    policy = factory()
    if not isinstance(policy, Policy):
        members = ("name", "action_space", "views", "reset", "act", "drop_queue")
        missing = [member for member in members if not hasattr(policy, member)]
        raise UserError(
            f"expected all of failsafe.policies.contract.Policy from '{name}', missing: {', '.join(missing)}"
        )
    return policy


def _served(name: str, kind: str) -> Policy:
    module, class_name, transport = _SERVED[kind]
    try:
        parts = urlsplit(name)
        port, pairs = (
            parts.port,
            parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)),
        )
    except ValueError as error:
        raise UserError(f"expected {kind}://HOST:PORT?KEY=VALUE, got '{name}': {error}") from error
    if not parts.hostname or port is None or parts.username is not None or parts.fragment:
        raise UserError(f"expected {kind}://HOST:PORT?KEY=VALUE, got '{name}'")
    if len(dict(pairs)) < len(pairs):
        raise UserError(f"expected each key once, got '{name}'")
    factory = getattr(_import(module, "servers"), class_name)
    settings = _settings(kind, factory, dict(pairs))
    try:
        return factory(f"{transport}://{parts.netloc}{parts.path}", **settings)
    except PolicyError as error:
        raise UserError(str(error)) from error


def _settings(kind: str, factory: Any, said: Mapping[str, str]) -> dict[str, Any]:
    """What a client is to be made with, its defaults changed by what was said."""
    defaults = {key: found.default for key, found in inspect.signature(factory).parameters.items()}
    pictures: dict[str, str] = dict(defaults["pictures"])
    space: dict[str, object] = {
        f.name: getattr(defaults["action_space"], f.name) for f in fields(ActionSpace)
    }
    others: dict[str, object] = {
        key: default
        for key, default in defaults.items()
        if isinstance(default, (str, bool, int, float)) and key not in _NOT_IN_URLS
    }
    settings: dict[str, Any] = {}
    changed: dict[str, Any] = {}
    for key, text in said.items():
        if key in pictures:
            pictures[key] = text
        elif key in space:
            changed[key] = _read(key, text, space[key])
        elif key in others:
            settings[key] = _read(key, text, others[key])
        else:
            raise UnknownNameError(f"key of {kind}", key, [*pictures, *space, *others])
    try:
        stated = replace(cast(ActionSpace, defaults["action_space"]), **changed)
    except PolicyError as error:
        raise UserError(str(error)) from error
    return {"pictures": pictures, "action_space": stated, **settings}


def _read(key: str, text: str, default: object) -> object:
    """The value that a text stands for, of the type that the default has."""
    if isinstance(default, enum.Enum):
        known = [str(member.value) for member in type(default)]
        if text not in known:
            raise UnknownNameError(f"value of {key}", text, known)
        return type(default)(text)
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[text]
        return type(default)(text)  # pyright: ignore[reportCallIssue]
    except (ValueError, KeyError):
        wanted = "true or false" if isinstance(default, bool) else "a number"
        raise UserError(f"expected {wanted} for {key}, got '{text}'") from None
