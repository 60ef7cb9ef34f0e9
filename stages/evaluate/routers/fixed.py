"""Always the same candidate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stages.evaluate.routers.protocol import Asked, Choice
from stages.shared.pool.candidate import Candidate


@dataclass(frozen=True)
class FixedRouter:
    """Sends every question to one candidate."""

    candidate: str
    cost: float = 0.0
    """Expected of a question, where records tell."""

    def decide(self, asked: Asked, thrift: float = 0.0) -> list[Choice]:
        """That candidate, for every question."""
        return [Choice((self.candidate,), self.candidate, self.cost)] * len(asked.questions)


def largest(candidates: Iterable[Candidate]) -> FixedRouter:
    """The baseline Largest LLM: the most expensive candidate, since size is not known of every one but its price is."""
    return FixedRouter(max(candidates, key=lambda item: (item.price, item.name)).name)
