"""LLMRouterBench's layout: DATASET/SPLIT/MODEL/TIMESTAMP.json, each with a list of records.

github.com/ynulihao/LLMRouterBench, "Result File Structure". Costs are dollars a question.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stages.evaluate.tables.table import RecordTable, Rows, split
from stages.shared.errors import DataError
from stages.shared.files import read_json

PATTERN = "*/*/*/*.json"
MILLION = 1e6


def read_llmrouterbench(folder: Path, seed: int) -> RecordTable:
    """The newest file of every candidate and data set; questions that every candidate answered.

    Raises DataError naming a file that is not in this layout.
    """
    newest = {path.parent: path for path in sorted(folder.glob(PATTERN))}
    found: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
    for place, path in newest.items():
        dataset = f"{place.parent.parent.name}/{place.parent.name}"
        for record in _records(path):
            question = (dataset, record["origin_query"])
            found.setdefault(question, {})[place.name] = (float(record["score"]), MILLION * float(record["cost"]))
    names = sorted({name for row in found.values() for name in row})
    whole = {question: row for question, row in found.items() if len(row) == len(names)}
    if not whole:
        raise DataError(f"{folder}: no question that all of {', '.join(names)} answered; remove the partial ones")
    values = np.array([[row[name] for name in names] for row in whole.values()])
    rows = Rows(tuple(text for _, text in whole), values[:, :, 0], values[:, :, 1])
    return split("LLMRouterBench", names, "millionths of a dollar", rows, seed)


def _records(path: Path) -> list[dict[str, Any]]:
    try:
        records: list[dict[str, Any]] = read_json(path, 1 << 32)["records"]
        missing = [number for number, row in enumerate(records) if not {"origin_query", "score", "cost"} <= row.keys()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no result file of LLMRouterBench: {error!r}") from error
    if missing:
        raise DataError(f"{path}, record {missing[0]}: no origin_query, score or cost")
    return records
