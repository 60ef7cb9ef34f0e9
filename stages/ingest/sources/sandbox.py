"""Questions generated from the sandbox world (synthetic)."""

from __future__ import annotations

import random
from collections.abc import Sequence

from stages.ingest.sandbox import SHAPES, make_questions
from stages.shared.params import WorldParams
from stages.shared.questions import Question, Split
from stages.shared.sandbox.world import World

SPARE = 1.5
"""Questions made for each one wanted in a test set, since sets may meet in a question and keep it once."""


class SandboxQuestions:
    """Makes each data set's questions for each split anew, about entities of that split's fold."""

    def __init__(self, world: WorldParams, seed: int) -> None:
        self._world = World.generate(world)
        self._seed = seed

    @property
    def test_sets(self) -> Sequence[str]:
        """All seven."""
        return tuple(SHAPES)

    def questions(self, dataset: str, split: Split, wanted: int) -> list[Question]:
        """At least `wanted` distinct questions; see `QuestionSource`."""
        rng = random.Random(f"{self._seed}|{dataset}|{split}")
        return make_questions(self._world, dataset, split, int(wanted * SPARE) if split == "test" else wanted, rng)
