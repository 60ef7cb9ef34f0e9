"""Generation requests of many episodes in few remote calls: verl's client makes three for every turn of every episode.

A worker posts what its episodes asked for since the last post, and fetches whatever is ready; the server keeps what is
not fetched yet. The interface towards an episode is that of verl's `LLMServerClient.generate`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from stages.shared.episode.types import Generation

POST_S = 0.002
"""A post waits so long for requests of other episodes."""


@dataclass(frozen=True)
class Order:
    """One request on its way to the server."""

    key: int
    prompt_ids: list[int]
    sampling: dict[str, Any]


@dataclass(frozen=True)
class Parcel:
    """One answer on its way back; `error` says what went wrong instead."""

    key: int
    generation: Generation | None
    error: str = ""


@dataclass
class _Box:
    """What the server holds for one worker."""

    ready: list[Parcel] = field(default_factory=list)
    something: asyncio.Event = field(default_factory=asyncio.Event)


class Counter:
    """The server side: a desk where workers post orders and fetch parcels."""

    def __init__(self, generate: Callable[[list[int], dict[str, Any]], Awaitable[Generation]]) -> None:
        self._generate = generate
        self._boxes: dict[str, _Box] = defaultdict(_Box)
        self._tasks: set[asyncio.Task[None]] = set()

    def post(self, worker: str, orders: list[Order]) -> None:
        """Start on new orders."""
        for order in orders:
            task = asyncio.create_task(self._fulfil(self._boxes[worker], order))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def fetch(self, worker: str) -> list[Parcel]:
        """Everything that is ready for a worker; waits for the first."""
        box = self._boxes[worker]
        await box.something.wait()
        box.something.clear()
        ready, box.ready = box.ready, []
        return ready

    async def _fulfil(self, box: _Box, order: Order) -> None:
        try:
            parcel = Parcel(order.key, await self._generate(order.prompt_ids, order.sampling))
        except (RuntimeError, ValueError, KeyError, IndexError, MemoryError) as error:
            parcel = Parcel(order.key, None, f"{type(error).__name__}: {error}")
        box.ready.append(parcel)
        box.something.set()


@dataclass(frozen=True)
class Output:
    """What an episode reads of verl's `TokenOutput`."""

    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...] | None
    stop_reason: str


class ExchangeClient:
    """The worker side. `acquire` finds the server, as verl's own client does, once."""

    def __init__(self, acquire: Callable[[], Awaitable[Any]]) -> None:
        self._acquire = acquire
        self._worker = uuid4().hex
        self._keys = itertools.count()
        self._orders: list[Order] = []
        self._waiting: dict[int, asyncio.Future[Output]] = {}
        self._poster: asyncio.Task[None] | None = None
        self._fetcher: asyncio.Task[None] | None = None
        self._server: Any = None

    async def generate(self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any]) -> Output:
        """See verl's `LLMServerClient.generate`. Raises RuntimeError with the server's words."""
        order = Order(next(self._keys), prompt_ids, sampling_params)
        future = asyncio.get_running_loop().create_future()
        self._waiting[order.key] = future
        self._orders.append(order)
        if self._poster is None or self._poster.done():
            self._poster = self._start(self._post())
        output: Output = await future
        return output

    async def _post(self) -> None:
        self._server = self._server or await self._acquire()
        while self._orders:
            await asyncio.sleep(POST_S)
            orders, self._orders = self._orders, []
            await self._server.post.remote(self._worker, orders)
            if self._fetcher is None or self._fetcher.done():
                self._fetcher = self._start(self._fetch())

    async def _fetch(self) -> None:
        while self._waiting:
            for parcel in await self._server.fetch.remote(self._worker):
                self._deliver(parcel)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task whose failure, whatever Ray raised, reaches the episodes that wait."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail(error)

    def _deliver(self, parcel: Parcel) -> None:
        future = self._waiting.pop(parcel.key)
        if future.done():
            return
        if parcel.generation is None:
            future.set_exception(RuntimeError(f"generation failed: {parcel.error}"))
        else:
            made = parcel.generation
            future.set_result(Output(made.token_ids, made.log_probs, made.finish))

    def _fail(self, error: BaseException) -> None:
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(error)
