"""Who may connect to the proxy: the checks of a handshake's headers.

A web page can open a WebSocket to any address that its browser reaches, and its own host name can point to
this machine (DNS rebinding). So a handshake that names an origin, which only browsers do, or a foreign host
is refused unless it is allowed. A token keeps out everybody else.
"""

from __future__ import annotations

import hmac
import http
import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from websockets.datastructures import Headers, MultipleValuesError

from failsafe.errors import UserError
from failsafe.models.address import check_key, is_loopback

SCHEMES = ("Api-Key", "Bearer")
"""Schemes of the header `Authorization` that carry the token. openpi's client sends the first."""


@dataclass(frozen=True)
class Admission:
    """The conditions under which a client may connect.

    Attributes:
        hosts: Names of this machine that a client may use, beside addresses, "localhost" and the name that is
            listened on. Web pages from these hosts may connect, too.
        token: What a client must send as `Authorization: Api-Key TOKEN`; empty for nothing.

    Raises:
        UserError: If a host holds more than a name, or the token cannot be sent in a header.
    """

    hosts: tuple[str, ...] = ()
    token: str = ""

    def __post_init__(self) -> None:
        """Check the values, and remove white space around the token."""
        for host in self.hosts:
            if not host or _host_of(f"//{host}") != host.lower() or host.startswith("["):
                raise UserError(f"expected allowed hosts such as robot.local, got '{host}'")
        object.__setattr__(self, "token", check_key(self.token, "the token"))

    def refusal(self, headers: Headers) -> tuple[http.HTTPStatus, str] | None:
        """Return the status and the reason with which a handshake is refused; None if it is accepted.

        Args:
            headers: Headers of the request.
        """
        try:
            host, origin = headers.get("Host", ""), headers.get("Origin")
            authorization = headers.get("Authorization", "")
        except MultipleValuesError:
            return http.HTTPStatus.BAD_REQUEST, "expected one header Host, Origin and Authorization, got more"
        allowed = {host.lower() for host in self.hosts}
        name = _host_of(f"//{host}")
        if name not in allowed and not (is_loopback(name) or is_address(name)):
            return http.HTTPStatus.FORBIDDEN, (
                "expected this machine's address in the header Host, got a name that is not allowed: serve "
                "with that name among the allowed hosts"
            )
        if origin is not None and _host_of(origin) not in allowed:
            return http.HTTPStatus.FORBIDDEN, (
                "expected a client without the header Origin, got a web page that is not allowed: serve with "
                "its host among the allowed hosts"
            )
        if self.token and not self._is_token(authorization):
            return http.HTTPStatus.UNAUTHORIZED, (
                "expected the header 'Authorization: Api-Key TOKEN' with the token of this server"
            )
        return None

    def _is_token(self, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        known = scheme.lower() in (known.lower() for known in SCHEMES)
        return hmac.compare_digest(token.strip().encode(), self.token.encode()) and known


def _host_of(url: str) -> str:
    """Return the host of a URL in lower case, without brackets and a port; empty if there is none."""
    try:
        parts = urlsplit(url)
        return "" if "@" in parts.netloc else (parts.hostname or "").removesuffix(".")
    except ValueError:
        return ""


def is_address(host: str) -> bool:
    """Return whether a host is an IP address, IPv6 without brackets."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
