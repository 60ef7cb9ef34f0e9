"""What is said of question sources before a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from stages.ingest.check import questions
from stages.shared.params import Params, parse_params

ROOT = Path(__file__).resolve().parents[3]


def parameters(**source: object) -> Params:
    raw = yaml.safe_load((ROOT / "infra" / "profiles" / "local.yaml").read_text())
    raw["ingest"]["source"] = source
    return parse_params(raw, "test")


def files(folder: Path) -> Params:
    return parameters(kind="files", folder=str(folder), train={"nq": "train.jsonl"}, test={"nq": "test.jsonl"})


def test_files_that_are_there_are_counted(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text("{}\n")
    (finding,) = questions(files(tmp_path))
    assert finding.state == "good"
    assert finding.found.startswith("2 files")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}\n")
    (finding,) = questions(files(tmp_path))
    assert finding.state == "wrong"
    assert "test.jsonl" in finding.found


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    (finding,) = questions(files(tmp_path / "nowhere"))
    assert finding.state == "wrong"
    assert "ingest.source.folder" in finding.todo


def test_a_hub_that_may_not_be_asked_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (finding,) = questions(parameters(kind="hub", repo="nobody/nothing", revision="0" * 40))
    assert finding.state == "wrong"
    assert "HF_ENDPOINT" in finding.todo
