"""Which layout a folder of records has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stages.evaluate.tables.llmrouter import read_llmrouter
from stages.evaluate.tables.llmrouterbench import PATTERN, read_llmrouterbench
from stages.evaluate.tables.routerbench import read_routerbench
from stages.evaluate.tables.routereval import read_routereval
from stages.evaluate.tables.table import RecordTable
from stages.shared.errors import ConfigurationError

LARGEST = 1 << 32
"""Bytes of one file."""
PICKLES = (".pkl", ".pickle")
CONVERT = (
    "RouterBench: pandas.read_pickle(path).to_parquet(...); RouterEval: numpy.savez(out, train_embed=..., "
    "train_score=..., test_embed=..., test_score=...)"
)


def read_records_folder(folder: Path, seed: int, without: Sequence[str] = ()) -> RecordTable:
    """Read a folder in the layout that its files show. Raises ConfigurationError for a folder of no known layout."""
    if not folder.is_dir():
        raise ConfigurationError(f"{folder}: no such folder")
    for path in folder.rglob("*"):
        if path.stat().st_size > LARGEST:
            raise ConfigurationError(f"{path}: more than {LARGEST:,} bytes, the limit of a file of records; split it")
    if (folder / "train.json").is_file():
        return read_llmrouter(folder, without)
    if any(folder.glob(PATTERN)):
        return read_llmrouterbench(folder, seed)
    wide = [*sorted(folder.glob("*.csv")), *sorted(folder.glob("*.parquet"))]
    arrays = sorted(folder.glob("*.npz"))
    if len(wide) + len(arrays) == 1:
        return read_routerbench(wide[0], seed) if wide else read_routereval(arrays[0])
    if any(path.suffix in PICKLES for path in folder.iterdir()):
        raise ConfigurationError(
            f"{folder} holds pickles, which can run code when they are read, so they are not; where you trust them, "
            f"convert them yourself ({CONVERT})"
        )
    raise ConfigurationError(
        f"{folder}: no records in a known layout; it wants train.json, test.json and default_llm.json (LLMRouter), "
        "DATASET/SPLIT/MODEL/*.json (LLMRouterBench), or one .csv, .parquet (RouterBench) or .npz (RouterEval)"
    )
