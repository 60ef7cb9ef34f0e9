"""Promotion and rollback as flows, approved by a person, on a real Prefect server."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import journal
from stages.publish.channels import read_history, read_position
from stages.publish.folder import FolderStore
from stages.publish.manifest import FileEntry, Manifest
from stages.publish.release import Release, publish

ROOT = Path(__file__).resolve().parents[3]
YES = {"approve": True, "by": "grace", "reason": "looks good"}
TAG = "release/production/000001"
pytestmark = pytest.mark.slow


class Prefect:
    """Flow runs in processes of their own, on a server."""

    def __init__(self, server: Any) -> None:
        self.env = server.env
        self.call = server.call

    def run(self, root: Path, call: str, **answer: Any) -> tuple[int, str]:
        """Run a flow, `call` as in `promote('latest', 'production')`, and answer; its exit code and what it says.

        An answer without a name is given first, and refused.
        """
        code = f"from flows.promote import promote, rollback; import json; print('came back', json.dumps({call}))"
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = subprocess.Popen([sys.executable, "-c", code], cwd=root, env=self.env, text=True, **pipes)
        try:
            waiting = self.paused()
            assert self.answer(waiting, **{**YES, "by": ""})["status"] == "REJECT"
            self.accepted(waiting, **{**YES, **answer})
            said, _ = process.communicate(timeout=120)
        finally:
            process.kill()
        return process.returncode, said

    def paused(self) -> str:
        """The id of the flow run that waits for an answer."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            waiting = self.call("/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}})
            if waiting:
                return str(waiting[0]["id"])
            time.sleep(0.3)
        raise AssertionError("no flow run waits for an answer")

    def accepted(self, run: str, **values: Any) -> None:
        """Give an answer until it is taken: a run that has just paused has not yet said what it asks for."""
        deadline = time.monotonic() + 30
        while self.answer(run, **values)["status"] != "ACCEPT":
            assert time.monotonic() < deadline, "the answer was not taken"
            time.sleep(0.2)

    def answer(self, run: str, **values: Any) -> dict[str, Any]:
        """Give the answer that a person gives in the UI."""
        return dict(self.call(f"/flow_runs/{run}/resume", {"run_input": values}))


@pytest.fixture
def prefect(running_server: Any) -> Prefect:
    return Prefect(running_server)


@pytest.fixture
def store(repository: Any) -> FolderStore:
    """A repository whose releases go to a folder, and whose production wants an EM of 0.4."""
    path = repository.root / "params.yaml"
    params = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**params, "publish": {"folder": "store"}}))
    production = {"gates": [{"metric": "em", "at_least": 0.4}]}
    (repository.root / "infra").mkdir()
    (repository.root / "infra" / "gates.yaml").write_text(
        yaml.safe_dump({"channels": {"production": production}, "other": {}})
    )
    return FolderStore(repository.root / "store")


def a_release(store: FolderStore, em: float) -> str:
    metrics = {"methods": {"router": {"average": {"em": em}}}}
    contents = {"metrics/evaluate.json": json.dumps(metrics).encode(), "params.json": b"{}"}
    files = {
        name: FileEntry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data)) for name, data in contents.items()
    }
    release = Release(Manifest(synthetic=True, files=files), contents)
    publish(release, store)
    return release.manifest.digest


def test_what_is_approved_is_promoted_in_the_approver_s_name_and_taken_back_the_same_way(
    prefect: Prefect, repository: Any, store: FolderStore
) -> None:
    first, second = a_release(store, 0.5), a_release(store, 0.6)
    for digest in (first, second):
        assert prefect.run(repository.root, f"promote({digest!r}, 'production')")[0] == 0
    assert prefect.run(repository.root, "rollback('production')", reason="worse")[0] == 0
    history = read_history(store, "production")
    assert [event.digest for event in history] == [first, second, first]
    assert {event.actor for event in history} == {"grace"}
    assert history[-1].reason == "worse"
    assert list(journal.read(repository.root)) == [f"release/production/00000{number}" for number in (1, 2, 3)]
    (told,) = prefect.call("/artifacts/latest/filter", {"artifacts": {"key": {"any_": ["promotion"]}}})
    assert "passes every gate" in told["data"]


def test_a_move_at_the_command_line_is_journalled_and_verify_repairs_the_journal(
    repository: Any, store: FolderStore
) -> None:
    a_release(store, 0.5)
    done = repository.pointsman("promote", "latest", "--to", "production", "--reason", "first")
    assert (done.returncode, list(journal.read(repository.root))) == (0, [TAG]), done.stderr
    subprocess.run(["git", "tag", "-d", TAG], cwd=repository.root, check=True)
    done = repository.pointsman("verify")
    assert (done.returncode, list(journal.read(repository.root))) == (0, [TAG]), done.stderr
    assert f"the journal had no {TAG}; written now" in done.stdout


def test_what_is_declined_stays_where_it_was(prefect: Prefect, repository: Any, store: FolderStore) -> None:
    a_release(store, 0.5)
    code, said = prefect.run(repository.root, "promote('latest', 'production')", approve=False)
    assert (code, '"declined_by": "grace"' in said) == (0, True)
    assert read_position(store, "production").event is None


def test_a_failing_release_needs_an_override_in_the_answer(
    prefect: Prefect, repository: Any, store: FolderStore
) -> None:
    a_release(store, 0.1)
    code, said = prefect.run(repository.root, "promote('latest', 'production')")
    assert code != 0
    assert "may not go to production" in said
    assert read_position(store, "production").event is None
