"""A candidate LLM, its reply, and what it is known to be good at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol


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
    http2: bool = False
    """Whether it is asked over HTTP/2 where its endpoint offers that."""
    timeout_s: float | None = None
    """Of one attempt; None takes the pool's, as the next two do."""
    concurrency: int | None = None
    max_tokens: int | None = None
    requests_per_minute: int | None = None
    """Of this candidate alone; its provider has limits of its own, as for tokens."""
    tokens_per_minute: int | None = None
    parameters: tuple[tuple[str, Any], ...] = ()
    """Names and values added to the body of every call."""


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
    instead: Candidate | None = None
    """Who answered, where that is another than was asked (`stages.shared.pool.fallback`)."""
    lost: tuple[tuple[Candidate, Reply], ...] = ()
    """Calls of others that failed on the way, and whose they were. They may have been charged for."""

    def bills(self, asked: Candidate) -> tuple[tuple[Candidate, Reply], ...]:
        """Every call that it took, and who charges for it."""
        return (*self.lost, (self.instead or asked, self))

    def cost(self, candidate: Candidate) -> float:
        """The paper's cost: completion tokens x USD per 1M, in millionths of a dollar (section 3.2).

        `candidate` was asked; another that answered in its place charges its own price.
        """
        return sum(reply.completion_tokens * who.price for who, reply in self.bills(candidate))

    def cost_total(self, candidate: Candidate) -> float:
        """Prompt tokens included, in millionths of a dollar."""
        prompts = sum(reply.prompt_tokens * who.prompt_price for who, reply in self.bills(candidate))
        return self.cost(candidate) + prompts

    def row(self) -> dict[str, Any]:
        """As JSON takes it; of a reply by the candidate that was asked."""
        assert self.instead is None, "a reply by another candidate than was asked"
        return {name: value for name, value in vars(self).items() if name not in ("instead", "lost")}

    @staticmethod
    def of(row: Mapping[str, Any]) -> Reply:
        """From `row`. Raises ValueError, KeyError or TypeError for anything else."""
        return Reply(**{**row, "outcome": Outcome(row["outcome"])})


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
