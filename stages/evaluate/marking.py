"""Attempts are marked by Hugging Face `evaluate`, with the metric script of this folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.evaluate.attempt import Attempt, PoolName, ReplyMarks, Result
from stages.shared.questions import Question
from stages.shared.scoring import contains

if TYPE_CHECKING:
    from evaluate import EvaluationModule

SCRIPT = Path(__file__).parent / "metric" / "answer_match" / "answer_match.py"


@dataclass(frozen=True)
class Marker:
    """Marks attempts by exact match and F1."""

    metric: EvaluationModule

    def mark(self, method: str, pool: PoolName, attempts: Sequence[Attempt]) -> list[Result]:
        """The attempts of one method as results, in the same order."""
        marks = self.marks([(item.prediction, item.question.answers) for item in attempts])
        replies = self._replies(attempts)
        return [
            Result.of(item, method, pool, em, f1, reply)
            for item, (em, f1), reply in zip(attempts, marks, replies, strict=True)
        ]

    def _replies(self, attempts: Sequence[Attempt]) -> list[ReplyMarks | None]:
        """Of the replies that were taken; None where there is none."""
        texts = [item.reply for item in attempts]
        marks = iter(self.marks([
            (text, item.question.answers) for item, text in zip(attempts, texts, strict=True) if text is not None
        ]))  # fmt: skip
        return [
            None if text is None else ReplyMarks(*next(marks), float(tells(item.question, text)))
            for item, text in zip(attempts, texts, strict=True)
        ]

    def marks(self, pairs: Sequence[tuple[str, tuple[str, ...]]]) -> list[tuple[float, float]]:
        """(em, f1) of each (prediction, gold answers)."""
        if not pairs:
            return []
        found = self.metric.compute(
            predictions=[prediction for prediction, _ in pairs], references=[list(golds) for _, golds in pairs]
        )
        return list(zip(found["em_each"], found["f1_each"], strict=True))


def tells(question: Question, reply: str) -> bool:
    """Whether a reply holds a gold answer that the question does not hold already, as a comparison's does."""
    return contains(reply, question.answers) and not contains(question.question, question.answers)


def load_marker(cache: Path) -> Marker:
    """Load the metric script, offline; `cache` holds what `evaluate` writes for itself."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_EVALUATE_OFFLINE", "1")
    import evaluate

    return Marker(evaluate.load(str(SCRIPT), keep_in_memory=True, cache_dir=str(cache)))
