"""A provider on loopback that misbehaves on request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from stages.shared.params import PoolLimits
from stages.shared.pool.candidate import Candidate

KEY = "sk-very-secret-0123456789"
Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


def said(text: Any = "belane", finish: Any = "stop", headers: dict[str, str] | None = None, **more: Any) -> Behaviour:
    async def behave(request: web.Request) -> web.StreamResponse:
        body = {
            "choices": [{"message": {"role": "assistant", "content": text, **more.pop("message", {})},
                         "finish_reason": finish}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 5},
            **more,
        }  # fmt: skip
        return web.json_response(body, headers=headers)

    return behave


def status(code: int, body: Any = None, **headers: str) -> Behaviour:
    async def behave(request: web.Request) -> web.StreamResponse:
        return web.json_response(body or {"error": {"message": "no"}}, status=code, headers=headers)

    return behave


def raw(body: bytes) -> Behaviour:
    async def behave(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    return behave


async def reset(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def half(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": ')
    assert request.transport is not None
    request.transport.abort()
    return response


def slow(seconds: float) -> Behaviour:
    async def behave(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await said()(request)

    return behave


@dataclass
class Provider:
    """Plays its script, the last behaviour for ever."""

    script: list[Behaviour] = field(default_factory=lambda: [said()])
    models: Behaviour = field(default_factory=lambda: status(200, {"data": []}))
    requests: list[Any] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    inside: int = 0
    most_inside: int = 0
    base_url: str = ""

    async def complete(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(await request.json())
        self.headers.append(dict(request.headers))
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            return await self.script[min(len(self.requests), len(self.script)) - 1](request)
        finally:
            self.inside -= 1

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        return await self.models(request)

    def candidate(self, name: str = "Arlix", **more: Any) -> Candidate:
        return Candidate(name, "model-1", self.base_url, price=2.0, prompt_price=0.5, **more)


def limits(**changed: Any) -> PoolLimits:
    return PoolLimits(**{"timeout_s": 5.0, "attempts": 3, "concurrency": 8, **changed})
