"""HTTP/2 where an endpoint offers it and its candidate wants it, against a real server with TLS on loopback."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypercorn.asyncio import serve
from hypercorn.config import Config
from pydantic import ValidationError

from stages.shared.params import ApiCandidate
from stages.shared.pool.candidate import Candidate, Outcome
from stages.shared.pool.client import HttpPool
from tests.unit.shared.pool.http2_server import Server, make_certificate
from tests.unit.shared.pool.provider import KEY, limits

pytestmark = pytest.mark.usefixtures("hasty")


@pytest.fixture(params=[["h2", "http/1.1"]])
async def server(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> AsyncIterator[Server]:
    """Up, and its certificate trusted; the parameter is what it offers."""
    certificate, key = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", ssl.create_default_context())
    played, stop = Server(base_url=f"https://localhost:{unused_tcp_port}/v1"), asyncio.Event()
    config = Config()
    config.bind, config.certfile, config.keyfile = [f"127.0.0.1:{unused_tcp_port}"], str(certificate), str(key)
    config.alpn_protocols, config.accesslog, config.errorlog = request.param, None, None
    running = asyncio.create_task(serve(played, config, shutdown_trigger=stop.wait))  # type: ignore[arg-type]
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", unused_tcp_port)
            writer.close()
            break
        except ConnectionError:
            await asyncio.sleep(0.01)
    yield played
    stop.set()
    await running


def candidate(server: Server, **more: Any) -> Candidate:
    return Candidate("Arlix", "m", server.base_url, 2.0, 0.5, **more)


async def test_many_calls_share_one_connection(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARLIX_KEY", KEY)
    async with HttpPool([candidate(server, http2=True, key_env="ARLIX_KEY")], limits()) as pool:
        first = await pool.ask("Arlix", "q")
        replies = await asyncio.gather(*(pool.ask("Arlix", f"q{number}") for number in range(20)))
    assert {reply.text for reply in (first, *replies)} == {"bbbbbb"}
    assert (first.latency_s, first.prompt_tokens) == (1.234, 20)
    assert set(server.versions) == {"2"}
    assert len(server.clients) == 1
    assert {each["authorization"] for each in server.headers} == {f"Bearer {KEY}"}
    assert len({each["idempotency-key"] for each in server.headers}) == 21


async def test_who_does_not_want_it_is_asked_as_ever(server: Server) -> None:
    async with HttpPool([candidate(server)], limits()) as pool:
        assert (await pool.ask("Arlix", "q")).text == "bbbbbb"
    assert server.versions == ["1.1"]


@pytest.mark.parametrize("server", [["http/1.1"]], indirect=True)
async def test_where_it_is_not_offered_calls_go_the_usual_way(server: Server) -> None:
    async with HttpPool([candidate(server, http2=True)], limits()) as pool:
        assert [(await pool.ask("Arlix", f"q{number}")).text for number in range(3)] == ["bbbbbb"] * 3
    assert server.versions == ["1.1"] * 3


async def test_failures_have_the_same_outcomes(server: Server) -> None:
    async with HttpPool([candidate(server, http2=True)], limits(attempts=3)) as pool:
        server.statuses = [503, 429]
        assert (await pool.ask("Arlix", "again")).attempts == 3
        server.statuses = [402]
        assert (await pool.ask("Arlix", "broke")).outcome is Outcome.OUT_OF_CREDIT
        server.size = (1 << 20) + 1
        assert (await pool.ask("Arlix", "huge")).outcome is Outcome.MALFORMED
        server.size = 6
        assert (await pool.ask("Arlix", "after")).outcome is Outcome.ANSWERED


async def test_nobody_there_and_a_private_address_are_told_as_ever(
    server: Server, unused_tcp_port_factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Candidate("Gone", "m", f"https://localhost:{unused_tcp_port_factory()}/v1", 1.0, 0.0, http2=True)
    async with HttpPool([gone], limits(attempts=1)) as pool:
        reply = await pool.ask("Gone", "q")
    assert (reply.outcome, "ConnectError" in reply.detail) == (Outcome.UNREACHABLE, True)

    async def inside(*_: Any) -> list[Any]:
        return [{"host": "10.0.0.7"}]

    monkeypatch.setattr("aiohttp.resolver.ThreadedResolver.resolve", inside)
    public = Candidate("Arlix", "m", "https://api.example.com/v1", 1.0, 1.0, http2=True)
    async with HttpPool([public], limits()) as pool:
        reply = await pool.ask("Arlix", "q")
    assert (reply.outcome, "10.0.0.7, a private address" in reply.detail) == (Outcome.UNREACHABLE, True)


def test_it_is_negotiated_and_so_needs_https() -> None:
    known = {"name": "A", "model": "m", "price": 1.0, "prompt_price": 1.0, "http2": True}
    assert ApiCandidate.model_validate({**known, "base_url": "https://api.example.com/v1"}).http2
    with pytest.raises(ValidationError, match="http2 needs a base_url with https"):
        ApiCandidate.model_validate({**known, "base_url": "http://127.0.0.1:8000/v1"})
