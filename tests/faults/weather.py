"""A provider in bad weather: an OpenAI-compatible server on loopback that answers as the sandbox does, when it answers.

What befalls an attempt depends on the question, on how often it was asked and on a seed alone, so that every order of
attempts meets the same weather. The server keeps its own bill, in whole 1e-12 USD, of everything that it would charge.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from aiohttp import web

from stages.shared.params import SandboxPool, WorldParams
from stages.shared.sandbox.experts import Simulated, respond
from stages.shared.sandbox.world import World

LONGEST_SPELL = 5
"""Attempts at one question that fail in a row, at most."""
LATE_S = 1.0
"""What "too late" means: clients here wait for less."""
Fault = Callable[[web.Request, "Answer"], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Answer:
    """What the expert says, and what that costs."""

    model: str
    said: Simulated
    cost: int
    """Picos."""

    def body(self, **changed: Any) -> dict[str, Any]:
        """As a chat completion."""
        tokens = {"prompt_tokens": self.said.prompt_tokens, "completion_tokens": self.said.completion_tokens}
        choice = {"index": 0, "message": {"role": "assistant", "content": self.said.text}, "finish_reason": "stop"}
        return {"model": self.model, "choices": [choice], "usage": tokens} | changed

    @property
    def headers(self) -> dict[str, str]:
        return {"openai-processing-ms": str(round(self.said.latency_s * 1000))}


def refuses(status: int, **headers: str) -> Fault:
    async def fault(request: web.Request, answer: Answer) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no"}}, status=status, headers=headers)

    return fault


async def resets(request: web.Request, answer: Answer) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def breaks_off(request: web.Request, answer: Answer) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "9999"})
    await response.prepare(request)
    await response.write(json.dumps(answer.body()).encode()[:40])
    return await resets(request, answer)


async def drips(request: web.Request, answer: Answer) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for byte in json.dumps(answer.body()).encode():
        await response.write(bytes([byte]))
        await asyncio.sleep(LATE_S / 10)
    return response


async def comes_late(request: web.Request, answer: Answer) -> web.StreamResponse:
    await asyncio.sleep(LATE_S)
    return await comes(request, answer)


async def is_html(request: web.Request, answer: Answer) -> web.StreamResponse:
    return web.Response(text="<html>down for maintenance</html>", content_type="text/html")


async def is_empty(request: web.Request, answer: Answer) -> web.StreamResponse:
    return web.json_response(answer.body(choices=[]))


async def is_swapped(request: web.Request, answer: Answer) -> web.StreamResponse:
    message = {"role": "assistant", "content": "something quite different"}
    return web.json_response(answer.body(model="cheap-stand-in", choices=[{"message": message}]))


async def is_garbled(request: web.Request, answer: Answer) -> web.StreamResponse:
    return web.Response(body=b'{"choices": [{"message": {"content": "\xff\xfe', content_type="application/json")


async def comes_twice(request: web.Request, answer: Answer) -> web.StreamResponse:
    """The answer, and once more what nobody asked for, on the same connection."""
    body = json.dumps(answer.body()).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    extra = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
    assert request.transport is not None
    request.transport.write((head + extra + "\r\n").encode() + body + (head + "\r\n").encode() + body)
    request.transport.close()
    return web.Response()


async def comes(request: web.Request, answer: Answer) -> web.StreamResponse:
    return web.json_response(answer.body(), headers=answer.headers)


@dataclass(frozen=True)
class Kind:
    """What befalls an attempt, and what that does to the bill."""

    fault: Fault
    charged: bool = False
    """Whether the provider charges for it."""
    answers: bool = False
    """Whether the expert's answer arrives."""


FAIR = Kind(comes, charged=True, answers=True)
KINDS = {
    "429": Kind(refuses(429)),
    "429 with Retry-After": Kind(refuses(429, **{"Retry-After": "0.01"})),
    "500": Kind(refuses(500)),
    "503": Kind(refuses(503, **{"Retry-After": "0"})),
    "reset": Kind(resets),
    "half a body": Kind(breaks_off, charged=True),
    "drip": Kind(drips, charged=True),
    "late": Kind(comes_late, charged=True),
    "html": Kind(is_html),
    "garbled": Kind(is_garbled, charged=True),
    "empty": Kind(is_empty, charged=True),
    "swapped": Kind(is_swapped, charged=True),
    "twice": Kind(comes_twice, charged=True, answers=True),
}


@dataclass
class Weather:
    """The provider: its experts, its faults, and its bill."""

    pool: SandboxPool
    world: World
    share: float
    """Of attempts that meet a fault."""
    kinds: tuple[str, ...] = tuple(KINDS)
    seed: int = 0
    remembers: bool = False
    """Whether it charges for one idempotency key once only."""
    base_url: str = ""
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    bills: Counter[str] = field(default_factory=Counter)
    """Idempotency key -> picos charged."""
    charged: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Model and prompt -> whole answers charged for, whether anybody was there to read them or not."""

    @property
    def bill(self) -> int:
        """Everything that the provider charges, picos."""
        return sum(self.bills.values())

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """One chat completion, or what becomes of it."""
        asked = await request.json()
        model, prompt = asked["model"], asked["messages"][-1]["content"]
        answer, name = self._answer(model, prompt), self._befalls(model, prompt)
        kind, key = KINDS[name] if name else FAIR, request.headers["Idempotency-Key"]
        if kind.charged and not (self.remembers and key in self.bills):
            self.bills[key] += answer.cost
            self.charged[model, prompt] += kind.answers
        if name is not None:
            self.met[name] += 1
        return await kind.fault(request, answer)

    async def models(self, request: web.Request) -> web.Response:
        """The experts."""
        return web.json_response({"data": [{"id": expert.name} for expert in self.pool.experts]})

    def _answer(self, model: str, prompt: str) -> Answer:
        expert = next(expert for expert in self.pool.experts if expert.name == model)
        said = respond(self.world, expert, prompt)
        completion, prompted = Fraction(str(expert.price)), Fraction(str(expert.prompt_price))
        millionths = completion * said.completion_tokens + prompted * said.prompt_tokens
        return Answer(model, said, int(millionths * 10**6))

    def _befalls(self, model: str, prompt: str) -> str | None:
        number = self.asked[model, prompt]
        self.asked[model, prompt] += 1
        chance = random.Random(f"{self.seed} {model} {prompt} {number}")
        if number % (LONGEST_SPELL + 1) == LONGEST_SPELL or chance.random() >= self.share:
            return None
        return chance.choice(self.kinds)


@contextmanager
def weather(
    pool: SandboxPool,
    world: WorldParams,
    share: float,
    kinds: tuple[str, ...] = tuple(KINDS),
    seed: int = 0,
    *,
    remembers: bool = False,
) -> Iterator[Weather]:
    """A provider for as long as the block runs, on a thread of its own."""
    provider = Weather(pool, World.generate(world), share, kinds, seed, remembers)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", provider.complete)
    app.router.add_get("/v1/models", provider.models)
    with serving(app) as provider.base_url:
        yield provider


@contextmanager
def serving(app: web.Application) -> Iterator[str]:
    """The base URL of an application that is up, on a thread of its own, for as long as the block runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    try:
        yield asyncio.run_coroutine_threadsafe(_start(runner), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(_stop(runner), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _stop(runner: web.AppRunner) -> None:
    await runner.cleanup()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def _start(runner: web.AppRunner) -> str:
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
