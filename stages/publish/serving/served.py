"""A release while it is served: loaded once, used by many, closed when the last one is done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

from stages.publish.answer import Answerer, load_release, release_params
from stages.publish.calling import books
from stages.publish.channels import Event
from stages.shared.engines import Engine
from stages.shared.pool.serving import serve
from stages.shared.workspace import Workspace

Value = TypeVar("Value")
MILLION = 1_000_000


class Served:
    """A loaded release, and how many questions it is answering."""

    def __init__(self, event: Event, synthetic: bool, answerer: Answerer, resources: AsyncExitStack) -> None:
        self.event = event
        self.synthetic = synthetic
        self.answerer = answerer
        self._resources = resources
        self._users = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def digest(self) -> str:
        """The release's name."""
        return self.event.digest

    @property
    def most_a_call(self) -> float:
        """What a call may cost, dollars: the dearest candidate's longest reply to the longest question of the policy.

        One attempt: what a provider bills for attempts that failed comes on top, and is settled after.
        """
        limits, episode = self.answerer.params.pool.limits, self.answerer.params.episode
        return max(
            ((each.max_tokens or limits.max_tokens) * each.price + episode.turn_tokens * each.prompt_price) / MILLION
            for each in self.answerer.pool.candidates.values()
        )

    @property
    def most(self) -> float:
        """What a question may cost, dollars."""
        return self.answerer.params.episode.max_calls * self.most_a_call

    @contextmanager
    def used(self) -> Iterator[Served]:
        """Keeps the release from being closed while the block runs."""
        self._users += 1
        self._idle.clear()
        try:
            yield self
        finally:
            self._users -= 1
            if not self._users:
                self._idle.set()

    async def retire(self) -> None:
        """Wait until nobody uses it, then close its connections and stop what was started for it."""
        await self._idle.wait()
        await self._resources.aclose()


async def load(folder: Path, event: Event, synthetic: bool, state: Path, rows: int, engine: Engine) -> Served:
    """Load the release in `folder`, start its candidates where they run here, and see that they answer.

    Its policy, run by `engine`, keeps `rows` sequences in memory. Raises as `serve` and `load_release` do, and leaves
    nothing running.
    """
    async with AsyncExitStack() as stack:
        params = release_params(folder)
        candidates = await stack.enter_async_context(_aside(serve(params.pool, params.world, state)))
        place = books(params, Workspace(state.parent), "serve")
        answerer = await stack.enter_async_context(load_release(folder, params, candidates, place, rows, engine))
        return Served(event, synthetic, answerer, stack.pop_all())


@asynccontextmanager
async def _aside(manager: AbstractContextManager[Value]) -> AsyncIterator[Value]:
    """A context that is entered and left in a thread, so that the event loop goes on."""
    value = await asyncio.to_thread(manager.__enter__)
    try:
        yield value
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)
