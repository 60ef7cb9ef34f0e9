"""The profile's records, as the baselines that learn from them read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.shared.errors import DataError
from stages.shared.pool.candidate import Outcome

COLUMNS = ["question", "candidate", "outcome", "contains", "cost"]


@dataclass(frozen=True)
class Record:
    """One profiling question asked of one candidate."""

    question: str
    candidate: str
    contains: bool
    """Whether the reply holds a gold answer."""
    cost: float
    """Millionths of a dollar."""
    failed: bool = False
    """Whether no reply was had."""


def read_records(path: Path) -> list[Record]:
    """Read the profile's table. Raises DataError when it is missing or lacks a column."""
    try:
        rows = pq.read_table(path, columns=COLUMNS).to_pylist()
    except (FileNotFoundError, pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not the profile's records ({error}); run the profile stage first") from error
    return [
        Record(
            row["question"], row["candidate"], bool(row["contains"]), row["cost"], Outcome(row["outcome"]).is_failure
        )
        for row in rows
    ]
