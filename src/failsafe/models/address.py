"""Addresses of served policies and models: SCHEME://HOST:PORT/PATH?KEY=VALUE&KEY=VALUE."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from failsafe.errors import UnknownNameError, UserError


@dataclass(frozen=True)
class Address:
    """An address in its parts.

    Attributes:
        scheme: What stands before the first colon.
        location: "HOST:PORT/PATH".
        settings: What stands behind the question mark, by key.
    """

    scheme: str
    location: str
    settings: dict[str, str]


def parse_address(scheme: str, rest: str, port_required: bool = True) -> Address:
    """Read an address.

    Args:
        scheme: What stands before the first colon.
        rest: What stands behind it.
        port_required: Refuse an address without a port.

    Raises:
        UserError: If it is not an address, holds a user name or a fragment, or states a key twice.
    """
    form, text = f"{scheme}://HOST:PORT?KEY=VALUE", f"{scheme}:{rest}"
    try:
        parts = urlsplit(text)
        port = parts.port
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise UserError(f"expected {form}, got '{text}': {error}") from error
    if not parts.hostname or (port_required and port is None):
        raise UserError(f"expected {form}, got '{text}'")
    if parts.username is not None or parts.fragment:
        raise UserError(f"expected {form} without a user name or a fragment, got '{text}'")
    if len(dict(pairs)) < len(pairs):
        raise UserError(f"expected each key once, got '{text}'")
    return Address(scheme, parts.netloc + parts.path, dict(pairs))


def read_setting(key: str, text: str, default: object) -> object:
    """Convert the text of a setting to the type of its default value.

    Args:
        key: Name of the setting, for messages.
        text: Its value as text.
        default: A member of an enumeration, a bool, a number or a string.

    Raises:
        UnknownNameError: If the value is none of an enumeration's.
        UserError: If the text does not convert.
    """
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
