"""`pointsman diff`, `seeds` and `records`: names become folders of runs, and exit codes come through."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import dvc, evaluations, experiments
from flows.dvc import environment, export_run, git
from flows.evaluations import locate, pooled
from flows.sweep import Point, Sweep
from stages.evaluate.attempt import Result
from stages.evaluate.episodes import write_episodes
from stages.evaluate.own import Own
from stages.shared.artifacts import write_manifest
from stages.shared.errors import ConfigurationError
from stages.shared.files import write_json
from stages.shared.questions import Question

ROOT = Path(__file__).resolve().parents[3]
MAKE = """
import shutil
shutil.copytree("made", "artifacts/evaluate")
"""
QUESTIONS = [Question(f"question {number} ?", (f"answer {number}",), "nq", "test", "stone") for number in range(8)]


@dataclass(frozen=True)
class Evaluated:
    """A repository whose last two commits each hold a finished evaluation in DVC's cache; the folder has none."""

    root: Path
    commits: tuple[str, ...]
    """The earlier one, with seed 7 and 4 of 8 right, and the later one, with seed 8 and 6 right."""


def episode(number: int, right: int, method: str) -> Result:
    question, won = QUESTIONS[number], number < right
    return Result(
        question, question.answers[0] if won else "wrong", 2.0, 2.0, ("Arlix",), Own(), Own(), (), "", 0.1, method,
        "seen", float(won), float(won),
    )  # fmt: skip


def evaluate(root: Path, seed: int, right: int) -> str:
    """One run with its commit."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["train"]["seed"] = seed
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    results = [episode(number, right, method) for method in ("router", "random") for number in range(len(QUESTIONS))]
    write_episodes(root / "made" / "episodes.parquet", results)
    write_manifest(root / "made", "pointsman/evaluate/1")
    write_json(root / "metrics" / "evaluate.json", {"right": right})
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--quiet"], cwd=root, env=environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for arguments in (["add", "dvc.yaml", "dvc.lock", "params.yaml", "metrics"], ["commit", "-q", "-m", "A run"]):
        subprocess.run(["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True)
    return (git(root, "rev-parse", "HEAD") or "").strip()


@pytest.fixture(scope="module")
def runs(never_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    root = tmp_path_factory.mktemp("evaluated")
    shutil.copytree(never_run, root, dirs_exist_ok=True)
    (root / "make.py").write_text(MAKE)
    stages = {"evaluate": {"cmd": f"{sys.executable} make.py", "deps": ["made"], "outs": ["artifacts/evaluate"]}}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    commits = evaluate(root, 7, 4), evaluate(root, 8, 6)
    shutil.rmtree(root / "artifacts")
    (root / "metrics" / "evaluate.json").write_text("{}")
    return Evaluated(root, commits)


def test_a_revision_is_restored_from_git_and_from_dvcs_cache(runs: Evaluated, tmp_path: Path) -> None:
    export_run(runs.root, "HEAD", tmp_path / "run")
    made = runs.root / "made" / "episodes.parquet"
    assert (tmp_path / "run/artifacts/evaluate/episodes.parquet").read_bytes() == made.read_bytes()
    assert (tmp_path / "run/params.yaml").read_text() == (runs.root / "params.yaml").read_text()
    assert (tmp_path / "run/dvc.lock").is_file()
    assert not (runs.root / "artifacts").exists()


@pytest.mark.parametrize("name", ["nowhere", "--all"])
def test_what_is_neither_a_folder_nor_a_revision_is_said_so(runs: Evaluated, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="neither a folder nor a git revision"):
        export_run(runs.root, name, tmp_path / "run")


def test_a_revision_whose_artifacts_are_gone_says_how_to_have_them(runs: Evaluated, tmp_path: Path) -> None:
    shutil.copytree(runs.root, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / ".dvc" / "cache")
    with pytest.raises(ConfigurationError, match=r"HEAD: its evaluation is not to be had .*run `pointsman run` there"):
        export_run(tmp_path / "copy", "HEAD", tmp_path / "run")


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The revisions that are asked for; what DVC does with one is tested above, and takes seconds."""
    asked: list[str] = []
    monkeypatch.setattr(dvc, "export_run", lambda root, revision, folder: asked.append(revision))
    return asked


@pytest.fixture
def serving(runs: Evaluated, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets any name be that of a release, made from the run with so many right."""
    monkeypatch.chdir(runs.root)

    def serve(right: int) -> None:
        found = hashlib.sha256(write_of({"right": right}, runs.root / ".pointsman" / "x.json")).hexdigest()
        files = {"metrics/evaluate.json": {"sha256": found, "bytes": 1}}
        monkeypatch.setattr(evaluations, "manage", lambda root, command, name: {"digest": "d" * 64, "files": files})

    return serve


def write_of(value: Any, path: Path) -> bytes:
    """As a stage writes it."""
    write_json(path, value)
    return path.read_bytes()


def test_a_release_stands_for_the_run_that_it_was_made_from(
    serving: Callable[[int], None], runs: Evaluated, tmp_path: Path, exported: list[str]
) -> None:
    for right in (4, 6):
        serving(right)
        assert locate("production", tmp_path / "run") == tmp_path / "run"
    assert exported == [*runs.commits]


def test_a_release_made_from_what_lies_here_needs_no_commit(
    serving: Callable[[int], None], runs: Evaluated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(runs.root, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    serving(5)
    write_json(tmp_path / "copy" / "metrics" / "evaluate.json", {"right": 5})
    monkeypatch.chdir(tmp_path / "copy")
    assert locate("release:production", tmp_path / "run") == tmp_path / "copy"


def test_a_release_made_from_a_run_that_is_not_here_says_what_to_fetch(
    serving: Callable[[int], None], tmp_path: Path
) -> None:
    serving(3)
    with pytest.raises(ConfigurationError, match=r"release dddddddddddddddd, and no commit .* fetch the branch"):
        locate("latest", tmp_path / "run")


def test_a_name_that_git_knows_is_a_revision_unless_it_is_said_to_be_a_release(
    serving: Callable[[int], None], runs: Evaluated, tmp_path: Path, exported: list[str]
) -> None:
    serving(4)
    branch = (git(runs.root, "branch", "--show-current") or "").strip()
    for name in (branch, f"release:{branch}"):
        locate(name, tmp_path / "run")
    assert exported == [branch, runs.commits[0]]


def test_what_is_no_release_either_is_told_with_the_stores_own_words(
    runs: Evaluated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def manage(root: Path, command: str, name: str) -> Any:
        raise ConfigurationError(f"the store holds no release {name}")

    monkeypatch.chdir(runs.root)
    monkeypatch.setattr(evaluations, "manage", manage)
    with pytest.raises(ConfigurationError, match=r"'nowhere' is neither .* nor a release: the store holds no release"):
        locate("nowhere", tmp_path / "run")


def lay_out(folder: Path, seed: int, right: int, **ppo: int) -> Path:
    """A run without git and DVC."""
    (folder / "artifacts" / "evaluate").mkdir(parents=True)
    results = [episode(number, right, "router") for number in range(len(QUESTIONS))]
    write_episodes(folder / "artifacts" / "evaluate" / "episodes.parquet", results)
    write_manifest(folder / "artifacts" / "evaluate", "pointsman/evaluate/1")
    (folder / "params.yaml").write_text(yaml.safe_dump({"train": {"seed": seed, "ppo": ppo}}))
    return folder


def test_seeds_of_a_sweep_are_pooled_over_questions_and_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one setting two seeds, of another one, which leaves nothing to pool. The mean is that of both, and the
    interval holds both seeds' figures."""
    points = [Point((("reward.cost_coefficient", "0"), ("train.seed", str(seed))), f"e{seed}") for seed in (7, 8)]
    alone = Point((("reward.cost_coefficient", "1"), ("train.seed", "7")), "other")
    right = {"commit 7": 4, "commit 8": 6}
    monkeypatch.setattr(experiments, "finished", lambda root, commit: {"e7": "commit 7", "e8": "commit 8"})
    monkeypatch.setattr(dvc, "export_run", lambda root, revision, folder: lay_out(
        folder, int(revision[-1]), right[revision]))  # fmt: skip
    found = Sweep(tmp_path, "HEAD", "evaluate", (*points, alone)).pools([*points, alone])
    assert list(found) == ["cost_coefficient=0"]
    router = found["cost_coefficient=0"]["methods"]["router"]
    assert (router["em"], router["by_run"]) == (0.625, [0.5, 0.75])
    assert router["low"] < 0.5
    assert router["high"] > 0.75


def test_runs_that_differ_in_more_than_seeds_are_not_pooled(tmp_path: Path) -> None:
    folders = {name: lay_out(tmp_path / name, 7, 4, steps=steps) for name, steps in (("one", 8), ("other", 9))}
    with pytest.raises(ConfigurationError, match=r"one and other differ in more than their seeds"):
        pooled(folders)


def test_two_revisions_are_compared_on_the_command_line(runs: Evaluated) -> None:
    command = [sys.executable, "-m", "flows.cli", "diff", *runs.commits, "--json"]
    env = environment() | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=runs.root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["methods"]["router"]["won"], found["methods"]["router"]["lost"]) == (2, 0)
    assert [(item["part"], item["key"]) for item in found["changes"]] == [("parameter", "train.seed")]


def test_an_exit_code_of_the_comparison_comes_through(repository) -> None:  # type: ignore[no-untyped-def]
    done = repository.pointsman("diff", ".", ".")
    assert done.returncode == 2
    assert "no artifacts/evaluate/episodes.parquet there" in done.stderr
    both = repository.pointsman("diff", ".", "--json", "--markdown")
    assert (both.returncode, "give one of them" in both.stderr) == (2, True)
