"""Who may ask: whoever has the key, or without one only programs of this machine."""

from __future__ import annotations

import hmac
import ipaddress

from starlette.requests import Request

from stages.publish.serving.refusal import Refusal
from stages.shared.errors import ConfigurationError

KEY_ENV = "POINTSMAN_API_KEY"
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
"""Names by which a browser may address a server without a key: another site's name that leads here is refused."""


class Access:
    """The key, if there is one."""

    def __init__(self, key: str | None, host: str) -> None:
        """Raises ConfigurationError for a server without a key that other machines could reach, and for a key that no
        client could send.
        """
        key = (key or "").strip()
        if not (key.isascii() and key.isprintable()):
            raise ConfigurationError(
                f"the key in {KEY_ENV} holds what no HTTP header can; make one of plain letters and digits: "
                "openssl rand -hex 32"
            )
        if not key and not is_loopback(host):
            raise ConfigurationError(
                f"--host {host} lets other machines ask, and there is no key; put one into the environment variable "
                f"{KEY_ENV}, or leave --host at 127.0.0.1"
            )
        self._key = key.encode() if key else None
        self.names = (*LOOPBACK, host)
        """By which a browser may address the server where there is no key; see `LOOPBACK`."""

    @property
    def is_keyed(self) -> bool:
        """Whether clients need a key."""
        return self._key is not None

    def check(self, request: Request) -> None:
        """Compare the bearer's key with ours, in a time that does not depend on it. Raises Refusal."""
        if self._key is None:
            return
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), self._key):
            raise Refusal(
                401, "unauthorized", f"no key, or a wrong one; send the server's {KEY_ENV} as a bearer's key",
                code="invalid_api_key",
            )  # fmt: skip


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
