"""The stage, as DVC runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from stages.ingest.__main__ import main
from stages.shared.artifacts import verify_manifest
from stages.shared.params import parse_params
from stages.shared.questions import SCHEMA, read_questions
from stages.shared.workspace import Workspace

ROOT = Path(__file__).resolve().parents[3]


def raw(source: dict[str, object]) -> dict[str, object]:
    return {
        "profile_name": "test",
        "world": {"entities": 60},
        "ingest": {
            "source": source, "train_on": ["nq"], "sizes": {"train": 12, "profiling": 4, "validation": 3, "test": 5},
        },
        "pool": {"kind": "api", "candidates": []},
        "profile": {"questions": 4},
        "episode": {},
        "train": {"policy": {"kind": "tiny"}, "ppo": {"steps": 1}},
    }  # fmt: skip


def test_writes_four_tables_in_verls_layout_with_a_manifest_and_metrics(tmp_path: Path) -> None:
    main(parse_params(raw({"kind": "sandbox"}), "test"), Workspace(tmp_path))

    folder = tmp_path / "artifacts" / "ingest"
    verify_manifest(folder, "pointsman/questions/1")
    sizes = {path.stem: len(read_questions(path)) for path in folder.glob("*.parquet")}
    assert sizes == {"train": 12, "profiling": 4, "validation": 3, "test": 35}
    assert pq.read_schema(folder / "train.parquet").equals(SCHEMA)
    metrics = json.loads((tmp_path / "metrics" / "ingest.json").read_text())
    assert metrics["questions"]["train"] == {"nq": 12}
    assert metrics["expectations_met"] == 4 * 14


def run(folder: Path, source: dict[str, object]) -> subprocess.CompletedProcess[str]:
    (folder / "params.yaml").write_text(yaml.safe_dump(raw(source)))
    return subprocess.run(
        [sys.executable, "-m", "stages.ingest"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "content, code, says",
    [
        (None, 2, "no such folder"),
        ("", 1, "no question of nq"),
        ('{"question": "a ?", "answer": "x"}\n{"question": "b ?"}\n', 1, "nq.jsonl, row 2"),
        ("".join(f'{{"question": "{n} abc ?", "answer": "x"}}\n' for n in range(6)), 2, "lower ingest.sizes"),
    ],
)
def test_bad_input_ends_with_one_message_and_leaves_nothing(
    tmp_path: Path, content: str | None, code: int, says: str
) -> None:
    if content is not None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "nq.jsonl").write_text(content)

    done = run(tmp_path, {"kind": "files", "folder": "data", "train": {"nq": "nq.jsonl"}, "test": {}})

    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "artifacts").exists()
    assert not (tmp_path / "metrics").exists()
