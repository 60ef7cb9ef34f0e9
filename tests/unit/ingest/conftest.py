from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from stages.ingest.splits import Splits
from stages.shared.params import FilesSource, IngestParams, SandboxSource, Sizes
from stages.shared.questions import Question, Split

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real question files, outside the repository."""
    folder = Path(os.environ.get("POINTSMAN_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "qa").is_dir():
        pytest.skip(f"real question files are not here ({folder}/qa); set POINTSMAN_DATA to test on them")
    return folder


class Listed:
    """A source of given questions: what it offers for training, and its test sets."""

    def __init__(self, train: dict[str, list[str]], test: dict[str, list[str]]) -> None:
        self.train, self.test = train, test

    @property
    def test_sets(self) -> Sequence[str]:
        return tuple(self.test)

    def questions(self, dataset: str, split: Split, wanted: int) -> list[Question]:
        texts = (self.test if split == "test" else self.train)[dataset]
        return [Question(text, ("yes",), dataset, split, dataset) for text in texts]


@pytest.fixture(scope="session")
def listed() -> type[Listed]:
    return Listed


@pytest.fixture
def ids():
    def of(splits: Splits, split: Split) -> list[str]:
        return [question.id for question in splits[split]]

    return of


@pytest.fixture
def params():
    """Ingest parameters of small sizes; the source they name is not used unless a test says so."""

    def make(
        train: int = 3, profiling: int = 2, validation: int = 2, test: int = 5, seed: int = 7,
        train_on: tuple[str, ...] = ("nq",), source: FilesSource | SandboxSource | None = None,
    ) -> IngestParams:  # fmt: skip
        sizes = Sizes(train=train, profiling=profiling, validation=validation, test=test)
        return IngestParams(seed=seed, source=source or SandboxSource(), train_on=train_on, sizes=sizes)

    return make
