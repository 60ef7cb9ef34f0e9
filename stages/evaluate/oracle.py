"""The best that the pool allows: a bound for every router, known after the fact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stages.evaluate.attempt import Attempt, Tokens
from stages.evaluate.own import Own
from stages.shared.questions import Question


@dataclass(frozen=True, slots=True)
class Probe:
    """One candidate asked one question, or one part of it."""

    candidate: str
    right: bool
    """Whether the reply holds a gold answer, or the base policy drew one from it."""
    cost: float
    cost_calls: float
    """Prompt tokens included; an oracle's own tokens cost nothing."""
    latency_s: float = 0.0
    tokens: Tokens = (0, 0)


def best_attempt(question: Question, direct: Sequence[Probe], parts: Sequence[Sequence[Probe]]) -> Attempt:
    """What an oracle does with a question: the cheapest right way; where there is none it asks nobody.

    It may ask one candidate the whole question (`direct`, one probe a candidate), or, where the decomposition is known,
    one candidate a part (`parts`, one list a part) and put the true pieces together.
    """
    ways: list[tuple[Probe, ...]] = [(probe,) for probe in direct if probe.right]
    split = [min((probe for probe in probes if probe.right), key=_price, default=None) for probes in parts]
    chosen = tuple(probe for probe in split if probe is not None)
    if parts and len(chosen) == len(parts):
        ways.append(chosen)
    best = min(ways, key=lambda way: sum(probe.cost for probe in way), default=())
    return Attempt(
        question=question,
        prediction=question.answers[0] if ways else "",
        cost=sum(probe.cost for probe in best),
        cost_calls=sum(probe.cost_calls for probe in best),
        called=tuple(probe.candidate for probe in best),
        own=Own(),
        choosing=Own(),
        faults=(),
        transcript="",
        latency_s=sum(probe.latency_s for probe in best),
        tokens=tuple(probe.tokens for probe in best),
    )


def _price(probe: Probe) -> float:
    return probe.cost
