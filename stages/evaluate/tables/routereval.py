"""RouterEval's layout: arrays train_embed, train_score, test_embed, test_score; neither prompts nor costs.

github.com/MilkThink-Lab/RouterEval, router_dataset. Published as pickles, which can run code when they are read, so
that a copy as .npz is wanted. Without prices every candidate costs the same.
"""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from stages.evaluate.tables.table import RecordTable, Rows
from stages.shared.errors import DataError

ARRAYS = ("train_embed", "train_score", "test_embed", "test_score")


def read_routereval(path: Path) -> RecordTable:
    """Read one file; `models`, where it is there, names the candidates. Raises DataError when an array is missing."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in (*ARRAYS, "models") if name in file}
    except (OSError, ValueError, BadZipFile) as error:
        raise DataError(f"{path} is no .npz that can be read without running code: {error}") from error
    missing = [name for name in ARRAYS if name not in arrays]
    if missing:
        raise DataError(f"{path}: no array {', '.join(missing)}; it needs {', '.join(ARRAYS)}")
    count = arrays["train_score"].shape[1]
    names = tuple(map(str, arrays.get("models", [f"model {place}" for place in range(count)])))
    train, test = (_rows(arrays[f"{part}_embed"], arrays[f"{part}_score"], part) for part in ("train", "test"))
    return RecordTable("RouterEval", names, "calls", train, test)


def _rows(vectors: np.ndarray, scores: np.ndarray, part: str) -> Rows:
    names = tuple(f"{part} {number}" for number in range(len(scores)))
    return Rows(names, scores.astype(float), np.ones(scores.shape), vectors)
