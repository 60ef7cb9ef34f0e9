"""The whole pipeline, once, on the profile `smoke`: this checkout runs end to end, and then has nothing to do."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from flows.dvc import environment
from stages.shared.artifacts import MANIFEST, verify_manifest, write_manifest
from stages.shared.questions import read_questions

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("ingest", "profile", "train", "evaluate", "publish")
COPIED = ("flows", "stages", "infra", ".dvc/config", ".dvcignore", ".gitignore", "dvc.yaml", "pyproject.toml")
TEST = "test.parquet"
SCHEMA = "stages/shared/params"
"""Named whole by every stage, though it depends on its own sections only."""
LAUNCHER = "stages/shared/processes.py"
"""Ends what a stage started: of `flows.launch`, which starts every stage and changes no result."""
pytestmark = [pytest.mark.pipeline, pytest.mark.slow]


def copy_checkout(target: Path) -> None:
    """The code as it stands, without artifacts, caches and metrics."""
    for name in COPIED:
        source, place = ROOT / name, target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place)
    subprocess.run(["git", "init", "-q", str(target)], check=True)


def python(root: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A module run in a checkout whose code is its own."""
    env = environment() | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)


def pointsman(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command `pointsman`."""
    return python(root, "flows.cli", *arguments)


@contextmanager
def nothing_but(root: Path, declared: Sequence[str]) -> Iterator[None]:
    """Meanwhile the checkout holds no code, artifact and metrics file beside those declared."""
    files = [path for name in ("stages", "artifacts", "metrics") for path in (root / name).rglob("*") if path.is_file()]
    kept = [root / name for name in (*declared, SCHEMA, LAUNCHER)]
    hidden = [path for path in files if path.name != "__init__.py" and not any(map(path.is_relative_to, kept))]
    spare = root.with_name("hidden")
    move_all(hidden, root, spare)
    try:
        yield
    finally:
        move_all([spare / path.relative_to(root) for path in hidden], spare, root)


def move_all(paths: Sequence[Path], source: Path, target: Path) -> None:
    """Move files from below one folder to the same places below another."""
    for path in paths:
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which the smoke profile has run: each stage where there is nothing but what dvc.yaml says it reads.

    All but the last by DVC, one by one; the last by the flow, which finds those before it current.
    """
    root = tmp_path_factory.mktemp("smoke")
    copy_checkout(root)
    used = pointsman(root, "use", "smoke")
    assert used.returncode == 0, used.stderr
    for stage in STAGES[:-1]:
        with nothing_but(root, declared(root, stage)):
            done = python(root, "dvc", "repro", "--single-item", stage)
        assert done.returncode == 0, stage + done.stdout[-6000:] + done.stderr[-4000:]
    done = pointsman(root, "run")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-4000:]
    return root


def declared(root: Path, stage: str) -> list[str]:
    """What a stage reads, by dvc.yaml."""
    found: list[str] = yaml.safe_load((root / "dvc.yaml").read_text())["stages"][stage]["deps"]
    return found


def test_every_stage_leaves_metrics_and_a_folder_that_its_manifest_vouches_for(checkout: Path) -> None:
    for stage in STAGES:
        assert json.loads((checkout / "metrics" / f"{stage}.json").read_text())
        if stage != "publish":
            verify_manifest(checkout / "artifacts" / stage)


def test_no_two_splits_share_a_question(checkout: Path) -> None:
    splits = [read_questions(checkout / "artifacts/ingest" / f"{name}.parquet")
              for name in ("train", "profiling", "validation", "test")]  # fmt: skip
    ids = [{question.id for question in split} for split in splits]
    assert sum(map(len, ids)) == len(set().union(*ids))


def test_the_evaluation_covers_the_router_its_controls_and_all_seven_sets(checkout: Path) -> None:
    methods = json.loads((checkout / "metrics/evaluate.json").read_text())["methods"]
    assert {"router", "oracle", "random"} <= set(methods)
    assert len(methods["router"]) == 8
    assert methods["oracle"]["average"]["em"] >= methods["random"]["average"]["em"]


def test_the_policy_is_a_hugging_face_folder_and_the_report_stands_alone(checkout: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (checkout / "artifacts/train/policy" / name).is_file()
    report = (checkout / "artifacts/evaluate/report.html").read_text()
    assert "synthetic" in report.lower()
    assert 'src="http' not in report


def test_a_second_run_has_nothing_to_do_and_says_so_at_once(checkout: Path) -> None:
    start = time.monotonic()
    done = pointsman(checkout, "run")
    assert done.returncode == 0, done.stderr
    assert "Nothing to run" in done.stdout
    assert time.monotonic() - start < 30


def test_changing_how_a_release_is_published_retrains_nothing(checkout: Path) -> None:
    path = checkout / "params.yaml"
    before = path.read_text()
    try:
        path.write_text(before.replace("bucket: pointsman", "bucket: elsewhere"))
        plan = json.loads(pointsman(checkout, "plan", "--json").stdout)
    finally:
        path.write_text(before)
    assert [item["stage"] for item in plan if item["stale"]] == ["publish"]


def test_the_last_stage_too_runs_where_there_is_nothing_but_what_dvc_yaml_says_it_reads(checkout: Path) -> None:
    with nothing_but(checkout, declared(checkout, "publish")):
        done = python(checkout, "stages.publish")
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.skipif(not os.environ.get("POINTSMAN_TEST_FAULTS"), reason="trains a second time: make test-faults")
def test_training_ends_in_the_same_bits_where_there_are_no_test_questions(checkout: Path) -> None:
    """Validation and the choice of a checkpoint included: it cannot have read what is not there."""
    ingest, train = checkout / "artifacts/ingest", checkout / "artifacts/train"
    spare = checkout.with_name("sealed")
    before, kept = bits(train / "policy"), {name: (ingest / name).read_bytes() for name in (TEST, MANIFEST)}
    shutil.move(checkout / ".pointsman/runs/train", spare)  # a finished training is not done again
    try:
        (ingest / TEST).write_bytes(b"not one question")
        write_manifest(ingest, json.loads(kept[MANIFEST])["schema"])
        done = python(checkout, "stages.train")
        after = bits(train / "policy")
    finally:
        for name, data in kept.items():
            (ingest / name).write_bytes(data)
        shutil.rmtree(checkout / ".pointsman/runs/train", ignore_errors=True)
        shutil.move(spare, checkout / ".pointsman/runs/train")
    assert done.returncode == 0, done.stderr[-4000:]
    assert "model.safetensors" in before
    assert after == before


def bits(folder: Path) -> dict[str, str]:
    """Every file below a folder, with its SHA-256."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
