"""What every candidate replied to every profiling question: the teacher's source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.shared.errors import DataError
from stages.shared.pool.candidate import Outcome, Reply
from stages.shared.questions import question_id

COLUMNS = {
    "question": pa.string(), "candidate": pa.string(), "reply": pa.string(), "outcome": pa.string(),
    "prompt_tokens": pa.int64(), "completion_tokens": pa.int64(), "latency_s": pa.float64(),
}  # fmt: skip
"""Of artifacts/profile/records.parquet, those that a teacher needs."""


@dataclass(frozen=True)
class Record:
    """One recorded call: which candidate was asked what, and what came back."""

    candidate: str
    query: str
    reply: Reply


Records = Mapping[str, tuple[Record, ...]]
"""Recorded calls by `question_id` of what was asked: whole questions, and parts of multi-hop questions."""


def read_records(path: Path) -> Records:
    """Read the profile's records. Raises DataError when the file is missing or lacks a column."""
    try:
        rows = pq.read_table(path, columns=list(COLUMNS)).cast(pa.schema(list(COLUMNS.items()))).to_pylist()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; run the profile stage first (`pointsman run`)") from error
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, KeyError, ValueError, OSError) as error:
        raise DataError(f"{path} is not a table of profile records: {error}; run the profile stage again") from error
    return group(rows)


def group(rows: Iterable[Mapping[str, str | int | float]]) -> Records:
    """Records from rows with `COLUMNS`, one a question and candidate, without calls that the infrastructure failed."""
    found: dict[str, dict[str, Record]] = defaultdict(dict)
    for row in rows:
        outcome = Outcome(str(row["outcome"]))
        if not outcome.is_failure:
            record = _record(row, outcome)
            found[question_id(record.query)].setdefault(record.candidate, record)
    return {key: tuple(calls.values()) for key, calls in found.items()}


def _record(row: Mapping[str, str | int | float], outcome: Outcome) -> Record:
    reply = Reply(
        text=str(row["reply"]),
        outcome=outcome,
        prompt_tokens=int(row["prompt_tokens"]),
        completion_tokens=int(row["completion_tokens"]),
        latency_s=float(row["latency_s"]),
    )
    return Record(str(row["candidate"]), str(row["question"]), reply)
