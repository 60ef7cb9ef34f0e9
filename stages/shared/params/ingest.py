"""The section `ingest`: which questions, and how they are split."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from stages.shared.params.section import Section

Dataset = Literal["nq", "triviaqa", "popqa", "hotpotqa", "2wikimultihopqa", "musique", "bamboogle"]
DATASETS: tuple[Dataset, ...] = ("nq", "triviaqa", "popqa", "hotpotqa", "2wikimultihopqa", "musique", "bamboogle")


class SandboxSource(Section):
    """Questions generated from the sandbox world."""

    kind: Literal["sandbox"] = "sandbox"


class FilesSource(Section):
    """Questions read from files in one folder."""

    kind: Literal["files"] = "files"
    folder: str
    """The folder, relative to the repository or absolute."""
    train: dict[Dataset, str]
    """Data set -> file under `folder` for training, profiling and validation."""
    test: dict[Dataset, str]
    """Data set -> file under `folder` for the test sets."""


class HubSource(Section):
    """Questions from a Hugging Face data set repository in FlashRAG's layout."""

    kind: Literal["hub"] = "hub"
    repo: str = "RUC-NLPIR/FlashRAG_datasets"
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    """The commit to read: a branch name would not be reproducible."""
    train_split: dict[Dataset, str] = Field({"nq": "train", "hotpotqa": "train"})
    """Data set -> split for training, profiling and validation."""
    test_split: dict[Dataset, str] = Field({
        "nq": "test", "triviaqa": "test", "popqa": "test", "bamboogle": "test",
        "hotpotqa": "dev", "2wikimultihopqa": "dev", "musique": "dev",
    })  # fmt: skip
    """Data set -> split for the test sets."""


Source = Annotated[SandboxSource | FilesSource | HubSource, Field(discriminator="kind")]


class Sizes(Section):
    """How many questions a split holds, per data set it draws on."""

    train: PositiveInt
    profiling: PositiveInt
    validation: PositiveInt
    test: PositiveInt
    """At most so many per test set; a smaller set is used whole."""


class IngestParams(Section):
    """Which questions, and how they are split."""

    seed: int = 7
    source: Source
    train_on: tuple[Dataset, ...] = ("nq", "hotpotqa")
    """Data sets that train, profiling and validation are drawn from."""
    sizes: Sizes
