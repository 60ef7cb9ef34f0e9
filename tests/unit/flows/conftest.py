"""A small repository with real git and real DVC, whose stages do what a test tells them to."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from flows.dvc import environment

ROOT = Path(__file__).resolve().parents[3]
FIRST = """
from stages.shared.entry import run_stage

def main(params, workspace):
    folder = workspace.artifacts("first")
    folder.mkdir(parents=True)
    (folder / "text").write_text(str(params.ingest.sizes.train))

if __name__ == "__main__":
    raise SystemExit(run_stage("first", main))
"""
SECOND = """
import shutil
from pathlib import Path
shutil.copytree("artifacts/first", "artifacts/second")
"""


@dataclass(frozen=True)
class Repository:
    """A pipeline of two stages, first and second."""

    root: Path

    def write(self, stage: str, code: str) -> None:
        """Replace what a stage does."""
        (self.root / f"{stage}.py").write_text(code)

    def set_train_size(self, size: int) -> None:
        """Change one parameter that `first` reads."""
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        params["ingest"]["sizes"]["train"] = size
        path.write_text(yaml.safe_dump(params))

    def pointsman(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line in this repository."""
        command = [sys.executable, "-m", "flows.cli", *arguments]
        env = environment() | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        return subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def never_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh repository to copy: to initialise one takes longer than most tests."""
    root = tmp_path_factory.mktemp("never-run")
    stages = {
        "first": {
            "cmd": "python first.py",
            "deps": ["first.py"],
            "params": ["ingest"],
            "outs": ["artifacts/first"],
        },
        "second": {
            "cmd": "python second.py",
            "deps": ["second.py", "artifacts/first"],
            "outs": ["artifacts/second"],
        },
    }
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    (root / "params.yaml").write_bytes((ROOT / "infra" / "profiles" / "smoke.yaml").read_bytes())
    (root / ".gitignore").write_text("artifacts/\n.pointsman/\n")
    for command in ("git init -q", f"{sys.executable} -m dvc init -q"):
        subprocess.run(command.split(), cwd=root, check=True)
    Repository(root).write("first", FIRST)
    Repository(root).write("second", SECOND)
    return root


@pytest.fixture
def repository(never_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A fresh one, never run."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shutil.copytree(never_run, tmp_path, dirs_exist_ok=True)
    return Repository(tmp_path)
