"""Continuous batched generation with a KV cache that turns of one episode, and episodes of one prompt, share.

Every step feeds each running sequence what it has not seen yet (one sampled token, or a whole observation) and samples
the next token of all. A prompt is computed once for all episodes that start from it; a sequence that stopped keeps its
keys and values, so that the next turn of its episode costs the observation only. Nothing waits for a slower neighbour,
and on a CPU a neighbour changes nothing: what a sampled request gets is the same to the last bit, whoever shares its
steps. Greedy ones, where the last bits matter to nobody, also share the beginning that their contexts have in common,
such as the table of candidates before the question.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Literal

import torch

from stages.shared.attention import Layout, Store, attend_many, attend_one, attend_prompts, whole_blocks
from stages.shared.episode.types import Generation
from stages.shared.network import Network
from stages.shared.policy import end_ids
from stages.shared.sampling import sample
from stages.shared.stops import StopFinder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PREFILL_TOKENS = 16_384
WORTH_SHARING = 0.5
"""Least part of a greedy context that a common beginning must be: the rest is computed for each row by itself."""
Finish = Literal["stop", "length"]
AttendRows = Callable[[Store, Store, Layout, int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Request:
    """One generation asked for."""

    context: tuple[int, ...]
    max_tokens: int
    stop: tuple[str, ...]
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken each time."""
        return self.temperature <= 0


@dataclass(eq=False)
class _Prompt:
    """Tokens whose keys and values several rows share, either greedy ones or sampled ones."""

    tokens: tuple[int, ...]
    greedy: bool
    slot: int
    rows: set[int] = field(default_factory=set)


@dataclass(eq=False)
class _Row:
    """One sequence: `tokens` follow the prompt; the first `cached` of them have keys and values."""

    index: int
    prompt: _Prompt
    tokens: list[int]
    cached: int = 0
    request: Request | None = None
    start: int = 0
    log_probs: list[float] = field(default_factory=list)
    uniforms: random.Random = field(default_factory=random.Random)
    used: int = 0


class Decoder:
    """The synchronous heart of `BatchedGenerator`: requests in, generations out, one step at a time."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_rows: int = 256) -> None:
        self.model = model
        self.max_rows = max_rows
        self._network = Network(model)
        self._network.join()
        self._ends = end_ids(model, tokenizer)
        self._stops = StopFinder(tokenizer, model.config.vocab_size)
        shape = (self._network.depth, self._network.kv_heads, self._network.size)
        self._prompt_store = Store(*shape, self._network.device, self._network.dtype)
        self._row_store = Store(*shape, self._network.device, self._network.dtype)
        self._clock = 0
        self._active: list[_Row] = []
        self._waiting: list[Request] = []
        self.forget()

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._active or self._waiting)

    def forget(self) -> None:
        """Drop every cached key and value, as after a change of weights. Running requests start anew."""
        self._waiting = [row.request for row in self._active if row.request is not None] + self._waiting
        self._active = []
        self._rows: dict[int, _Row] = {}
        self._prompts: dict[bool, dict[tuple[int, ...], _Prompt]] = {False: {}, True: {}}
        self._fresh: list[_Prompt] = []

    def load_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Replace the model's weights, by name; cached keys and values are dropped."""
        result = self.model.load_state_dict(weights, strict=False)
        if result.unexpected_keys:
            raise KeyError(f"weights that the policy does not have: {', '.join(result.unexpected_keys[:5])}")
        self.forget()

    @torch.inference_mode()
    def step(self, requests: Sequence[Request] = ()) -> list[tuple[Request, Generation]]:
        """Take in new requests, advance every running one by a token, and return those that ended."""
        self._clock += 1
        self._waiting.extend(requests)
        self._admit()
        if not self._active:
            return []
        chosen, scores = self._next_tokens()
        done = []
        for row, token, score in zip(self._active, chosen, scores, strict=True):
            row.tokens.append(token)
            row.log_probs.append(score)
            finish = self._finish(row, token)
            if finish is not None:
                done.append(self._park(row, finish))
        if done:
            self._active = [row for row in self._active if row.request is not None]
        return done

    def _admit(self) -> None:
        taken = self._waiting[: self.max_rows - len(self._active)]
        self._waiting = self._waiting[len(taken) :]
        for request in taken:
            row = self._resume(request) or self._allocate(request)
            row.request, row.start, row.log_probs = request, len(row.tokens), []
            row.uniforms = random.Random(request.seed)
            self._settle(row)
            self._active.append(row)
        self._prefill()

    def _resume(self, request: Request) -> _Row | None:
        """The idle row that has most of the context cached: all it has is part of the context, or if greedy, most."""
        best, most, context = None, 0, request.context
        for prompt in self._prompts[request.greedy].values():
            length = len(prompt.tokens)
            if context[:length] == prompt.tokens:
                for row in map(self._rows.__getitem__, prompt.rows):
                    limit = min(row.cached, len(context) - length - 1)
                    if row.request is None and limit > most and context[length + most] == row.tokens[most]:
                        common = _common(tuple(row.tokens[:limit]), context[length:])
                        if common > most and (common == row.cached or (request.greedy and 2 * common > row.cached)):
                            best, most = row, common
        if best is not None:
            best.tokens, best.cached = list(context[len(best.prompt.tokens) :]), most
        return best

    def _allocate(self, request: Request) -> _Row:
        index = len(self._rows) if len(self._rows) < self.max_rows else self._evict()
        prompt = self._prompt(request.context[:-1], request.greedy)
        prompt.rows.add(index)
        row = self._rows[index] = _Row(index, prompt, list(request.context[len(prompt.tokens) :]))
        return row

    def _prompt(self, tokens: tuple[int, ...], greedy: bool) -> _Prompt:
        """A prompt of a row that begins with `tokens`: all of them, or if greedy what another begins with too."""
        prompts = self._prompts[greedy]
        known = prompts.get(tokens)
        if known is None and greedy and prompts:
            common, nearest = max(
                ((_common(item.tokens, tokens), item) for item in prompts.values()), key=itemgetter(0)
            )
            if common >= WORTH_SHARING * len(tokens):
                within = [item for item in prompts.values() if tokens[: len(item.tokens)] == item.tokens]
                known = max(within, key=lambda item: len(item.tokens), default=None)
                if known is None or len(known.tokens) < WORTH_SHARING * common:
                    return self._beginning(nearest, common)
        return known or self._new_prompt(tokens, greedy)

    def _beginning(self, whole: _Prompt, tokens: int) -> _Prompt:
        """The first `tokens` of a prompt as a prompt: its keys and values are copied."""
        if whole in self._fresh:
            self._prefill()
        prompt = self._new_prompt(whole.tokens[:tokens], greedy=True)
        self._prompt_store.fit(prompt.slot + 1, tokens)
        self._prompt_store.copy(whole.slot, prompt.slot, tokens)
        self._fresh.remove(prompt)
        return prompt

    def _new_prompt(self, tokens: tuple[int, ...], greedy: bool) -> _Prompt:
        taken = {known.slot for prompts in self._prompts.values() for known in prompts.values()}
        slot = next(slot for slot in range(self.max_rows) if slot not in taken)
        prompt = self._prompts[greedy][tokens] = _Prompt(tokens, greedy, slot)
        self._fresh.append(prompt)
        return prompt

    def _evict(self) -> int:
        """Free the row that has been idle longest, and its prompt when that was its last row."""
        row = min((row for row in self._rows.values() if row.request is None), key=lambda row: row.used)
        row.prompt.rows.discard(row.index)
        if not row.prompt.rows:
            del self._prompts[row.prompt.greedy][row.prompt.tokens]
        del self._rows[row.index]
        return row.index

    def _settle(self, row: _Row) -> None:
        """Change places with the first idle row before it: active rows that lie close together are read faster."""
        other = next((self._rows[i] for i in range(row.index) if self._rows[i].request is None), None)
        if other is None:
            return
        self._row_store.fit(row.index + 1, 1)
        if row.cached:
            self._row_store.swap(row.index, other.index, max(row.cached, other.cached))
        else:
            self._row_store.copy(other.index, row.index, other.cached)
        row.prompt.rows.discard(row.index)
        other.prompt.rows.discard(other.index)
        row.index, other.index = other.index, row.index
        for moved in (row, other):
            moved.prompt.rows.add(moved.index)
            self._rows[moved.index] = moved

    def _prefill(self) -> None:
        """Compute what is fresh, prompts of one padded length at a time: attention rounds differently for another."""
        by_width: dict[int, list[_Prompt]] = defaultdict(list)
        for prompt in self._fresh:
            if prompt.tokens:
                by_width[whole_blocks(len(prompt.tokens))].append(prompt)
        self._fresh = []
        for width, alike in by_width.items():
            step = max(1, PREFILL_TOKENS // width)
            for batch in (alike[start : start + step] for start in range(0, len(alike), step)):
                self._prompt_store.fit(max(prompt.slot for prompt in batch) + 1, width)
                tokens, slots = [prompt.tokens for prompt in batch], [prompt.slot for prompt in batch]
                attend_prompts(self._network, self._prompt_store, tokens, slots)

    def _next_tokens(self) -> tuple[list[int], list[float]]:
        """Feed what is new and sample a token of each active row; rows with a single new token come first."""
        self._active.sort(key=lambda row: (len(row.tokens) - row.cached > 1, row.index))
        rows = self._active
        fed = [row.tokens[row.cached :] for row in rows]
        plan = self._plan(rows, fed)
        hidden = self._network.hidden(
            torch.tensor([token for tokens in fed for token in tokens]),
            torch.cat([layout.positions for _, layout in plan]),
            lambda layer, q, k, v: self._attend(plan, layer, q, k, v),
        )
        for row, tokens in zip(rows, fed, strict=True):
            row.cached += len(tokens)
            row.used = self._clock
        ends = torch.tensor([len(tokens) for tokens in fed]).cumsum(0) - 1
        logits = self._network.logits(hidden[ends] if len(ends) < len(hidden) else hidden)
        requests = [row.request for row in rows if row.request is not None]
        return sample(
            logits,
            [request.temperature for request in requests],
            [request.top_p for request in requests],
            [row.uniforms.random() for row in rows],
        )

    def _plan(self, rows: list[_Row], fed: list[list[int]]) -> list[tuple[AttendRows, Layout]]:
        """How each kind of row attends: those with one new token cheaply, those with an observation to read in full."""
        single = sum(len(tokens) == 1 for tokens in fed)
        plan: list[tuple[AttendRows, Layout]] = []
        for attend, part in ((attend_one, slice(0, single)), (attend_many, slice(single, len(rows)))):
            if rows[part]:
                plan.append((attend, _layout(rows[part], [len(tokens) for tokens in fed[part]])))
        self._row_store.fit(max(row.index for row in rows) + 1, max(layout.width for _, layout in plan))
        self._prompt_store.fit(max(row.prompt.slot for row in rows) + 1, 1)
        return plan

    def _attend(
        self, plan: list[tuple[AttendRows, Layout]], layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
    ) -> torch.Tensor:
        sizes = [len(layout.owner) for _, layout in plan]
        parts = zip(plan, q.split(sizes), k.split(sizes), v.split(sizes), strict=True)
        stores = self._prompt_store, self._row_store
        return torch.cat([attend(*stores, layout, layer, *own) for (attend, layout), *own in parts])

    def _finish(self, row: _Row, token: int) -> Finish | None:
        assert row.request is not None
        if token in self._ends or self._stops.completes(token, row.tokens, row.start, row.request.stop):
            return "stop"
        return "length" if len(row.log_probs) >= row.request.max_tokens else None

    def _park(self, row: _Row, finish: Finish) -> tuple[Request, Generation]:
        assert row.request is not None
        request, row.request = row.request, None
        return request, Generation(tuple(row.tokens[row.start :]), tuple(row.log_probs), finish)


def _layout(rows: list[_Row], counts: list[int]) -> Layout:
    return Layout.build(
        rows=[row.index for row in rows],
        prompts=[row.prompt.slot for row in rows],
        prompt_lengths=[len(row.prompt.tokens) for row in rows],
        starts=[row.cached for row in rows],
        counts=counts,
    )


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences of one kind begin with in common."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low
