"""Policies by name: a reference policy, a served one, a plugin's, or a class of one's own."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, cast

from failsafe import registry
from failsafe.errors import PolicyError, UnknownNameError, UserError
from failsafe.models.address import parse_address, read_key, read_setting
from failsafe.models.loading import fingerprint
from failsafe.policies.contract import ActionSpace, Policy, takes_seed
from failsafe.registry import Registry
from failsafe.sources import fingerprint_of

if TYPE_CHECKING:  # the clients need packages that other policies do not
    from failsafe.policies.served import Preset

FORMS = (
    "reference:weak, reference:medium, reference:strong",
    "openvla://HOST:PORT or openvla+https://HOST",
    "openvla-oft://HOST:PORT or openvla-oft+https://HOST",
    "openpi://HOST:PORT, ws://HOST:PORT or wss://HOST",
    "MODULE:CLASS",
)
"""Forms of a policy's name. The ones with a host take settings, for example `?rate_hz=20&chunk=4`, or a
preset, `?preset=libero`."""

POLICIES: Registry[Callable[..., Policy]] = registry.policies
"""Policies by name: a class or a function that returns a `Policy`.

An entry is called with the text behind "NAME:", or without arguments where there is none.
"""
POLICIES.result = Policy

OPENPI_KEY = "FAILSAFE_OPENPI_API_KEY"
"""The environment variable with the key for a server of openpi."""

_NOT_IN_URLS = ("url", "api_key")
"""Constructor arguments that are not settings. A name is printed and stored, so it must not hold a secret."""


def load_policy(name: str | Policy) -> Policy:
    """Load a policy.

    The settings of a server, behind the `?`, are the fields of `ActionSpace`, the numbers, flags and strings
    that the client's constructor takes (`unnorm_key`, `timeout`, ...), and the images that it sends, each
    with the view to send (`image=side`; `wrist_image=` omits it). The others keep the client's defaults, or
    those of a preset (`preset=libero`).

    Args:
        name: One of `FORMS`, the name of a plugin's policy, or a policy, which is returned as it is.

    Returns:
        The policy. A server has not been contacted yet.

    Raises:
        UserError: If there is no such policy, something that it needs is not installed, or its `reset` has
            other parameters than the contract's.
    """
    if isinstance(name, str) and name not in POLICIES and ":" not in name:
        raise _no_policy(name)
    policy = cast(Policy, POLICIES.make(name) if isinstance(name, str) else name)
    try:
        takes_seed(policy)
    except PolicyError as error:
        raise UserError(str(error)) from error
    return policy


def policy_fingerprint(name: str | Policy) -> str:
    """Identify a policy's weights or code, so that results of different ones are not mixed.

    Args:
        name: As for `load_policy`.

    Returns:
        The SHA-256 of a reference policy's weights; package, version and sources of a plugin's policy, the
        SHA-256 of the sources of "MODULE:CLASS" (`Registry.identify`); class and sources of an object; empty
        for a served policy.
    """
    if not isinstance(name, str):
        return fingerprint_of(name)
    kind, _, rest = name.partition(":")
    if kind == "reference":
        return fingerprint(str(_import("failsafe.policies.reference", "compact").reference_path(rest)))
    return POLICIES.identify(rest if kind == "python" else name)


def _no_policy(name: str) -> UserError:
    others = [other for other in POLICIES if POLICIES.plugin_of(other)]
    return UserError(f"expected a policy such as {'; '.join([*FORMS, *others])}; got '{name}'")


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


@POLICIES.register("reference")
def _reference(strength: str = "") -> Policy:
    if not strength:
        raise _no_policy("reference")
    return _import("failsafe.policies.reference", "compact").load_reference(strength)


@POLICIES.register("python")
def _python(path: str = "") -> Policy:
    """Load "python:MODULE:CLASS", the long form of "MODULE:CLASS"."""
    if ":" not in path:
        raise UserError(f"expected python:MODULE:CLASS of a policy, got 'python:{path}'")
    return POLICIES.make(path)


@dataclass(frozen=True)
class _Served:
    """The entry of a scheme: the client of a served policy.

    Attributes:
        scheme: What stands before "://" in the policy's name.
        module: Module of the client.
        client: Name of the client's class.
        transport: Scheme of the URL that the client is given.
        key_variable: Environment variable with the key for the server; empty if its client sends none.
    """

    scheme: str
    module: str
    client: str
    transport: str
    key_variable: str = ""

    def __call__(self, address: str = "") -> Policy:
        """Make the client for an address.

        Args:
            address: What stands behind "SCHEME:".

        Raises:
            UserError: If the address or a setting is wrong, or the client's requirements are not installed.
        """
        if not address.startswith("//"):
            raise _no_policy(f"{self.scheme}:{address}")
        found = parse_address(self.scheme, address)
        factory = getattr(_import(self.module, "servers"), self.client)
        settings = _settings(self.scheme, factory, found.settings)
        if self.key_variable:
            settings["api_key"] = read_key(self.key_variable)
        try:
            return factory(f"{self.transport}://{found.location}", **settings)
        except PolicyError as error:
            raise UserError(str(error)) from error


for _served in (
    _Served("openvla", "failsafe.policies.openvla", "OpenVlaPolicy", "http"),
    _Served("openvla+https", "failsafe.policies.openvla", "OpenVlaPolicy", "https"),
    _Served("openvla-oft", "failsafe.policies.openvla", "OpenVlaOftPolicy", "http"),
    _Served("openvla-oft+https", "failsafe.policies.openvla", "OpenVlaOftPolicy", "https"),
    _Served("openpi", "failsafe.policies.openpi", "OpenpiPolicy", "ws", OPENPI_KEY),
    _Served("ws", "failsafe.policies.openpi", "OpenpiPolicy", "ws", OPENPI_KEY),
    _Served("wss", "failsafe.policies.openpi", "OpenpiPolicy", "wss", OPENPI_KEY),
):
    POLICIES.add(_served.scheme, _served)


def _settings(kind: str, factory: Any, given: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of a client: its defaults with the given settings.

    Args:
        kind: Scheme of the policy, for messages.
        factory: Class of the client.
        given: The settings by key, as text.

    Raises:
        UserError: If a setting is unknown or wrong.
    """
    defaults = {key: found.default for key, found in inspect.signature(factory).parameters.items()}
    image_views: dict[str, str] = dict(defaults["image_views"])
    preset: Preset | None = None
    if "preset" in given:
        if given["preset"] not in factory.presets:
            raise UnknownNameError(f"preset of {kind}", given["preset"], factory.presets)
        preset = factory.presets[given["preset"]]
    default_space = cast(ActionSpace, preset.action_space if preset else defaults["action_space"])
    space: dict[str, object] = {f.name: getattr(default_space, f.name) for f in fields(ActionSpace)}
    others: dict[str, object] = {
        key: default
        for key, default in defaults.items()
        if isinstance(default, (str, bool, int, float)) and key not in _NOT_IN_URLS
    }
    if preset is not None and "size" in given:
        raise UserError(f"expected preset={given['preset']} or size, got both: the preset states the size")
    settings: dict[str, Any] = {}
    changed: dict[str, Any] = {}
    for key, text in given.items():
        if key == "preset":
            continue
        if key in image_views:
            image_views[key] = text
        elif key in space:
            changed[key] = read_setting(key, text, space[key])
        elif key in others:
            settings[key] = read_setting(key, text, others[key])
        else:
            raise UnknownNameError(f"key of {kind}", key, ["preset", *image_views, *space, *others])
    try:
        stated = replace(default_space, **changed)
    except PolicyError as error:
        raise UserError(str(error)) from error
    if preset is not None:
        return {"image_views": image_views, "preset": replace(preset, action_space=stated), **settings}
    return {"image_views": image_views, "action_space": stated, **settings}
