"""One finished evaluation, read back from its folder: parameters, episodes, and what its data were."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.shared.artifacts import verify_manifest
from stages.shared.errors import ConfigurationError, IntegrityError
from stages.shared.files import read_json, read_yaml

COLUMNS = (
    "method", "pool", "dataset", "question_id", "question", "answers", "prediction", "em", "cost", "called",
    "transcript",
)  # fmt: skip
TOKENS = "completion_tokens"
HASH, COUNTS = "DVC's hash", "metrics/ingest.json"
"""Kinds of knowledge about the question sets, the surer first."""


@dataclass(frozen=True)
class Episode:
    """One question as one method answered it."""

    dataset: str
    question_id: str
    question: str
    answers: tuple[str, ...]
    prediction: str
    em: float
    cost: float
    """Millionths of a dollar."""
    called: tuple[str, ...]
    transcript: str
    tokens: tuple[int, ...] = ()
    """Completion tokens of each call; none of a run that did not keep them."""


Episodes = Mapping[tuple[str, str], Episode]
"""(dataset, question id) -> episode."""


@dataclass(frozen=True)
class Run:
    """A run folder: params.yaml, metrics/ and artifacts/evaluate."""

    name: str
    params: Mapping[str, Any]
    methods: Mapping[str, Episodes]
    """With the seen pool."""
    data: Mapping[str, str]
    """What tells its question sets from others, by kind: as much as was kept."""


def read_run(folder: Path, name: str) -> Run:
    """Read and check a run.

    Raises ConfigurationError when the folder holds no finished evaluation, IntegrityError when a file of it is not what
    its manifest says, or a row of the episodes cannot be: the row is named.
    """
    ledger = folder / "artifacts" / "evaluate" / "episodes.parquet"
    missing = [path for path in (folder / "params.yaml", ledger) if not path.is_file()]
    if missing:
        raise ConfigurationError(
            f"{name}: no {missing[0].relative_to(folder)} there; give a git revision, or a folder of a finished run "
            "(params.yaml, metrics/, artifacts/evaluate)"
        )
    verify_manifest(ledger.parent)
    return Run(name, _mapping(folder / "params.yaml"), read_episodes(ledger), _data(folder))


def read_episodes(path: Path) -> dict[str, dict[tuple[str, str], Episode]]:
    """Method -> its episodes with the seen pool. Raises IntegrityError naming the row that cannot be."""
    try:
        kept = [name for name in (*COLUMNS, TOKENS) if name in COLUMNS or name in pq.read_schema(path).names]
        rows = pq.read_table(path, columns=kept, filters=[("pool", "==", "seen")]).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        raise IntegrityError(f"{path} is no ledger of episodes: {error}; evaluate again") from error
    found: dict[str, dict[tuple[str, str], Episode]] = {}
    for number, row in enumerate(rows):
        fault = _fault(row)
        group = found.setdefault(row["method"] or "", {})
        key = (row["dataset"], row["question_id"])
        if fault or key in group:
            raise IntegrityError(
                f"{path}: row {number} of the seen pool ({row['method']}, question {row['question_id']}): "
                f"{fault or 'the same question twice'}; evaluate again"
            )
        group[key] = _episode(row)
    return found


def _fault(row: Mapping[str, Any]) -> str:
    empty = [name for name in COLUMNS if row[name] is None]
    if empty:
        return f"no {empty[0]}"
    if not 0.0 <= row["em"] <= 1.0:
        return f"em is {row['em']}"
    return f"cost is {row['cost']}" if not math.isfinite(row["cost"]) or row["cost"] < 0 else ""


def _episode(row: Mapping[str, Any]) -> Episode:
    return Episode(
        row["dataset"], row["question_id"], row["question"], tuple(row["answers"]), row["prediction"], row["em"],
        row["cost"], tuple(row["called"]), row["transcript"], tuple(row.get(TOKENS) or ()),
    )  # fmt: skip


def _mapping(path: Path) -> Mapping[str, Any]:
    found = read_yaml(path)
    if not isinstance(found, dict):
        raise IntegrityError(f"{path} must hold a mapping of sections, found {type(found).__name__}")
    return found


def _data(folder: Path) -> dict[str, str]:
    lock, metrics = folder / "dvc.lock", folder / "metrics" / "ingest.json"
    outs = _mapping(lock).get("stages", {}).get("ingest", {}).get("outs", []) if lock.is_file() else []
    hashes = [str(out["md5"]) for out in outs if out.get("path") == "artifacts/ingest" and "md5" in out]
    found = {HASH: hashes[0]} if hashes else {}
    if metrics.is_file():
        try:
            found[COUNTS] = json.dumps(read_json(metrics), sort_keys=True)
        except ValueError as error:
            raise IntegrityError(f"{metrics} is not JSON: {error}") from error
    return found
