"""Requests to endpoints over HTTP/1.1: pooled connections, no cookies, no redirects, no more read than is wanted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import aiohttp

from stages.shared.pool.candidate import Candidate
from stages.shared.pool.endpoint import Resolver, authorization, proxy_for, url

LONGEST_BODY = 1 << 20
"""Bytes of a reply at most."""


class UnreachedError(ConnectionError):
    """No connection came about, so that nothing was asked. The message names the kind of failure, nothing else."""


class BrokenError(ConnectionError):
    """A connection broke off: whether the other side had understood the request is not known. Likewise."""


@dataclass(frozen=True)
class Response:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Names in any case."""
    body: bytes | None
    """None where it is longer than was to be read."""


def headers_of(candidate: Candidate, call_id: str) -> dict[str, str]:
    """Of a call. Raises ConfigurationError for a missing key."""
    return {
        **dict(candidate.headers),
        **authorization(candidate),
        "Content-Type": "application/json",
        "Idempotency-Key": call_id,
    }


class Wire:
    """Connections to these candidates, made as they are needed; belongs to the event loop that first uses it.

    Every method raises ConfigurationError for an address or a key that cannot be, TimeoutError when there is no whole
    response within the patience, UnreachedError and BrokenError.
    """

    def __init__(self, candidates: Collection[Candidate]) -> None:
        self._candidates = candidates
        self._session: aiohttp.ClientSession | None = None

    async def post(self, candidate: Candidate, body: bytes, call_id: str, patience_s: float) -> Response:
        """Ask for a chat completion."""
        headers = headers_of(candidate, call_id)
        return await self._request("POST", "chat/completions", candidate, headers, patience_s, LONGEST_BODY, body)

    async def models(self, candidate: Candidate, patience_s: float, longest: int) -> Response:
        """Ask for the list of models."""
        return await self._request("GET", "models", candidate, authorization(candidate), patience_s, longest)

    async def _request(
        self,
        method: str,
        path: str,
        candidate: Candidate,
        headers: Mapping[str, str],
        patience_s: float,
        longest: int,
        body: bytes | None = None,
    ) -> Response:
        try:
            async with self._open().request(
                method,
                url(candidate, path),
                data=body,
                headers=headers,
                proxy=proxy_for(candidate),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=patience_s),
            ) as response:
                return Response(response.status, response.headers, await bounded(response, longest))
        except (aiohttp.ClientError, OSError) as error:
            raise translated(error) from error

    async def close(self) -> None:
        """Close every connection; the next request opens another."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, resolver=Resolver(self._candidates)),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


async def bounded(response: aiohttp.ClientResponse, longest: int) -> bytes | None:
    """The body, or None when it is longer than it may be."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > longest:
            return None
    return bytes(body)


def translated(error: aiohttp.ClientError | OSError) -> OSError:
    """The same failure in this module's words; a timeout stays one."""
    if isinstance(error, TimeoutError):
        return error
    name = type(error).__name__
    return UnreachedError(name) if isinstance(error, aiohttp.ClientConnectorError) else BrokenError(name)
