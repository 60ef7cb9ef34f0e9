"""Attempts are marked by Hugging Face `evaluate`, with the metric script of this folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.evaluate.attempt import Attempt, PoolName, Result

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
        return [Result.of(item, method, pool, em, f1) for item, (em, f1) in zip(attempts, marks, strict=True)]

    def marks(self, pairs: Sequence[tuple[str, tuple[str, ...]]]) -> list[tuple[float, float]]:
        """(em, f1) of each (prediction, gold answers)."""
        if not pairs:
            return []
        found = self.metric.compute(
            predictions=[prediction for prediction, _ in pairs], references=[list(golds) for _, golds in pairs]
        )
        return list(zip(found["em_each"], found["f1_each"], strict=True))


def load_marker(cache: Path) -> Marker:
    """Load the metric script, offline; `cache` holds what `evaluate` writes for itself."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_EVALUATE_OFFLINE", "1")
    import evaluate

    return Marker(evaluate.load(str(SCRIPT), keep_in_memory=True, cache_dir=str(cache)))
