"""`BatchedGenerator`: concurrent callers, one batch. Evaluation, serving and verl's rollout on the CPU use it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING

from stages.shared.decoding import Decoder, Request
from stages.shared.episode.types import Generate, Generation

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

GATHER_S = 0.006
"""An idle generator starts when no request has come for so long; a busy one takes requests in at every token."""
GATHER_AT_MOST_S = 0.06


class BatchedGenerator:
    """Generates for many callers at once. Use as `async with BatchedGenerator(model, tokenizer) as generator`.

    Turns of one episode and episodes of one prompt share work, found by their tokens: callers need not say so. With a
    `seed` in the request a sampled generation does not depend on its neighbours; on a CPU not even in its last bits, as
    long as there are rows enough that no episode loses its own while it waits for a reply. A greedy one may do so in
    the last bits.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, max_rows: int = 256, seed: int = 0
    ) -> None:
        """`max_rows` sequences run at once and keep keys and values, more callers wait; `seed` is for those without."""
        self._decoder = Decoder(model, tokenizer, max_rows)
        self._seeds = itertools.count(seed << 32)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="generator")
        self._new: list[Request] = []
        self._futures: dict[Request, asyncio.Future[Generation]] = {}
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> BatchedGenerator:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop generating; callers that still wait are cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for future in self._futures.values():
            future.cancel()
        self._thread.shutdown(wait=True)

    async def generate(
        self,
        context: Sequence[int],
        *,
        max_tokens: int,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
    ) -> Generation:
        """Continue `context` until a stop string (kept in the tokens), an end token or `max_tokens`; 0 is greedy."""
        if not context or max_tokens < 1:
            raise ValueError(
                f"nothing to generate from {len(context)} tokens of context and {max_tokens} tokens of room"
            )
        drawn = next(self._seeds) if seed is None else seed
        request = Request(tuple(context), max_tokens, tuple(stop), temperature, top_p, drawn)
        future = asyncio.get_running_loop().create_future()
        self._futures[request] = future
        self._new.append(request)
        self._arrived.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._serve())
        generation: Generation = await future
        return generation

    def sampler(self, temperature: float = 0.0, top_p: float = 1.0) -> Generate:
        """The episode driver's `Generate`, with these sampling parameters."""

        async def generate(context: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> Generation:
            """See `Generate`."""
            return await self.generate(context, max_tokens=max_tokens, stop=stop, temperature=temperature, top_p=top_p)

        return generate

    async def load_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Replace the policy's weights between two steps; raises KeyError for a name it does not have."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._decoder.load_weights, weights)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._new or self._decoder.busy:
                if not self._decoder.busy:
                    await self._gather()
                requests, self._new = self._new, []
                for request, generation in await loop.run_in_executor(self._thread, self._decoder.step, requests):
                    future = self._futures.pop(request)
                    if not future.done():
                        future.set_result(generation)
        except (RuntimeError, ValueError, KeyError, IndexError, MemoryError) as error:
            for future in self._futures.values():
                if not future.done():
                    future.set_exception(error)
            self._futures.clear()

    async def _gather(self) -> None:
        deadline = asyncio.get_running_loop().time() + GATHER_AT_MOST_S
        while asyncio.get_running_loop().time() < deadline:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), GATHER_S)
            except TimeoutError:
                return
