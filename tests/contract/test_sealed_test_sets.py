"""The test sets are sealed: only `evaluate` opens them, so nothing that selects a checkpoint has seen them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OTHERS = ("profile", "train", "publish", "shared")
"""Rooms that select or shape a checkpoint, or could hand one what they read."""
OPEN = {"train.parquet", "profiling.parquet", "validation.parquet", "records.parquet"}
"""The tables that they may name."""


def words(node: ast.AST) -> Iterator[str]:
    """Every text in a piece of code, docstrings aside; of an f-string, its fixed parts."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(each.body[0].value)
        for each in ast.walk(node)
        if isinstance(each, documented) and each.body and isinstance(each.body[0], ast.Expr)
    }
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and id(each) not in docstrings:
            yield each.value


def modules(room: str) -> list[tuple[Path, ast.Module]]:
    paths = sorted((ROOT / "stages" / room).rglob("*.py"))
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


@pytest.mark.parametrize("room", OTHERS)
def test_no_other_room_names_the_test_questions(room: str) -> None:
    """`ingest` writes the file; whoever else names it could read it."""
    for path in (ROOT / "stages" / room).rglob("*.py"):
        assert "test.parquet" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize("room", OTHERS)
def test_no_other_room_makes_up_the_name_of_a_table(room: str) -> None:
    """A name put together from parts, or a pattern, could be that of the test questions."""
    for path, module in modules(room):
        made = [word for word in words(module) if word.endswith(".parquet") and word not in OPEN]
        assert made == [], f"{path}: name the table in words"


@pytest.mark.parametrize("room", OTHERS)
def test_no_other_room_lists_what_ingest_wrote(room: str) -> None:
    """Going through a folder of questions would come upon the test questions."""
    for path, module in modules(room):
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".glob", ".rglob", ".iterdir")):
                assert "ingest" not in ast.unparse(node), f"{path}, line {node.lineno}"


def test_evaluate_itself_opens_them_in_one_place() -> None:
    naming = [path.name for path in (ROOT / "stages/evaluate").rglob("*.py") if "test.parquet" in path.read_text()]
    assert naming == ["sealed.py"]


def test_evaluate_leaves_nothing_that_training_reads() -> None:
    """The way back is closed too: no earlier stage names a folder or a metrics file of `evaluate`."""
    for room in ("ingest", "profile", "train"):
        for path, module in modules(room):
            assert not [word for word in words(module) if word in ("evaluate", "artifacts/evaluate")], path
