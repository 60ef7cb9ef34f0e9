"""Answers compared with gold answers, as SQuAD does it (Rajpurkar et al. 2016, section 6.1)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, no ASCII punctuation, no articles, single spaces."""
    plain = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1.0 if the prediction equals any gold answer once both are normalised, else 0.0. An empty one equals none."""
    if not prediction.strip():
        return 0.0
    wanted = normalise(prediction)
    return float(any(normalise(answer) == wanted for answer in answers))


def f1(prediction: str, answers: Sequence[str]) -> float:
    """Token F1 between 0 and 1, the best over the gold answers."""
    return max((_f1(normalise(prediction).split(), normalise(answer).split()) for answer in answers), default=0.0)


def contains(text: str, answers: Sequence[str]) -> bool:
    """Whether any gold answer appears in the text as a run of whole normalised tokens."""
    inside = f" {normalise(text)} "
    golds = (normalise(answer) for answer in answers)
    return any(f" {gold} " in inside for gold in golds if gold)


def _f1(prediction: list[str], gold: list[str]) -> float:
    common = sum((Counter(prediction) & Counter(gold)).values())
    if not common:
        return 0.0
    precision, recall = common / len(prediction), common / len(gold)
    return 2 * precision * recall / (precision + recall)
