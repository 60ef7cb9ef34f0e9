"""Any candidate, with equal probability."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from stages.shared.questions import Question


@dataclass(frozen=True)
class RandomRouter:
    """Uniform over the pool; the draw depends on the seed and the question, not on the order of questions."""

    candidates: tuple[str, ...]
    seed: int
    method: str = "random"

    def choose(self, questions: Sequence[Question]) -> list[str]:
        """An independent draw for each question."""
        return [random.Random(f"{self.seed} {question.id}").choice(self.candidates) for question in questions]
