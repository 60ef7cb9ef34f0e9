"""`pointsman diff` and `pointsman records`: revisions become folders, and exit codes come through."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.dvc import environment, export_run
from stages.shared.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[3]
MAKE = """
import shutil
shutil.copytree("made", "artifacts/evaluate")
"""


@pytest.fixture
def evaluated(repository, tmp_path: Path) -> Path:  # type: ignore[no-untyped-def]
    """A repository one commit of which holds a finished evaluation in DVC's cache; the folder itself has none."""
    root: Path = repository.root
    (root / "made").mkdir()
    (root / "made" / "episodes.parquet").write_text("what was made")
    (root / "make.py").write_text(MAKE)
    (root / "dvc.yaml").write_text(
        f"stages: {{evaluate: {{cmd: {sys.executable} make.py, deps: [made], outs: [artifacts/evaluate]}}}}"
    )
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--quiet"], cwd=root, env=environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for arguments in (["add", "dvc.yaml", "dvc.lock", "params.yaml"], ["commit", "-q", "-m", "A run"]):
        subprocess.run(["git", "-C", str(root), *arguments], check=True)
    shutil.rmtree(root / "artifacts")
    return root


def test_a_revision_is_restored_from_git_and_from_dvcs_cache(evaluated: Path, tmp_path: Path) -> None:
    export_run(evaluated, "HEAD", tmp_path / "run")
    assert (tmp_path / "run/artifacts/evaluate/episodes.parquet").read_text() == "what was made"
    assert (tmp_path / "run/params.yaml").read_text() == (evaluated / "params.yaml").read_text()
    assert (tmp_path / "run/dvc.lock").is_file()
    assert not (evaluated / "artifacts").exists()


@pytest.mark.parametrize("name", ["nowhere", "--all"])
def test_what_is_neither_a_folder_nor_a_revision_is_said_so(evaluated: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="neither a folder nor a git revision"):
        export_run(evaluated, name, tmp_path / "run")


def test_a_revision_whose_artifacts_are_gone_says_how_to_have_them(evaluated: Path, tmp_path: Path) -> None:
    shutil.rmtree(evaluated / ".dvc" / "cache")
    with pytest.raises(ConfigurationError, match=r"HEAD: its evaluation is not to be had .*run `pointsman run` there"):
        export_run(evaluated, "HEAD", tmp_path / "run")


def test_an_exit_code_of_the_comparison_comes_through(repository) -> None:  # type: ignore[no-untyped-def]
    done = repository.pointsman("diff", ".", ".")
    assert done.returncode == 2
    assert "no artifacts/evaluate/episodes.parquet there" in done.stderr
    both = repository.pointsman("diff", ".", "--json", "--markdown")
    assert (both.returncode, "give one of them" in both.stderr) == (2, True)
