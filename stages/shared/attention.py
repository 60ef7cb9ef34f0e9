"""Attention over keys and values in two places: a prompt that several rows share, and each row's own tokens.

Nothing here lets a row's rounding depend on its neighbours, so that a generation is the same to the last bit whoever
shares the batch: shapes that reach a product are padded to sizes from which on the CPU's kernels round alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F

from stages.shared.network import Network

GROWTH = 64
"""Room for tokens comes in blocks of so many."""
FEWEST_QUERIES = 4
"""Products of fewer queries are padded to so many: fewer round differently."""
PIECE = 256
"""Values are added up over so many keys at a time: a longer sum would be cut elsewhere for a longer neighbour."""
SPARSE = 3
"""Where fewer than one in so many stored rows is in use, copying those is cheaper than reading past the others."""


def whole_blocks(tokens: int) -> int:
    """At least so many tokens, in whole blocks."""
    return -(-tokens // GROWTH) * GROWTH


class Store:
    """Keys and values by layer: [rows, kv heads, tokens, size]; grows, never shrinks."""

    def __init__(self, depth: int, heads: int, size: int, device: torch.device, dtype: torch.dtype) -> None:
        self.heads, self.size = heads, size
        self.keys = [torch.zeros(0, heads, 0, size, device=device, dtype=dtype) for _ in range(depth)]
        self.values = [torch.zeros(0, heads, 0, size, device=device, dtype=dtype) for _ in range(depth)]

    @property
    def rows(self) -> int:
        """How many rows there is room for."""
        return int(self.keys[0].shape[0])

    def fit(self, rows: int, tokens: int) -> None:
        """Make room for at least `rows` of `tokens`."""
        have_rows, have_tokens = self.keys[0].shape[0], self.keys[0].shape[2]
        if rows <= have_rows and tokens <= have_tokens:
            return
        shape = (max(rows, have_rows), self.heads, max(whole_blocks(tokens), have_tokens), self.size)
        for side in (self.keys, self.values):
            for layer, old in enumerate(side):
                side[layer] = old.new_zeros(shape)
                side[layer][:have_rows, :, :have_tokens] = old


@dataclass(frozen=True)
class Layout:
    """Which new tokens belong to which row, and what they may see; tokens lie flat, row after row."""

    rows: list[int]
    prompts: list[int]
    row: torch.Tensor
    """[rows] index into the row store."""
    prompt: torch.Tensor
    """[rows] index into the prompt store."""
    prompt_length: torch.Tensor
    place: torch.Tensor
    """[rows] order of the row among those of its prompt."""
    share: int
    """Room for the rows of one prompt."""
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

    @cached_property
    def bias(self) -> torch.Tensor:
        """For one new token a row: 0 where it may look, -inf elsewhere; [rows, 1, 1, prompt tokens + own tokens]."""
        prompt = torch.arange(self.longest_prompt)[None] < self.prompt_length[:, None]
        own = torch.arange(self.width)[None] <= self.offset[:, None]
        seen = torch.cat((prompt, own), dim=-1)
        return torch.zeros(seen.shape).masked_fill_(~seen, float("-inf"))[:, None, None]

    def seen(self, most: int) -> torch.Tensor:
        """Whether each of `most` new tokens a row may look at a key; [rows, most, prompt tokens + own tokens]."""
        newest = torch.full((len(self.rows), most), self.width)
        newest[self.owner, self.turn] = self.offset
        own = torch.arange(self.width)[None, None] <= newest[:, :, None]
        prompt = torch.arange(self.longest_prompt)[None] < self.prompt_length[:, None]
        return torch.cat((prompt[:, None].expand(-1, most, -1), own), dim=-1)

    @staticmethod
    def build(
        rows: list[int], prompts: list[int], prompt_lengths: list[int], starts: list[int], counts: list[int]
    ) -> Layout:
        """From lists of one entry a row: store indices, prompt lengths, cached tokens after it, new tokens."""
        seen: dict[int, int] = {}
        place = []
        for slot in prompts:
            place.append(seen.get(slot, 0))
            seen[slot] = place[-1] + 1
        count, start, length = torch.tensor(counts), torch.tensor(starts), torch.tensor(prompt_lengths)
        owner = torch.repeat_interleave(torch.arange(len(rows)), count)
        ends = count.cumsum(0)
        turn = torch.arange(len(owner)) - (ends - count)[owner]
        offset = start[owner] + turn
        return Layout(
            rows=rows, prompts=prompts, row=torch.tensor(rows), prompt=torch.tensor(prompts), prompt_length=length,
            place=torch.tensor(place), share=max(FEWEST_QUERIES, *seen.values()), owner=owner, offset=offset, turn=turn,
            positions=length[owner] + offset, longest_prompt=whole_blocks(max(prompt_lengths)),
            width=whole_blocks(int((start + count).max())),
        )  # fmt: skip


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
    _write(own, layout, layer, k, v)
    kv = k.shape[1]
    queries = (q * q.shape[-1] ** -0.5).view(len(q), kv, -1, q.shape[-1])
    prompt = _Shared(prompts, layout, layer, queries)
    rows = _Own(own, layout, layer)
    scores = torch.cat((prompt.scores(), rows.scores(queries)), dim=-1)
    weights = (scores + layout.bias).softmax(-1)
    split = layout.longest_prompt
    return (prompt.mix(weights[..., :split]) + rows.mix(weights[..., split:])).reshape(q.shape)


def attend_many(
    prompts: Store, own: Store, layout: Layout, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> torch.Tensor:
    """Attention where rows bring several new tokens, as after an observation."""
    _write(own, layout, layer, k, v)
    keys, values = (
        torch.cat((a[layer][layout.prompt, :, : layout.longest_prompt], b[layer][layout.row, :, : layout.width]), dim=2)
        for a, b in ((prompts.keys, own.keys), (prompts.values, own.values))
    )
    rows, kv = len(layout.rows), k.shape[1]
    most = max(FEWEST_QUERIES, int(layout.turn.max()) + 1)
    queries = _pad(q * q.shape[-1] ** -0.5, layout.owner, layout.turn, rows, most)
    scores = queries.reshape(rows, kv, -1, q.shape[-1]) @ keys.transpose(-1, -2)
    seen = layout.seen(most)[:, None, None]
    weights = (
        scores.view(rows, kv, -1, most, keys.shape[2]).masked_fill(~seen, float("-inf")).softmax(-1).view_as(scores)
    )
    split = layout.longest_prompt
    out = _mix(weights[..., :split], values[..., :split, :]) + _mix(weights[..., split:], values[..., split:, :])
    return out.view(rows, q.shape[1], most, -1)[layout.owner, :, layout.turn]


class _Shared:
    """The part of attention that goes to prompts: one matrix product a prompt, however many rows read it."""

    def __init__(self, store: Store, layout: Layout, layer: int, queries: torch.Tensor) -> None:
        length = layout.longest_prompt
        self.prompt, self.place = layout.prompt, layout.place
        self.keys, self.values = store.keys[layer][:, :, :length], store.values[layer][:, :, :length]
        used = torch.unique(layout.prompt)
        if len(used) * SPARSE < store.rows:
            self.keys, self.values = self.keys[used], self.values[used]
            self.prompt = torch.searchsorted(used, layout.prompt)
        _, kv, group, size = queries.shape
        self.shape = (self.keys.shape[0], layout.share, kv, group)
        grouped = queries.new_zeros(*self.shape, size)
        grouped[self.prompt, self.place] = queries
        self.queries = self._rows(grouped)

    def _rows(self, grouped: torch.Tensor) -> torch.Tensor:
        prompts, share, kv, group = self.shape
        return grouped.permute(0, 2, 1, 3, 4).reshape(prompts, kv, share * group, -1)

    def _back(self, rows: torch.Tensor) -> torch.Tensor:
        prompts, share, kv, group = self.shape
        return rows.view(prompts, kv, share, group, -1).permute(0, 2, 1, 3, 4)[self.prompt, self.place]

    def scores(self) -> torch.Tensor:
        """[rows, kv heads, queries a kv head, prompt tokens]."""
        return self._back(self.queries @ self.keys.transpose(-1, -2))

    def mix(self, weights: torch.Tensor) -> torch.Tensor:
        """Values weighted: [rows, kv heads, queries a kv head, size]."""
        grouped = weights.new_zeros(*self.shape, weights.shape[-1])
        grouped[self.prompt, self.place] = weights
        return self._back(_mix(self._rows(grouped), self.values))


class _Own:
    """The part of attention that goes to each row's own tokens."""

    def __init__(self, store: Store, layout: Layout, layer: int) -> None:
        self.keys = store.keys[layer][:, :, : layout.width]
        self.values = store.values[layer][:, :, : layout.width]
        self.row = layout.row
        if len(layout.rows) * SPARSE < store.rows:
            self.keys, self.values = self.keys[self.row], self.values[self.row]
            self.row = torch.arange(len(layout.rows))

    def _spread(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) == self.keys.shape[0] and bool((self.row == torch.arange(len(x))).all()):
            return x
        return x.new_zeros(self.keys.shape[0], *x.shape[1:]).index_copy_(0, self.row, x)

    def scores(self, queries: torch.Tensor) -> torch.Tensor:
        """[rows, kv heads, queries a kv head, own tokens]."""
        return (self._spread(queries) @ self.keys.transpose(-1, -2))[self.row]

    def mix(self, weights: torch.Tensor) -> torch.Tensor:
        """Values weighted: [rows, kv heads, queries a kv head, size]."""
        return _mix(self._spread(weights), self.values)[self.row]


def _write(store: Store, layout: Layout, layer: int, k: torch.Tensor, v: torch.Tensor) -> None:
    where = layout.row[layout.owner]
    store.keys[layer][where, :, layout.offset] = k
    store.values[layer][where, :, layout.offset] = v


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
