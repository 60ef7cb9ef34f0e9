"""A policy and a pool that play what was written down, so that the driver makes an episode of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from stages.shared.episode.types import Generation, Tokenizer
from stages.shared.pool.candidate import Candidate, Descriptor, Reply
from stages.train.warm_start.records import Record


class Script:
    """A policy that writes the given turns (see `stages.shared.episode.types.Generate`)."""

    def __init__(self, turns: Sequence[str], tokenizer: Tokenizer) -> None:
        self._turns = iter(turns)
        self._tokenizer = tokenizer

    async def __call__(self, context: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> Generation:
        """The next turn, cut where the episode leaves no room for it."""
        ids = self._tokenizer.encode(next(self._turns, ""), add_special_tokens=False)
        return Generation(tuple(ids[:max_tokens]), None, "stop" if len(ids) <= max_tokens else "length")


class Replay:
    """A pool that answers with recorded replies, in order (see `stages.shared.pool.candidate.Pool`)."""

    def __init__(self, calls: Iterable[Record], descriptors: Iterable[Descriptor]) -> None:
        self._calls = iter(calls)
        self._candidates = {known.name: _candidate(known) for known in descriptors}

    @property
    def candidates(self) -> Mapping[str, Candidate]:
        """By name; they have no address."""
        return self._candidates

    async def ask(self, name: str, query: str) -> Reply:
        """The next recorded reply."""
        return next(self._calls).reply


def _candidate(known: Descriptor) -> Candidate:
    return Candidate(
        name=known.name, model=known.name, base_url="", price=known.price, prompt_price=0.0, seen=known.seen
    )
