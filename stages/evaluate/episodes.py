"""artifacts/evaluate/episodes.parquet: every question as every method answered it, transcript included."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.evaluate.attempt import PoolName, Result
from stages.shared.files import atomic_path

CHUNK = 16_384
"""Rows of a row group, and held as Python objects at a time."""
SCHEMA = pa.schema(
    [
        ("method", pa.string()),
        ("pool", pa.string()),
        ("dataset", pa.string()),
        ("question_id", pa.string()),
        ("question", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("topic", pa.string()),
        ("hops", pa.int64()),
        ("prediction", pa.string()),
        ("em", pa.float64()),
        ("f1", pa.float64()),
        ("cost", pa.float64()),
        ("cost_total", pa.float64()),
        ("calls", pa.int64()),
        ("called", pa.list_(pa.string())),
        ("prompt_tokens", pa.list_(pa.int64())),
        ("completion_tokens", pa.list_(pa.int64())),
        ("latency_s", pa.float64()),
        ("own_cost", pa.float64()),
        ("own_tokens", pa.int64()),
        ("own_read", pa.int64()),
        ("reply", pa.string()),
        ("reply_em", pa.float64()),
        ("reply_f1", pa.float64()),
        ("reply_holds", pa.float64()),
        ("faults", pa.list_(pa.string())),
        ("transcript", pa.string()),
    ]
)
"""Costs are millionths of a dollar; `own_*` is what the policy itself wrote, read and cost; `called` names the
candidate behind each call, in order, and `prompt_tokens` and `completion_tokens` are of these calls; `latency_s` is
seconds of the calls, one after the other; `reply` is the one that was answered from, whole, with its own marks, null of
methods that take no single one."""
Entry = tuple[str, PoolName]
"""A method, and the pool that it played with."""


class Episodes:
    """The table as it grows on disk, in a file without a name: a process that is killed leaves nothing behind.

    Row groups have `CHUNK` rows, however many come at a time.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._writer = file, _writer(file)
        self._waiting: list[pa.Table] = []
        self._count = 0

    def add(self, results: Sequence[Result]) -> None:
        """More rows."""
        self._waiting.append(table(results))
        self._count += len(results)
        while self._count >= CHUNK:
            self._write(CHUNK)

    def save(self, path: Path, without: Collection[Entry] = ()) -> None:
        """Write what there is, atomically, less what was played by some; no rows may come after."""
        while self._count:
            self._write(min(CHUNK, self._count))
        self._writer.close()
        self._file.seek(0)
        with atomic_path(path) as part, part.open("wb") as copy:
            if without:
                self._copy_less(copy, without)
            else:
                shutil.copyfileobj(self._file, copy)

    def _write(self, rows: int) -> None:
        whole = pa.concat_tables(self._waiting)
        self._writer.write_table(whole.slice(0, rows).combine_chunks())
        self._count -= rows
        self._waiting = [whole.slice(rows)] if self._count else []

    def _copy_less(self, copy: IO[bytes], without: Collection[Entry]) -> None:
        gone = pa.array([f"{method} {pool}" for method, pool in without])
        with _writer(copy) as writer:
            for batch in pq.ParquetFile(self._file).iter_batches(CHUNK):
                names = pc.binary_join_element_wise(batch["method"], batch["pool"], " ")
                kept = batch.filter(pc.invert(pc.is_in(names, value_set=gone)))
                if kept.num_rows:
                    writer.write_batch(kept)


@contextmanager
def growing(folder: Path) -> Iterator[Episodes]:
    """A table without rows, which takes its space in a folder until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder) as file:
        yield Episodes(file)


def write_episodes(path: Path, results: Iterable[Result]) -> None:
    """Write the table, atomically; the transcripts of one call that several methods chose compress away."""
    rows = iter(results)
    with growing(path.parent) as episodes:
        while chunk := list(islice(rows, CHUNK)):
            episodes.add(chunk)
        episodes.save(path)


def table(results: Sequence[Result]) -> pa.Table:
    """A row a result."""
    return pa.Table.from_pylist([_row(result) for result in results], schema=SCHEMA)


def _writer(file: IO[bytes]) -> pq.ParquetWriter:
    return pq.ParquetWriter(file, SCHEMA, compression="zstd")


def _row(result: Result) -> dict[str, object]:
    question, marks = result.question, result.reply_marks
    return {
        "method": result.method, "pool": result.pool, "dataset": question.dataset, "question_id": question.id,
        "question": question.question, "answers": list(question.answers), "topic": question.topic,
        "hops": question.hops,
        "prediction": result.prediction, "em": result.em, "f1": result.f1, "cost": result.cost,
        "cost_total": result.cost_total, "calls": result.calls, "called": list(result.called),
        "prompt_tokens": [count for count, _ in result.tokens],
        "completion_tokens": [count for _, count in result.tokens],
        "latency_s": result.latency_s,
        "own_cost": result.own_cost, "own_tokens": result.own_tokens, "own_read": result.own_read,
        "reply": result.reply, "reply_em": marks and marks.em, "reply_f1": marks and marks.f1,
        "reply_holds": marks and marks.holds,
        "faults": list(result.faults), "transcript": result.transcript,
    }  # fmt: skip
