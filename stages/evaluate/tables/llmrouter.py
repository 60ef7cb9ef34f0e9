"""LLMRouter's layout: train.json and test.json with a score a candidate, default_llm.json with prices.

github.com/ulab-uiuc/LLMRouter. It holds neither replies nor token counts, so that the cost of a question is the
candidate's price.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.evaluate.tables.table import RecordTable, Rows
from stages.shared.errors import DataError
from stages.shared.files import read_json, read_lines


def read_llmrouter(folder: Path, without: Sequence[str] = ()) -> RecordTable:
    """Read the folder, leaving out tasks by name. Raises DataError naming the file and entry that cannot be used."""
    prices = _json(folder / "default_llm.json")
    tasks = _tasks(folder) if without else {}
    train, test = ([row for row in _json(folder / f"{name}.json") if tasks.get(row["question"]) not in without]
                   for name in ("train", "test"))  # fmt: skip
    if not train or not test:
        raise DataError(f"{folder}: no questions to fit on or to test on")
    names = tuple(train[0]["scores"])
    unpriced = [name for name in names if "output_price" not in prices.get(name, {})]
    if unpriced:
        raise DataError(f"{folder / 'default_llm.json'}: no output_price of {', '.join(unpriced)}; add it")
    price = np.array([float(prices[name]["output_price"]) for name in names])
    return RecordTable(
        "LLMRouter", names, "USD per 1M output tokens", _rows(folder / "train.json", train, names, price),
        _rows(folder / "test.json", test, names, price), tuple(prices[name].get("feature") or name for name in names),
    )  # fmt: skip


def _rows(path: Path, rows: Sequence[dict[str, Any]], names: Sequence[str], price: np.ndarray) -> Rows:
    for number, row in enumerate(rows):
        missing = [name for name in names if name not in row["scores"]]
        if missing:
            raise DataError(f"{path}, entry {number}: no score of {', '.join(missing)}; remove the entry or add it")
    scores = np.array([[float(row["scores"][name]) for name in names] for row in rows])
    return Rows(tuple(row["question"] for row in rows), scores, np.tile(price, (len(rows), 1)))


def _tasks(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.glob("default_query_*.jsonl")):
        found.update({row["query"]: row["task_name"] for row in map(json.loads, read_lines(path))})
    if not found:
        raise DataError(f"{folder}: no default_query_*.jsonl, which name the tasks to leave out")
    return found


def _json(path: Path) -> Any:
    try:
        return read_json(path, 1 << 32)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no JSON that can be read: {error}") from error
