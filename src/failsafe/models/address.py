"""Addresses of served policies and models: SCHEME://HOST:PORT/PATH?KEY=VALUE&KEY=VALUE. Keys to servers."""

from __future__ import annotations

import contextlib
import enum
import ipaddress
import os
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


def parse_address(scheme: str, rest: str) -> Address:
    """Read an address. Its port may be left out: then it is the one of the transport, 80 or 443.

    Args:
        scheme: What stands before the first colon.
        rest: What stands behind it.

    Raises:
        UserError: If it is not an address, holds a user name or a fragment, or states a key twice.
    """
    form = f"{scheme}://HOST:PORT?KEY=VALUE"
    # The settings are not repeated in messages, nor is what stands before an '@': they may hold a secret.
    shown = f"{scheme}:{rest.partition('?')[0]}"
    if "@" in shown:
        raise UserError(f"expected {form} without a user name, got one with an '@' before the host")
    try:
        parts = urlsplit(f"{scheme}:{rest}")
        host = parts.hostname if parts.port != 0 else None
    except ValueError as error:
        raise UserError(f"expected {form}, got '{shown}': {error}") from error
    if not host:
        raise UserError(f"expected {form}, got '{shown}'")
    if parts.fragment:
        raise UserError(f"expected {form} without a fragment, got '{shown}' with '#': write %23 for it")
    try:
        # A plus is itself, not a space: names are written by hand, and some have one.
        query = parts.query.replace("+", "%2B")
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise UserError(f"expected {form}, got '{shown}' with something else behind '?'") from None
    keys = [key for key, _ in pairs]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise UserError(f"expected each key of {form} once, got {', '.join(twice)} more than once")
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


def is_loopback(host: str) -> bool:
    """Return whether an address is one that other machines cannot reach.

    Args:
        host: An IP address (IPv6 without brackets) or a host name.
    """
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        mapped = getattr(address, "ipv4_mapped", None)  # ::ffff:127.0.0.1
        return (mapped or address).is_loopback
    name = host.lower().removesuffix(".")
    return name == "localhost" or name.endswith(".localhost")  # RFC 6761


def read_key(variable: str) -> str:
    """Return the key of a server from an environment variable; empty if it is not set.

    Args:
        variable: Name of the variable.

    Raises:
        UserError: If the key cannot be sent.
    """
    return check_key(os.environ.get(variable, ""), variable)


def check_key(key: str, name: str) -> str:
    """Return a key of a server without white space around it, such as the end of a file's last line.

    Args:
        key: The key. No message holds it.
        name: What it is called in messages.

    Raises:
        UserError: If it cannot be sent in a header of HTTP.
    """
    key = key.strip()
    others = sum(not "!" <= letter <= "~" for letter in key)
    if others:
        raise UserError(
            f"expected {name} to be a key of printable ASCII characters without spaces, got {others} other "
            "characters in it: set it anew"
        )
    return key


def hide_key(text: str, key: str) -> str:
    """Return a text, such as a server's answer, with the key replaced.

    Args:
        text: The text.
        key: The key; empty if there is none.
    """
    return text.replace(key, "[key]") if key else text
