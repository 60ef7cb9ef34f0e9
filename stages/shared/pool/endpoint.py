"""Where a candidate lives, and the key to it."""

from __future__ import annotations

import ipaddress
import os
import socket
import urllib.request
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

from stages.shared.errors import ConfigurationError
from stages.shared.pool.candidate import Candidate


def url(candidate: Candidate, path: str) -> str:
    """The address of one method of the API. Raises ConfigurationError when `base_url` is no address."""
    _parts(candidate)
    return f"{candidate.base_url.rstrip('/')}/{path}"


def where(candidate: Candidate) -> str:
    """The base address without its query: fit for messages. Raises ConfigurationError when `base_url` is no address."""
    parts = _parts(candidate)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def authorization(candidate: Candidate) -> dict[str, str]:
    """The header that carries the key, read from the environment now and kept nowhere; empty where none is needed.

    Raises ConfigurationError naming the variable when it is unset, or cannot be a key. The key itself is never shown.
    """
    if candidate.key_env is None:
        return {}
    key = os.environ.get(candidate.key_env, "").strip()
    if not key:
        raise ConfigurationError(f"{candidate.name} needs an API key: set the environment variable {candidate.key_env}")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigurationError(f"the environment variable {candidate.key_env} holds no usable API key: set it anew")
    return {"Authorization": f"Bearer {key}"}


def proxy_for(candidate: Candidate) -> str | None:
    """The proxy that the environment names for this candidate; none for one on this machine."""
    parts = _parts(candidate)
    host = parts.hostname or ""
    if _is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def redacted(text: str, candidate: Candidate) -> str:
    """The text with every mention of the candidate's key struck out."""
    key = os.environ.get(candidate.key_env, "").strip() if candidate.key_env else ""
    return text.replace(key, "***") if key else text


class Resolver(AbstractResolver):
    """Finds addresses as ever, but no private one for a public candidate, whatever its name server says."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self._found: AbstractResolver = DefaultResolver()
        self._guarded = {_host(item): item.name for item in candidates if not item.private}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See aiohttp's. Raises ConfigurationError for a private address."""
        found = await self._found.resolve(host, port, family)
        for result in found if host in self._guarded else []:
            _check_address(result["host"], self._guarded[host])
        return found

    async def close(self) -> None:
        """See aiohttp's."""
        await self._found.close()


def _host(candidate: Candidate) -> str:
    """Of the address; "" where that is none."""
    try:
        return urlsplit(candidate.base_url).hostname or ""
    except ValueError:
        return ""


def _check_address(host: str, name: str) -> None:
    """Raises ConfigurationError for an address of a network that is not the public one; this machine is fine."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return
    address = getattr(address, "ipv4_mapped", None) or address
    if not (address.is_global or address.is_loopback) or address.is_multicast:
        raise ConfigurationError(
            f"the base_url of {name} is at {address}, a private address; if that is meant, give it `private: true`"
        )


def _parts(candidate: Candidate) -> SplitResult:
    """Raises ConfigurationError, which does not show the address: it may hold a password."""
    return _split(candidate.base_url, candidate.name, candidate.private)


@lru_cache(256)
def _split(base_url: str, name: str, private: bool) -> SplitResult:
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(f"the base_url of {name} is no address; write it as https://host/v1")
    if parts.username is not None:
        raise ConfigurationError(f"the base_url of {name} holds a user; put the key into key_env's variable")
    if not private:
        _check_address(parts.hostname or "", name)
    return parts


@lru_cache(256)
def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
