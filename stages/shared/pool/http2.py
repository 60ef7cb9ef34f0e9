"""Chat completions over HTTP/2, for candidates that ask for it: many calls on one connection.

Where an endpoint offers it, by TLS's ALPN. It saves connections and their handshakes, and costs more of this machine's
time for every call (tests/bench/http2.py), which is why nobody gets it unasked.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, Collection, Iterable

import httpcore
from multidict import CIMultiDict

from stages.shared.pool.candidate import Candidate
from stages.shared.pool.endpoint import Resolver, proxy_for, url
from stages.shared.pool.wire import LONGEST_BODY, BrokenError, Response, UnreachedError, headers_of

CONNECTIONS = 8
"""To all endpoints that speak HTTP/2; each carries as many calls as its server allows."""
IDLE_S = 30.0


class Http2Wire:
    """As `Wire`, for chat completions."""

    def __init__(self, candidates: Collection[Candidate]) -> None:
        self._candidates = candidates
        self._pools: dict[str | None, httpcore.AsyncConnectionPool] = {}
        self._declined: set[str] = set()

    def speaks(self, candidate: Candidate) -> bool:
        """Whether a candidate wants HTTP/2, and its endpoint did not turn out to offer less."""
        return candidate.http2 and candidate.base_url not in self._declined

    async def post(self, candidate: Candidate, body: bytes, call_id: str, patience_s: float) -> Response:
        """Ask for a chat completion. Raises as `Wire.post`."""
        address = httpcore.URL(url(candidate, "chat/completions"))
        headers = list(headers_of(candidate, call_id).items())
        try:
            async with asyncio.timeout(patience_s):
                async with self._pool(proxy_for(candidate)).stream(
                    "POST", address, headers=headers, content=body
                ) as response:
                    if response.extensions["http_version"] != b"HTTP/2":
                        self._declined.add(candidate.base_url)
                    found = CIMultiDict(
                        (name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers
                    )
                    return Response(response.status, found, await _bounded(response.aiter_stream()))
        except httpcore.TimeoutException as error:
            raise TimeoutError from error
        except (httpcore.ConnectError, httpcore.ProxyError) as error:
            raise UnreachedError(type(error).__name__) from error
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise BrokenError(type(error).__name__) from error

    async def close(self) -> None:
        """Close every connection; the next request opens another."""
        pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            await pool.aclose()

    def _pool(self, proxy: str | None) -> httpcore.AsyncConnectionPool:
        if proxy not in self._pools:
            self._pools[proxy] = httpcore.AsyncConnectionPool(
                ssl_context=ssl.create_default_context(),
                proxy=None if proxy is None else httpcore.Proxy(proxy),
                http2=True,
                max_connections=CONNECTIONS,
                keepalive_expiry=IDLE_S,
                network_backend=GuardedBackend(Resolver(self._candidates)),
            )
        return self._pools[proxy]


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects as ever, but to no private address for a public candidate, whatever its name server says."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """See httpcore's. Raises ConfigurationError for a private address."""
        try:
            found = await self._resolver.resolve(host, port)
        except OSError as error:
            raise httpcore.ConnectError(type(error).__name__) from error
        for each in found[:-1]:
            try:
                return await self._backend.connect_tcp(each["host"], port, timeout, local_address, socket_options)
            except httpcore.ConnectError:
                continue
        return await self._backend.connect_tcp(found[-1]["host"], port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        """See httpcore's."""
        await self._backend.sleep(seconds)


async def _bounded(stream: AsyncIterable[bytes]) -> bytes | None:
    """The body, or None when it is longer than a reply may be."""
    body = bytearray()
    async for chunk in stream:
        body += chunk
        if len(body) > LONGEST_BODY:
            return None
    return bytes(body)
