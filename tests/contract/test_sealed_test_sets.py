"""The test sets are sealed: only `evaluate` opens them."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OTHERS = ("profile", "train", "publish", "shared")


@pytest.mark.parametrize("room", OTHERS)
def test_no_other_room_names_the_test_questions(room: str) -> None:
    """`ingest` writes the file; whoever else names it could read it."""
    for path in (ROOT / "stages" / room).rglob("*.py"):
        assert "test.parquet" not in path.read_text(encoding="utf-8"), path


def test_evaluate_itself_opens_them_in_one_place() -> None:
    naming = [path.name for path in (ROOT / "stages/evaluate").rglob("*.py") if "test.parquet" in path.read_text()]
    assert naming == ["__main__.py"]
