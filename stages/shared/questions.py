"""Questions with gold answers: the row that every stage reads, in verl's column layout."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

from stages.shared.errors import DataError
from stages.shared.files import atomic_path

CHUNK = 16_384
"""Rows held as Python objects at a time, beside the questions themselves."""
Split = Literal["train", "profiling", "validation", "test"]


@dataclass(frozen=True, slots=True)
class SubQuestion:
    """One hop of a multi-hop question, phrased on its own. `topic` as in `Question`."""

    question: str
    answers: tuple[str, ...]
    topic: str


@dataclass(frozen=True, slots=True)
class Question:
    """One question. `topic` names what a single-hop question is about; a multi-hop question has none ("")."""

    question: str
    answers: tuple[str, ...]
    dataset: str
    split: Split
    topic: str = ""
    hops: int = 1
    parts: tuple[SubQuestion, ...] = ()
    _id: str = field(default="", init=False, repr=False, compare=False)
    """Kept from the first look on: to normalise a text takes longer than most that is done with a question."""

    @property
    def id(self) -> str:
        """Hash of the normalised question: 16 hexadecimal digits."""
        if not self._id:
            object.__setattr__(self, "_id", question_id(self.question))
        return self._id

    @property
    def whole_topic(self) -> str:
        """The topic that it counts under when it is asked whole: its own, or that of its last part."""
        return self.topic or (self.parts[-1].topic if self.parts else "")


def question_id(text: str) -> str:
    """Digest of a question after normalisation, so that copies that differ in case, spaces or punctuation meet."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    words = re.sub(r"[^\w]+", " ", plain).split()
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:16]


_TARGET = pa.struct([("target", pa.list_(pa.string()))])
_PART = pa.struct([("question", pa.string()), ("answers", pa.list_(pa.string())), ("topic", pa.string())])
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("question", pa.string()),
        ("data_source", pa.string()),
        ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", _TARGET)])),
        ("extra_info", pa.struct([("split", pa.string()), ("index", pa.int64())])),
        ("topic", pa.string()),
        ("hops", pa.int64()),
        ("parts", pa.list_(_PART)),
    ]
)  # fmt: skip


def row(question: Question, index: int, prompt: str | None = None) -> dict[str, Any]:
    """The question as a verl row; `prompt` is the user message, the bare question where none is given."""
    return {
        "id": question.id,
        "question": question.question,
        "data_source": question.dataset,
        "prompt": [{"role": "user", "content": question.question if prompt is None else prompt}],
        "ability": "qa",
        "reward_model": {"style": "rule", "ground_truth": {"target": list(question.answers)}},
        "extra_info": {"split": question.split, "index": index},
        "topic": question.topic,
        "hops": question.hops,
        "parts": [{"question": p.question, "answers": list(p.answers), "topic": p.topic} for p in question.parts],
    }


def write_questions(path: Path, questions: Iterable[Question]) -> None:
    """Write one split as parquet (schema `SCHEMA`), atomically, a chunk of rows at a time."""
    rows = (row(question, index) for index, question in enumerate(questions))
    with atomic_path(path) as part, pq.ParquetWriter(part, SCHEMA) as writer:
        while chunk := list(islice(rows, CHUNK)):
            writer.write_table(pa.Table.from_pylist(chunk, schema=SCHEMA))


def read_questions(path: Path) -> list[Question]:
    """Read one split. Raises DataError when the file is missing or has another schema."""
    return list(iter_questions(path))


def iter_questions(path: Path) -> Iterator[Question]:
    """One split, a chunk of rows in memory at a time. Raises as `read_questions`, when it comes to it."""
    try:
        for batch in pa.dataset.dataset(path, schema=SCHEMA).to_batches(batch_size=CHUNK, batch_readahead=1):
            yield from map(from_row, batch.to_pylist())
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; run the ingest stage first (`pointsman run`)") from error
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        raise DataError(
            f"{path} is no table of questions: {error}; remove it and run the ingest stage again"
        ) from error


def from_row(item: dict[str, Any]) -> Question:
    """The inverse of `row`."""
    return Question(
        question=item["question"],
        answers=tuple(item["reward_model"]["ground_truth"]["target"]),
        dataset=item["data_source"],
        split=item["extra_info"]["split"],
        topic=item["topic"],
        hops=item["hops"],
        parts=tuple(SubQuestion(p["question"], tuple(p["answers"]), p["topic"]) for p in item["parts"]),
    )
