"""The watch: drift marks the profile as stale, a retrain profiles again, and a release that was changed is told of."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from flows import drift
from flows.base import Base
from flows.dvc import environment
from flows.settings import changed
from flows.watch import examine, released, wrong
from flows.work_folder import WorkFolder
from stages.publish.folder import FolderStore
from stages.publish.manifest import FileEntry, Manifest
from stages.publish.release import Release, publish
from stages.shared.entry import FRESH
from stages.shared.params import load_params
from stages.shared.pool.client import HttpPool
from stages.shared.pool.serving import serve

ROOT = Path(__file__).resolve().parents[3]
QUESTIONS = [f"what is the anthem of {name} ?" for name in ("zumako", "hebiko", "gehabi", "nomuro")]


async def ask(params: Any, candidates: Any) -> list[dict[str, Any]]:
    async with HttpPool(candidates, params.pool.limits) as pool:
        calls = [(candidate.name, question) for candidate in candidates for question in QUESTIONS]
        replies = await asyncio.gather(*(pool.ask(*call) for call in calls))
    return [{"candidate": c, "question": q, "reply": r.text} for (c, q), r in zip(calls, replies, strict=True)]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the simulated experts of `smoke` answer."""
    folder, params = tmp_path_factory.mktemp("records"), load_params(ROOT / "infra/profiles/smoke.yaml")
    with serve(params.pool, params.world, folder) as candidates:
        rows = asyncio.run(ask(params, candidates))
    pq.write_table(pa.Table.from_pylist(rows), folder / "records.parquet")
    return folder / "records.parquet"


@pytest.fixture
def checkout(repository: Any, records: Path) -> Path:
    """With a profile, and releases in a folder."""
    root: Path = repository.root
    (root / "artifacts/profile").mkdir(parents=True)
    shutil.copy(records, root / "artifacts/profile")
    change(root, lambda params: params["publish"].update(folder="store"))
    return root


def change(root: Path, how: Any) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text())
    how(params)
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def remember_otherwise(root: Path) -> None:
    """The profile's Arlix answered otherwise than the one that is served."""
    path = root / "artifacts/profile/records.parquet"
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        row["reply"] = "once it was this" if row["candidate"] == "Arlix" else row["reply"]
    pq.write_table(pa.Table.from_pylist(rows), path)


def serve_release(root: Path) -> None:
    store = FolderStore(root / "store")
    data = json.dumps({"methods": {"router": {"average": {"em": 0.5}}}}).encode()
    entry = FileEntry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    publish(Release(Manifest(synthetic=True, files={"metrics/evaluate.json": entry}), {"metrics/evaluate.json": data}),
            store)  # fmt: skip
    (root / "infra").mkdir()
    (root / "infra/gates.yaml").write_text(yaml.safe_dump({"channels": {"production": {"gates": []}}, "other": {}}))
    command = [sys.executable, "-m", "flows.cli", "promote", "latest", "--to", "production", "--reason", "first"]
    subprocess.run(command, cwd=root, check=True, capture_output=True)


def test_candidates_that_are_as_they_were_take_the_mark_away(checkout: Path) -> None:
    drift.mark(checkout, ["Arlix"])
    found = examine(checkout, 4, 1.0, "production")
    assert (found["drifted"], found["renewed"], wrong(found)) == ([], None, [])
    assert found["findings"][-1]["state"] == "note"
    assert drift.with_mark(checkout, {}) == {}


def test_drift_makes_the_next_retrain_profile_again(checkout: Path) -> None:
    remember_otherwise(checkout)
    found = examine(checkout, 4, 0.5, "production")
    assert found["drifted"] == ["Arlix"]
    settings = drift.with_mark(checkout, {"ingest.seed": 8})
    assert settings == {"ingest.seed": 8, "profile.renewed": found["renewed"]}
    text = changed((checkout / "params.yaml").read_text(), settings, "params.yaml")
    assert yaml.safe_load(text)["profile"]["renewed"] == found["renewed"]


def test_another_drift_is_another_mark(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift.time, "time", iter([100, 200, 300]).__next__)
    assert [drift.mark(checkout, names) for names in (["a"], ["a"], ["a", "b"])] == [100, 100, 200]


def test_replies_from_before_a_drift_are_not_replayed(tmp_path: Path) -> None:
    base = Base("main", "main", "0" * 40, None)
    plain = WorkFolder(tmp_path, tmp_path, base, {}, "b", False).environment
    marked = WorkFolder(tmp_path, tmp_path, base, {"profile.renewed": 7}, "b", False).environment
    assert (FRESH in plain, marked[FRESH]) == (False, "7")


def test_a_release_that_was_changed_where_it_is_stored_is_told_of(checkout: Path) -> None:
    serve_release(checkout)
    assert released(checkout, "production").state == "good"
    stored = [path for path in (checkout / "store").rglob("*") if path.is_file()]
    blob = next(path for path in stored if b'"em": 0.5' in path.read_bytes())
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes().replace(b"0.5", b"0.9"))
    assert released(checkout, "production").state == "wrong"


@pytest.mark.slow
def test_each_finding_is_told_in_words_that_any_terminal_can_show(checkout: Path) -> None:
    command = [sys.executable, "-m", "flows.cli", "watch"]
    env = environment() | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, check=False)
    marks = {line.split()[0] for line in done.stdout.splitlines()}
    assert "ok" in marks, done.stderr
    assert marks <= {"ok", "note", "WRONG"}
    assert "?" not in done.stdout


def test_a_watch_that_finds_something_fails_and_leaves_an_artifact(prefect_server: Any, checkout: Path) -> None:
    remember_otherwise(checkout)
    code = "from flows.watch import watch; watch(questions=4)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=checkout, env=prefect_server.env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Arlix: 0 of 4 answers are the profile's" in done.stderr
    (told,) = prefect_server.call("/artifacts/latest/filter", {"artifacts": {"key": {"any_": ["watch"]}}})
    assert told["description"] == "Drifted: Arlix"


@pytest.mark.slow
def test_the_watch_is_deployed_for_every_night_and_switched_off(deployed_server: Any) -> None:
    made = deployed_server.deployment("watch")
    assert made["entrypoint"] == "flows/watch.py:watch"
    assert [(item["schedule"]["cron"], item["active"]) for item in made["schedules"]] == [("0 2 * * *", False)]
