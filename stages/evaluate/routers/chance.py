"""Any candidate, with equal probability."""

from __future__ import annotations

import random
from dataclasses import dataclass

from stages.evaluate.routers.protocol import Asked, Choice
from stages.shared.questions import question_id


@dataclass(frozen=True)
class RandomRouter:
    """Uniform over the pool; the draw depends on the seed and the question, not on the order of questions."""

    candidates: tuple[str, ...]
    seed: int

    def decide(self, asked: Asked, thrift: float = 0.0) -> list[Choice]:
        """An independent draw for each question."""
        drawn = [random.Random(f"{self.seed} {question_id(text)}").choice(self.candidates) for text in asked.questions]
        return [Choice((name,), name, 0.0) for name in drawn]
