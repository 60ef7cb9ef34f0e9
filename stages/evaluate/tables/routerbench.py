"""RouterBench's wide layout: a row a question, with columns MODEL (score), MODEL|total_cost and MODEL|model_response.

github.com/withmartian/routerbench. Published as pickles of pandas, which can run code when they are read, so that a CSV
or parquet copy is wanted. Costs are dollars a question.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from stages.evaluate.tables.table import RecordTable, Rows, split
from stages.shared.errors import DataError

COST, REPLY = "|total_cost", "|model_response"
MILLION = 1e6


def read_routerbench(path: Path, seed: int) -> RecordTable:
    """Read one file. Raises DataError when it is not in this layout, naming the row that lacks a score or a cost."""
    try:
        table = pq.read_table(path) if path.suffix == ".parquet" else pcsv.read_csv(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is no table that can be read: {error}") from error
    names = [name.removesuffix(COST) for name in table.column_names if name.endswith(COST)]
    lacking = [name for name in ("prompt", *names) if name not in table.column_names]
    if lacking or not names:
        raise DataError(f"{path}: no column {', '.join(lacking) or 'MODEL' + COST}; is this RouterBench's wide table?")
    scores = np.stack([_numbers(path, table, name) for name in names], axis=1)
    costs = MILLION * np.stack([_numbers(path, table, name + COST) for name in names], axis=1)
    rows = Rows(tuple(map(str, table["prompt"].to_pylist())), scores, costs, replies=_replies(table, names))
    return split("RouterBench", names, "millionths of a dollar", rows, seed)


def _replies(table: pa.Table, names: list[str]) -> tuple[tuple[str, ...], ...] | None:
    """Where the table has them of every candidate; a reply that is missing is empty."""
    if any(name + REPLY not in table.column_names for name in names):
        return None
    columns = [table[name + REPLY].cast(pa.string()).fill_null("").to_pylist() for name in names]
    return tuple(zip(*columns, strict=True))


def _numbers(path: Path, table: pa.Table, name: str) -> np.ndarray:
    try:
        values: np.ndarray = table[name].cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}, column {name}: not numbers ({error})") from error
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise DataError(f"{path}, row {bad[0] + 1}, column {name}: no number; remove the row or fill it")
    return values
