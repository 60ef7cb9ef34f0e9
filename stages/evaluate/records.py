"""The profile's records, as the baselines that learn from them read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.shared.errors import DataError
from stages.shared.pool.candidate import Outcome

COLUMNS = ["question", "candidate", "outcome", "contains", "cost", "reply"]


@dataclass(frozen=True)
class Record:
    """One profiling question asked of one candidate."""

    question: str
    candidate: str
    score: float
    """0 to 1; of the profile's, whether the reply holds a gold answer."""
    cost: float
    """Millionths of a dollar."""
    reply: str = ""
    failed: bool = False
    """Whether no reply was had."""


def read_records(path: Path) -> list[Record]:
    """Read the profile's table. Raises DataError when it is missing or lacks a column."""
    try:
        rows = pq.read_table(path, columns=COLUMNS).to_pylist()
    except (FileNotFoundError, pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not the profile's records ({error}); run the profile stage first") from error
    return [_record(row) for row in rows]


def _record(row: dict[str, Any]) -> Record:
    score = 0.0 if row["contains"] is None else float(row["contains"])
    failed = Outcome(row["outcome"]).is_failure
    return Record(row["question"], row["candidate"], score, row["cost"], row["reply"] or "", failed)
