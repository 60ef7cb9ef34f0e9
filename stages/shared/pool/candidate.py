"""A candidate LLM, its reply, and what it is known to be good at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True)
class Candidate:
    """An LLM that the policy may call. Prices are USD per 1M tokens."""

    name: str
    model: str
    base_url: str
    price: float
    prompt_price: float
    seen: bool = True
    key_env: str | None = None
    system: str = ""
    summary: str = ""
    answers_as: tuple[str, ...] = ()
    """Other model ids that its answers may carry, see `stages.shared.pool.attempt`."""
    private: bool = False
    """Whether it may live at a private address."""
    headers: tuple[tuple[str, str], ...] = ()
    """Names and values sent with every call."""


class Outcome(StrEnum):
    """How a call ended. Everything but the first three is a failure of the infrastructure."""

    ANSWERED = "answered"
    REFUSED = "refused"
    TRUNCATED = "truncated"
    TIMED_OUT = "timed-out"
    RATE_LIMITED = "rate-limited"
    OUT_OF_CREDIT = "out-of-credit"
    UNREACHABLE = "unreachable"
    MALFORMED = "malformed"

    @property
    def is_failure(self) -> bool:
        """Whether no reply of the model was had."""
        return self not in (Outcome.ANSWERED, Outcome.REFUSED, Outcome.TRUNCATED)


@dataclass(frozen=True)
class Reply:
    """What came back from one call, with every billed attempt in its token counts."""

    text: str
    outcome: Outcome
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_s: float = 0.0
    """Seconds, by the provider's own measure where it reports one, by the wall clock otherwise."""
    attempts: int = 1
    detail: str = ""
    """Why a call failed, in words fit for a log; "" otherwise."""

    def cost(self, candidate: Candidate) -> float:
        """The paper's cost: completion tokens x USD per 1M, in millionths of a dollar (section 3.2)."""
        return self.completion_tokens * candidate.price

    def cost_total(self, candidate: Candidate) -> float:
        """Prompt tokens included, in millionths of a dollar."""
        return self.cost(candidate) + self.prompt_tokens * candidate.prompt_price


class Pool(Protocol):
    """Where the episode driver sends its calls."""

    @property
    def candidates(self) -> Mapping[str, Candidate]:
        """By name."""
        ...

    async def ask(self, name: str, query: str) -> Reply:
        """Ask one candidate. Never raises for what the network or the provider did: that is in the outcome."""
        ...


@dataclass(frozen=True)
class TopicSkill:
    """Measured on single-hop profiling questions of one topic."""

    em: float
    f1: float
    n: int


@dataclass(frozen=True)
class Descriptor:
    """What the prompt says of a candidate: price, latency, example performance (paper, section 3.1)."""

    name: str
    price: float
    """USD per 1M completion tokens."""
    latency_s: float
    """Median of a call, seconds."""
    skill: Mapping[str, TopicSkill] = field(default_factory=dict)
    seen: bool = True
    summary: str = ""
