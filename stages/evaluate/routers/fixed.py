"""Always the same candidate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stages.shared.pool.candidate import Candidate
from stages.shared.questions import Question


@dataclass(frozen=True)
class FixedRouter:
    """Sends every question to one candidate."""

    candidate: str
    method: str

    def choose(self, questions: Sequence[Question]) -> list[str]:
        """That candidate, for every question."""
        return [self.candidate] * len(questions)


def fixed(candidate: Candidate) -> FixedRouter:
    """The control `fixed:<candidate>`."""
    return FixedRouter(candidate.name, f"fixed:{candidate.name}")


def largest(candidates: Iterable[Candidate]) -> FixedRouter:
    """The baseline Largest LLM: the most expensive candidate, since size is not known of every one but its price is."""
    return FixedRouter(max(candidates, key=lambda item: (item.price, item.name)).name, "largest-llm")
