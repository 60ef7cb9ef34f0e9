"""Attention over keys and values in two places: a prompt that several rows share, and each row's own tokens.

Nothing here lets a row's rounding depend on its neighbours, so that a generation is the same to the last bit whoever
shares the batch: shapes that reach a product are padded to sizes from which on the CPU's kernels round alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F

from stages.shared.network import Network

GROWTH = 64
"""Room for tokens comes in blocks of so many."""
ROWS = 32
"""Room for rows comes in so many at a time: growing moves all that a store holds."""
FEWEST_QUERIES = 4
"""Products of fewer queries are padded to so many: fewer round differently."""
PIECE = GROWTH
"""Values are added up over just so many keys at a time: the CPU's kernels cut a sum of 192 elsewhere than one of 256,
so that a row with a longer neighbour would be rounded otherwise."""
SPARSE = 3
"""Where fewer than one in so many stored rows is in use, copying those is cheaper than reading past the others."""


def whole_blocks(tokens: int) -> int:
    """At least so many tokens, in whole blocks."""
    return -(-tokens // GROWTH) * GROWTH


class Store:
    """Keys and values: [layers, rows, kv heads, tokens, size]; grows, never shrinks."""

    def __init__(self, depth: int, heads: int, size: int, device: torch.device, dtype: torch.dtype) -> None:
        self.keys = torch.zeros(depth, 0, heads, 0, size, device=device, dtype=dtype)
        self.values = self.keys.clone()

    def fit(self, rows: int, tokens: int) -> None:
        """Make room for at least `rows` of `tokens`."""
        depth, have_rows, heads, have_tokens, size = self.keys.shape
        if rows <= have_rows and tokens <= have_tokens:
            return
        room = max(whole_blocks(tokens), have_tokens)
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_zeros(depth, max(-(-rows // ROWS) * ROWS, have_rows), heads, room, size)
            new[:, :have_rows, :, :have_tokens] = old
            setattr(self, name, new)

    def write(self, layout: Layout, layer: int, k: torch.Tensor, v: torch.Tensor) -> None:
        """Keep the keys and values of new tokens, [N, kv heads, size]."""
        where = layout.places(*self.keys.shape[2:4])
        for stored, new in ((self.keys, k), (self.values, v)):
            stored[layer].view(-1, stored.shape[-1]).index_copy_(0, where, new.reshape(-1, stored.shape[-1]))

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Give a row the first `tokens` of another."""
        for side in (self.keys, self.values):
            side[:, target, :, :tokens] = side[:, source, :, :tokens]

    def swap(self, one: int, other: int, tokens: int) -> None:
        """Exchange the first `tokens` of two rows."""
        for side in (self.keys, self.values):
            kept = side[:, one, :, :tokens].clone()
            side[:, one, :, :tokens] = side[:, other, :, :tokens]
            side[:, other, :, :tokens] = kept


@dataclass(frozen=True)
class Layout:
    """Which new tokens belong to which row, and what they may see; tokens lie flat, row after row."""

    rows: list[int]
    """Index into the row store."""
    prompts: list[int]
    """Index into the prompt store."""
    prompt_length: torch.Tensor
    """[rows]"""
    owner: torch.Tensor
    """[N] position in `rows` of each new token."""
    offset: torch.Tensor
    """[N] place of each new token after its row's prompt."""
    turn: torch.Tensor
    """[N] place of each new token among its row's new tokens."""
    positions: torch.Tensor
    """[N] place in the whole sequence."""
    longest_prompt: int
    """In whole blocks: where a row's own tokens begin decides how their weights are summed."""
    width: int
    """Tokens of the longest row after its prompt, in whole blocks: tiny products have a kernel of their own."""
    most: int
    """Room for the new tokens of a row."""

    @staticmethod
    def build(
        rows: list[int], prompts: list[int], prompt_lengths: list[int], starts: list[int], counts: list[int]
    ) -> Layout:
        """From lists of one entry a row: store indices, prompt lengths, cached tokens after it, new tokens."""
        count, start, length = torch.tensor(counts), torch.tensor(starts), torch.tensor(prompt_lengths)
        owner = torch.repeat_interleave(torch.arange(len(rows)), count)
        turn = torch.arange(len(owner)) - (count.cumsum(0) - count)[owner]
        offset = start[owner] + turn
        return Layout(
            rows=rows, prompts=prompts, prompt_length=length, owner=owner, offset=offset, turn=turn,
            positions=length[owner] + offset, longest_prompt=whole_blocks(max(prompt_lengths)),
            width=whole_blocks(max(first + new for first, new in zip(starts, counts, strict=True))),
            most=max(FEWEST_QUERIES, *counts),
        )  # fmt: skip

    @cached_property
    def row(self) -> torch.Tensor:
        """[rows] index into the row store."""
        return torch.tensor(self.rows)

    @cached_property
    def prompt(self) -> torch.Tensor:
        """[rows] index into the prompt store."""
        return torch.tensor(self.prompts)

    @cached_property
    def bias(self) -> torch.Tensor:
        """For one new token a row: 0 where it may look, -inf elsewhere; [rows, 1, 1, prompt tokens + own tokens]."""
        return _bias(self._seen(self.offset[:, None]))[:, :, None]

    @cached_property
    def mask(self) -> torch.Tensor:
        """The same for several new tokens a row: [rows, 1, most new tokens, prompt tokens + own tokens]."""
        newest = torch.full((len(self.rows), self.most), self.width)
        newest[self.owner, self.turn] = self.offset
        return _bias(self._seen(newest))[:, None]

    def _seen(self, newest: torch.Tensor) -> torch.Tensor:
        prompt = torch.arange(self.longest_prompt) < self.prompt_length[:, None, None]
        own = torch.arange(self.width) <= newest[:, :, None]
        return torch.cat((prompt.expand(-1, newest.shape[1], -1), own), dim=-1)

    def places(self, heads: int, room: int) -> torch.Tensor:
        """[N * heads] where new keys and values go in a layer of the row store, seen as [rows * heads * room, size]."""
        known = self.__dict__.get("_places")
        if known is None:
            row = self.row[self.owner][:, None] * heads + torch.arange(heads)
            known = self.__dict__["_places"] = (row * room + self.offset[:, None]).flatten()
        return known

    @cached_property
    def groups(self) -> Groups:
        """The rows by the prompt that they read."""
        return Groups.build(self.prompts)

    @cached_property
    def span(self) -> slice:
        """The part of the row store that the rows lie in."""
        return slice(min(self.rows), max(self.rows) + 1)

    @cached_property
    def within(self) -> torch.Tensor | None:
        """[rows] place within `span`; None where the rows fill it in order."""
        return None if self.rows == list(range(self.span.start, self.span.stop)) else self.row - self.span.start

    @property
    def is_sparse(self) -> bool:
        """Whether most of `span` belongs to others."""
        return bool(len(self.rows) * SPARSE < self.span.stop - self.span.start)


@dataclass(frozen=True)
class Groups:
    """Rows put together by prompt, so that one matrix product a prompt serves however many rows read it."""

    used: range | list[int]
    """Index into the prompt store of each group; a range, some of it unused, where that is cheaper to read."""
    share: int
    """Room for the rows of one group."""
    place: torch.Tensor | None
    """[rows] group * share + place within the group; None where the rows lie in that order and fill every group."""

    @staticmethod
    def build(prompts: Sequence[int]) -> Groups:
        """From the prompt of each row."""
        counts: Counter[int] = Counter()
        order = []
        for prompt in prompts:
            order.append(counts[prompt])
            counts[prompt] += 1
        used = (
            range(min(counts), max(counts) + 1) if len(counts) * SPARSE > max(counts) - min(counts) else sorted(counts)
        )
        number, share = {prompt: i for i, prompt in enumerate(used)}, max(FEWEST_QUERIES, *counts.values())
        place = [number[prompt] * share + turn for prompt, turn in zip(prompts, order, strict=True)]
        full = place == list(range(len(used) * share))
        return Groups(used, share, None if full else torch.tensor(place))

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, kv heads, queries, D] to [groups, kv heads, share * queries, D], zeros where a group is smaller."""
        _, kv, queries, size = x.shape
        groups, share = len(self.used), self.share
        grouped = _spread(x, self.place, groups * share).view(groups, share, kv, queries, size)
        return grouped.transpose(1, 2).reshape(groups, kv, share * queries, size)

    def back(self, x: torch.Tensor) -> torch.Tensor:
        """[groups, kv heads, share * queries, D] to [rows, kv heads, queries, D]."""
        groups, kv, queries, size = x.shape
        rows = x.view(groups, kv, self.share, queries // self.share, size).transpose(1, 2).flatten(0, 1)
        return _back(rows, self.place)


def attend_prompts(network: Network, store: Store, prompts: Sequence[Sequence[int]], slots: Sequence[int]) -> None:
    """Compute the keys and values of whole prompts, all of one padded length, into their slots of `store`."""
    lengths = torch.tensor([len(tokens) for tokens in prompts])
    owner = torch.repeat_interleave(torch.arange(len(prompts)), lengths)
    place = torch.arange(len(owner)) - (lengths.cumsum(0) - lengths)[owner]
    width, where = whole_blocks(int(lengths.max())), torch.tensor(slots)

    def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Keep the keys and values, and let each token see those before it."""
        queries, keys, values = (_pad(x, owner, place, len(prompts), width) for x in (q, k, v))
        store.keys[layer][where, :, :width] = keys
        store.values[layer][where, :, :width] = values
        out = F.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
        return out[owner, :, place]

    network.hidden(torch.tensor([token for tokens in prompts for token in tokens]), place, attend)


def attend_one(
    prompts: Store, own: Store, layout: Layout, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> torch.Tensor:
    """Attention of one new token a row; the rows of a prompt read its keys together."""
    own.write(layout, layer, k, v)
    queries = (q * q.shape[-1] ** -0.5).view(len(q), k.shape[1], -1, q.shape[-1])
    split, groups, (rows, within) = layout.longest_prompt, layout.groups, _rows(layout)
    prompt_keys, prompt_values = (_pick(side[layer], groups.used, split) for side in (prompts.keys, prompts.values))
    own_keys, own_values = (side[layer][rows][:, :, : layout.width] for side in (own.keys, own.values))
    scores = groups.back(groups.gather(queries) @ prompt_keys.mT)
    own_scores = _back(_spread(queries, within, len(own_keys)) @ own_keys.mT, within)
    weights = torch.cat((scores, own_scores), dim=-1).add_(layout.bias).softmax(-1)
    out = groups.back(_mix(groups.gather(weights[..., :split]), prompt_values))
    own_out = _back(_mix(_spread(weights[..., split:], within, len(own_values)), own_values), within)
    return (out + own_out).reshape(q.shape)


def attend_many(
    prompts: Store, own: Store, layout: Layout, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> torch.Tensor:
    """Attention where rows bring several new tokens: an observation, or all that follows a prompt."""
    own.write(layout, layer, k, v)
    keys, values = (
        torch.cat((a[layer][layout.prompt, :, : layout.longest_prompt], b[layer][layout.row, :, : layout.width]), dim=2)
        for a, b in ((prompts.keys, own.keys), (prompts.values, own.values))
    )
    rows, kv, most, split = len(layout.rows), k.shape[1], layout.most, layout.longest_prompt
    queries = _pad(q * q.shape[-1] ** -0.5, layout.owner, layout.turn, rows, most)
    scores = queries.reshape(rows, kv, -1, q.shape[-1]) @ keys.mT
    weights = (scores.view(rows, kv, -1, most, keys.shape[2]) + layout.mask[:, None]).softmax(-1).view_as(scores)
    out = _mix(weights[..., :split], values[..., :split, :]) + _mix(weights[..., split:], values[..., split:, :])
    return out.view(rows, q.shape[1], most, -1)[layout.owner, :, layout.turn]


def _rows(layout: Layout) -> tuple[slice | torch.Tensor, torch.Tensor | None]:
    """What to read of the row store, and the places of the rows within that."""
    return (layout.row, None) if layout.is_sparse else (layout.span, layout.within)


def _pick(side: torch.Tensor, used: range | list[int], tokens: int) -> torch.Tensor:
    """The first tokens of some rows of a store."""
    if isinstance(used, range):
        return side[used.start : used.stop, :, :tokens]
    return side[used, :, :tokens]


def _spread(x: torch.Tensor, place: torch.Tensor | None, size: int) -> torch.Tensor:
    return x if place is None else x.new_zeros(size, *x.shape[1:]).index_copy_(0, place, x)


def _back(x: torch.Tensor, place: torch.Tensor | None) -> torch.Tensor:
    return x if place is None else x.index_select(0, place)


def _bias(seen: torch.Tensor) -> torch.Tensor:
    return torch.zeros(seen.shape).masked_fill_(~seen, float("-inf"))


def _mix(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """`weights` [..., keys] times `values` [..., keys, size], a piece of the keys after the other."""
    total = weights[..., :PIECE] @ values[..., :PIECE, :]
    for start in range(PIECE, weights.shape[-1], PIECE):
        total = total + weights[..., start : start + PIECE] @ values[..., start : start + PIECE, :]
    return total


def _pad(x: torch.Tensor, owner: torch.Tensor, place: torch.Tensor, rows: int, width: int) -> torch.Tensor:
    """Flat [N, heads, size] to padded [rows, heads, width, size]."""
    padded = x.new_zeros(rows, width, *x.shape[1:])
    padded[owner, place] = x
    return padded.transpose(1, 2)
