"""One question answered by one method: before (`Attempt`) and after (`Result`) it is marked."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from stages.evaluate.own import Own, Tariff
from stages.shared.episode.types import Episode
from stages.shared.questions import Question

PoolName = Literal["seen", "all"]
Tokens = tuple[int, int]
"""Prompt and completion tokens of one call, every billed attempt included."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a method did with a question."""

    question: Question
    prediction: str
    """The answer that it gives; "" for none."""
    cost: float
    """Millionths of a dollar, completion tokens of the candidates (the paper's cost)."""
    cost_calls: float
    """Millionths of a dollar, prompt tokens of the candidates included."""
    called: tuple[str, ...]
    """The candidate behind each call, in order."""
    own: Own
    """What the policy itself read and wrote."""
    choosing: Own
    """The part of `own` up to the first call, without the prompt."""
    faults: tuple[str, ...]
    transcript: str
    latency_s: float
    """Seconds of its calls, one after the other; the policy's own decoding is not in it."""
    tokens: tuple[Tokens, ...] = field(default=(), kw_only=True)
    """Of each call, in the order of `called`: what a bill at other prices is made from."""
    reply: str | None = field(default=None, kw_only=True)
    """The candidate's reply that the base policy answers from; None of a method that takes no single one."""

    @property
    def calls(self) -> int:
        """How many candidates' replies were paid for."""
        return len(self.called)

    @property
    def cost_total(self) -> float:
        """Millionths of a dollar: prompt tokens of the candidates and the policy's own tokens included."""
        return self.cost_calls + self.own.cost

    @property
    def own_cost(self) -> float:
        """Of `cost_total`, that of the policy's own tokens."""
        return self.own.cost

    @property
    def own_tokens(self) -> int:
        """Tokens that the policy wrote."""
        return self.own.written

    @property
    def own_read(self) -> int:
        """Tokens that the policy read."""
        return self.own.read


@dataclass(frozen=True, slots=True)
class ReplyMarks:
    """The second mode: the reply that a method takes, marked as it stands, without the base policy."""

    em: float
    """0 or 1: it is a gold answer and nothing else."""
    f1: float
    """0 to 1."""
    holds: float
    """0 or 1: it holds a gold answer, one that the question does not hold already."""


@dataclass(frozen=True, slots=True)
class Result(Attempt):
    """An attempt with its marks."""

    method: str
    pool: PoolName
    em: float
    """0 or 1."""
    f1: float
    """0 to 1."""
    reply_marks: ReplyMarks | None = field(default=None, kw_only=True)

    @classmethod
    def of(
        cls, attempt: Attempt, method: str, pool: PoolName, em: float, f1: float, reply_marks: ReplyMarks | None = None
    ) -> Result:
        """The attempt, marked."""
        known: dict[str, Any] = {item.name: getattr(attempt, item.name) for item in fields(Attempt)}
        return cls(**known, method=method, pool=pool, em=em, f1=f1, reply_marks=reply_marks)


def from_episode(question: Question, episode: Episode, tariff: Tariff, *, scripted: bool = False) -> Attempt:
    """The attempt that an episode is. `scripted`: its first turn was written for the policy, which only read it."""
    return Attempt(
        question=question,
        prediction=(episode.answer or "").strip(),
        cost=episode.cost,
        cost_calls=sum(call.cost_total for call in episode.calls),
        called=tuple(call.name for call in episode.calls),
        own=tariff.own(episode, scripted=scripted),
        choosing=tariff.choosing(episode),
        faults=episode.faults,
        transcript="\n".join(
            part for turn in episode.turns for part in (turn.text.strip(), turn.observation.strip()) if part
        ),
        latency_s=sum(call.reply.latency_s for call in episode.calls),
        tokens=tuple((call.reply.prompt_tokens, call.reply.completion_tokens) for call in episode.calls),
    )
