"""Episodes of the router to read: a few of each set, chosen by figures alone, and only these read with their texts."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.evaluate.report.transcript import Piece, pieces, visible
from stages.evaluate.sheet import Measured, Sheet

EXAMPLES_A_SET, MORE_A_SET = 8, 3
EXPENSIVE = 0.9
"""Quantile of the cost from which on an episode counts as expensive."""


@dataclass(frozen=True)
class Example:
    """One episode of the router to read."""

    id: str
    """Of the question, in the ledger."""
    dataset: str
    right: bool
    flipped: bool
    """Whether the policy before PPO came out otherwise."""
    expensive: bool
    """Whether it is among the dearest tenth of the router's episodes."""
    question: str
    answers: str
    prediction: str
    calls: int
    cost: float
    called: tuple[str, ...]
    faults: tuple[str, ...]
    pieces: tuple[Piece, ...]


def examples(measured: Measured, router: str, before: str, seed: int) -> list[Example]:
    """A sample of the router's episodes: up to eight a set, half of them wrong where there are as many; beside these
    some that the policy before PPO (`before`, where it played) ended otherwise, and some of the dearest.
    """
    sheet = measured.sheet(router)
    right, cost = sheet.numbers("em") == 1, sheet.numbers("cost")
    was_right = measured.sheet(before).numbers("em") == 1 if before in measured.methods else right
    flipped, dear = right != was_right, cost > np.quantile(cost, EXPENSIVE)
    places = list(_chosen(sheet, right, flipped, np.where(dear, cost, -np.inf), random.Random(seed)))
    keys = [(dataset, identity) for dataset, identity in zip(_sets(sheet, places), sheet.ids(places), strict=True)]
    rows = {(row["dataset"], row["question_id"]): row for row in measured.whole(router, {key[1] for key in keys})}
    return [
        _example(rows[key], bool(flipped[place]), bool(dear[place])) for key, place in zip(keys, places, strict=True)
    ]


def _chosen(
    sheet: Sheet, right: np.ndarray, flipped: np.ndarray, dear: np.ndarray, rng: random.Random
) -> Iterator[int]:
    """Places, set after set; `dear`: the cost of expensive episodes, nothing of others."""
    for _, members in sheet.groups("dataset"):
        places = np.flatnonzero(members)
        group = [int(places[index]) for index in rng.sample(range(len(places)), len(places))]
        wrong = [place for place in group if not right[place]][: EXAMPLES_A_SET // 2]
        good = [place for place in group if right[place]][: EXAMPLES_A_SET - len(wrong)]
        turned = [place for place in group if flipped[place]][:MORE_A_SET]
        dearest = sorted((place for place in group if np.isfinite(dear[place])), key=lambda place: -dear[place])
        yield from dict.fromkeys((*good, *wrong, *turned, *dearest[:MORE_A_SET]))


def _sets(sheet: Sheet, places: list[int]) -> list[str]:
    ends = np.cumsum([*sheet.sizes.values()])
    names = [*sheet.sizes]
    return [names[int(np.searchsorted(ends, place, side="right"))] for place in places]


def _example(row: Mapping[str, Any], flipped: bool, expensive: bool) -> Example:
    return Example(
        id=row["question_id"],
        flipped=flipped,
        expensive=expensive,
        dataset=row["dataset"],
        right=row["em"] == 1,
        question=visible(row["question"]),
        answers=visible(" / ".join(row["answers"])),
        prediction=visible(row["prediction"]) or "(no answer)",
        calls=row["calls"],
        cost=row["cost"],
        called=tuple(row["called"]),
        faults=tuple(visible(fault) for fault in row["faults"]),
        pieces=tuple(pieces(row["transcript"])),
    )
