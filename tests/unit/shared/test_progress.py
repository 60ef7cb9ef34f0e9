"""How far a stage is: lines for logs, a file for the flow."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.shared import progress
from stages.shared.progress import Progress, Snapshot, read_progress


def test_a_reading_is_left_for_the_flow(tmp_path: Path) -> None:
    with Progress("profile", total=10, unit="calls", root=tmp_path) as bar:
        assert read_progress("profile", tmp_path) == Snapshot(0, 10, "calls", "", 0.0)
        bar.advance(4, note="Arlix")
    left = read_progress("profile", tmp_path)
    assert left is not None
    assert (left.done, left.total, left.unit, left.note) == (4, 10, "calls", "Arlix")


def test_no_stage_no_reading(tmp_path: Path) -> None:
    assert read_progress("train", tmp_path) is None


def test_a_log_gets_few_lines_and_the_last_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("profile", total=1000, unit="calls", root=tmp_path) as bar:
        for _ in range(1000):
            bar.advance()
    assert capsys.readouterr().err == "profile: 1000/1000 calls, 0 s\n"


def test_a_log_hears_of_slow_work_in_between(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    with Progress("profile", total=2, unit="calls", root=tmp_path) as bar:
        bar.advance(note="Arlix")
    assert capsys.readouterr().err.splitlines()[0] == "profile: 1/2 calls, 0 s, Arlix"


def test_the_reading_survives_an_error_inside(tmp_path: Path) -> None:
    def work() -> None:
        with Progress("train", total=None, unit="steps", root=tmp_path) as bar:
            bar.advance(3)
            raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        work()
    left = read_progress("train", tmp_path)
    assert left is not None
    assert left.done == 3
