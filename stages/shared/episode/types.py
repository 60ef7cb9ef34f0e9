"""The vocabulary of an episode: what the driver is given and what it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from stages.shared.pool.candidate import Descriptor, Reply


@dataclass(frozen=True)
class Generation:
    """Tokens that the policy wrote in one turn, the stop string included."""

    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...] | None
    """One a token, natural logarithm, under the sampling policy; None where the backend gives none."""
    finish: Literal["stop", "length"]


class Generate(Protocol):
    """The policy: continues a context of token ids until a stop string, the end token or `max_tokens`."""

    async def __call__(self, context: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> Generation:
        """The tokens of one turn, at most `max_tokens`."""
        ...


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that an episode needs."""

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Text to token ids."""
        ...

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Token ids to text."""
        ...


@dataclass(frozen=True)
class RosterEntry:
    """A candidate as one prompt shows it."""

    shown: str
    """The name in the prompt and in calls; the candidate's own unless the roster renames."""
    name: str
    """The candidate that answers."""
    descriptor: Descriptor


@dataclass(frozen=True)
class Roster:
    """The candidates that one episode may call, in the order of its prompt."""

    entries: tuple[RosterEntry, ...]

    def find(self, shown: str) -> RosterEntry | None:
        """The entry of exactly that shown name."""
        return next((entry for entry in self.entries if entry.shown == shown), None)


@dataclass(frozen=True)
class Call:
    """One routed call of an episode."""

    shown: str
    name: str
    query: str
    reply: Reply
    cost: float
    """Millionths of a dollar, completion tokens (the paper's cost)."""
    cost_total: float
    """Millionths of a dollar, prompt tokens included."""

    @property
    def answered_by(self) -> str:
        """Who answered: `name`, unless another did in its place."""
        return self.name if self.reply.instead is None else self.reply.instead.name


@dataclass(frozen=True)
class Turn:
    """One generation and the observation that followed it ("" after the answer)."""

    text: str
    observation: str
    call: Call | None = None


@dataclass(frozen=True)
class Episode:
    """A finished episode, token for token. `response_mask` is 1 where the policy wrote the token."""

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    response_mask: tuple[int, ...]
    log_probs: tuple[float, ...] | None
    """One a response token, 0.0 where the mask is 0."""
    turns: tuple[Turn, ...]
    answer: str | None
    """The text of the policy's own answer block."""
    faults: tuple[str, ...]
    """What breaks the format, in words; empty for a well-formed episode."""
    ending: Literal["answered", "out-of-turns", "out-of-room", "infrastructure"]

    @property
    def well_formed(self) -> bool:
        """Whether the format reward is 0 rather than -1."""
        return not self.faults

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every call, in order."""
        return tuple(turn.call for turn in self.turns if turn.call is not None)

    @property
    def cost(self) -> float:
        """Millionths of a dollar: completion tokens x price over all calls (paper, section 3.2)."""
        return sum(call.cost for call in self.calls)
