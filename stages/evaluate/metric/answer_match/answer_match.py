"""Exact match and token F1 of short answers, as a script for `evaluate.load`: read from this file, never from a hub."""

from __future__ import annotations

import datasets
import evaluate

from stages.shared.scoring import exact_match, f1

DESCRIPTION = "Exact match and token F1 after SQuAD normalisation, the best over the gold answers."
CITATION = "Rajpurkar et al., SQuAD: 100,000+ Questions for Machine Comprehension of Text, EMNLP 2016"


class AnswerMatch(evaluate.Metric):
    """`compute(predictions=[str], references=[[str]])` -> means `em` and `f1`, and `em_each`, `f1_each` by question."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features(
            {"predictions": datasets.Value("string"), "references": datasets.Sequence(datasets.Value("string"))}
        )
        return evaluate.MetricInfo(description=DESCRIPTION, citation=CITATION, inputs_description="", features=features)

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float | list[float]]:
        em_each = [exact_match(given, golds) for given, golds in zip(predictions, references, strict=True)]
        f1_each = [f1(given, golds) for given, golds in zip(predictions, references, strict=True)]
        n = max(1, len(em_each))
        return {"em": sum(em_each) / n, "f1": sum(f1_each) / n, "em_each": em_each, "f1_each": f1_each}
