"""A step goes on in its folder while nothing that it reads changes; else it starts anew and says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stages.train.run_folder import changes, run_folder


def reads(rate: float = 1e-6) -> dict[str, Any]:
    return {"policy": "/runs/warm-start-" + 16 * "0", "train": {"seed": 7, "ppo": {"learning_rate": rate}}}


def test_the_same_reads_are_the_same_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions = tmp_path / "train.parquet"
    questions.write_text("one")
    first = run_folder(tmp_path / "runs", "ppo", reads(), [questions], ["stages/train/run_folder.py"])
    assert run_folder(tmp_path / "runs", "ppo", reads(), [questions], ["stages/train/run_folder.py"]) == first
    assert capsys.readouterr().err == ""
    questions.write_text("two")
    assert run_folder(tmp_path / "runs", "ppo", reads(), [questions], ["stages/train/run_folder.py"]) != first
    assert "train.parquet" in capsys.readouterr().err


def test_a_changed_key_starts_anew_and_is_named_with_both_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run_folder(tmp_path, "ppo", reads(), [], [])
    run_folder(tmp_path, "warm-start", reads(), [], [])
    assert run_folder(tmp_path, "ppo", reads(3e-4), [], []) != first
    told = capsys.readouterr().err
    assert f"ppo starts anew, {first.name} is left as it is" in told
    assert "train.ppo.learning_rate: 1e-06 -> 0.0003" in told
    assert "seed" not in told


def test_keys_that_came_or_went_are_changes_too() -> None:
    assert changes({"a": 1, "b": 2}, {"b": 2, "c": None}) == ["a: 1 -> null"]
    assert changes({"a": 1}, {"a": 1, "c": 3}) == ["c: null -> 3"]
