"""A provider that is up, and pauses that a test can wait for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from stages.shared.pool import client
from tests.unit.shared.pool.provider import Provider


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    play = Provider()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", play.complete)
    app.router.add_get("/v1/models", play.list_models)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    play.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield play
    await runner.cleanup()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(client, "_LONGEST_PAUSE_S", 0.3)
