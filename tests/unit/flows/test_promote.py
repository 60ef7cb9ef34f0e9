"""Promotion and rollback as flows, approved by a person, on a real Prefect server."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import journal
from flows.promote import Approval, evidence_list, evidence_table, options, way_back
from stages.publish.channels import Event, read_history, read_position
from stages.publish.folder import FolderStore
from stages.publish.identity import identify
from stages.publish.manifest import FileEntry, Manifest
from stages.publish.release import Release, publish

YES = {"approve": True, "by": "grace", "reason": "looks good"}
FLOWS = """
import json, sys
import flows.promote as module
module.POLL_SECONDS = 0.2
for call in sys.argv[1:]:
    try:
        print("came back", json.dumps(eval(call, vars(module))), flush=True)
    except Exception as error:
        print("came back", repr(error), flush=True)
"""
pytestmark = pytest.mark.slow


class Person:
    """Answers flow runs that wait, as one does in the UI."""

    def __init__(self, server: Any) -> None:
        self.call = server.call
        self.met: set[str] = set()

    def answer(self, **values: Any) -> None:
        """Wait for the next run that asks, and answer it; an answer without a name is given first, and refused."""
        run = self._waiting()
        for nobody in ("", " "):
            assert self._give(run, **{**YES, "by": nobody})["status"] == "REJECT"
        deadline = time.monotonic() + 30
        while self._give(run, **{**YES, **values})["status"] != "ACCEPT":  # it has paused, and may not yet say for what
            assert time.monotonic() < deadline, "the answer was not taken"
            time.sleep(0.2)

    def _waiting(self) -> str:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            found = self.call("/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}})
            for run in found:
                if run["id"] not in self.met:
                    self.met.add(run["id"])
                    return str(run["id"])
            time.sleep(0.1)
        raise AssertionError("no flow run waits for an answer")

    def _give(self, run: str, **values: Any) -> dict[str, Any]:
        return dict(self.call(f"/flow_runs/{run}/resume", {"run_input": values}))


@dataclass(frozen=True)
class Run:
    """What a flow run came to, and what production stood at then."""

    said: str
    position: Event | None


@dataclass(frozen=True)
class Day:
    """A release manager's day: flow runs one after the other, each answered by a person."""

    root: Path
    store: FolderStore
    failing: Run
    declined: Run
    first: Run
    nowhere: Run
    second: Run
    back: Run


def gated(root: Path) -> FolderStore:
    """Let a repository's releases go to a folder, and its production want an EM of 0.4."""
    path = root / "params.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "publish": {"folder": "store"}}))
    production = {"gates": [{"metric": "em", "at_least": 0.4}]}
    (root / "infra").mkdir()
    (root / "infra" / "gates.yaml").write_text(yaml.safe_dump({"channels": {"production": production}, "other": {}}))
    return FolderStore(root / "store")


def a_release(store: FolderStore, em: float) -> str:
    metrics = {"methods": {"router": {"average": {"em": em}}}}
    contents = {"metrics/evaluate.json": json.dumps(metrics).encode(), "params.json": b"{}"}
    files = {
        name: FileEntry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data)) for name, data in contents.items()
    }
    release = Release(Manifest(synthetic=True, files=files), contents)
    publish(release, store)
    return release.manifest.digest


@pytest.fixture(scope="module")
def day(running_server: Any, never_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Day:
    """All in one process: to start one takes longer than a run."""
    root = tmp_path_factory.mktemp("day") / "repository"
    shutil.copytree(never_run, root)
    store = gated(root)
    bad, first, second = (a_release(store, em) for em in (0.1, 0.5, 0.6))
    answers: list[tuple[str, dict[str, Any] | None]] = [
        (f"promote({bad!r}, 'production')", {}), (f"promote({first!r}, 'production')", {"approve": False}),
        (f"promote({first!r}, 'production')", {}), ("rollback('production')", None),
        (f"promote({second!r}, 'production')", {}),
        ("rollback('production')", {"reason": "-worse"}),
    ]  # fmt: skip
    person, runs = Person(running_server), []
    command = [sys.executable, "-c", FLOWS, *(call for call, _ in answers)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, cwd=root, env=running_server.env, text=True, **pipes) as process:
        try:
            assert process.stdout is not None
            for _, answer in answers:
                if answer is not None:
                    person.answer(**answer)
                said = next(line for line in process.stdout if line.startswith("came back "))
                runs.append(Run(said, read_position(store, "production").event))
        finally:
            process.kill()
    return Day(root, store, *runs)


def test_what_is_approved_is_promoted_in_the_approver_s_name_and_taken_back_the_same_way(
    day: Day, running_server: Any
) -> None:
    history = read_history(day.store, "production")
    assert [day.first.position, day.second.position, day.back.position] == history
    first, second, third = history
    assert (first.digest, second.previous) == (third.digest, first.digest)
    assert [event.kind for event in history] == ["promotion", "promotion", "rollback"]
    assert {event.actor for event in history} == {"grace"}
    assert (first.reason, third.reason) == ("looks good", "-worse")
    prefix = f"release/{identify(day.store)}/production"
    assert list(journal.read(day.root)) == [f"{prefix}/00000{number}" for number in (1, 2, 3)]
    (told,) = running_server.call("/artifacts/latest/filter", {"artifacts": {"key": {"any_": ["promotion"]}}})
    assert "passes every gate" in told["data"]


def test_what_is_declined_stays_where_it_was(day: Day) -> None:
    assert '"declined_by": "grace"' in day.declined.said
    assert day.declined.position is None


def test_nobody_is_asked_for_a_rollback_that_leads_nowhere(day: Day) -> None:
    assert "no release to go back to" in day.nowhere.said
    assert day.nowhere.position == day.first.position


def test_an_approver_of_a_rollback_sees_from_what_to_what_and_why() -> None:
    event = {"digest": "b" * 64, "time": "2026-01-02", "actor": "ada", "reason": "", "override": "a *fire*"}
    text = way_back({"channel": "production", "digest": "a" * 64, "event": event})
    assert text.startswith(f"### production: back to {'a' * 16}\n")
    assert f"It serves `{'b' * 16}` since 2026-01-02, by ada: no reason given (override: a \\*fire\\*)." in text


EVIDENCE = {
    "digest": "a" * 64, "channel": "prodction", "serves": None, "passed": False, "note": "Did you mean production?",
    "evidence": [
        {"gate": "cost", "wanted": "at most 1", "found": "0", "passed": True},
        {"gate": "em", "wanted": "at least 1", "found": "0 | 0", "passed": False},
    ],
}  # fmt: skip


def test_the_verdict_on_a_gate_stands_first_and_what_fails_above() -> None:
    """Prefect's page cuts off the right of a wide table, and its form shows three lines of a list."""
    table, form = evidence_table(EVIDENCE).splitlines(), evidence_list(EVIDENCE).splitlines()
    assert table[-2:] == ["| **fails** | em | at least 1 | 0 \\| 0 |", "| passes | cost | at most 1 | 0 |"]
    assert form[-2:] == ["- **fails**: em: 0 \\| 0 (wanted: at least 1)", "- passes: cost: 0 (wanted: at most 1)"]
    assert "Did you mean production?" in table
    assert "Did you mean production?" in form


def test_a_failing_release_needs_an_override_in_the_answer(day: Day) -> None:
    assert "may not go to production" in day.failing.said
    assert day.failing.position is None


def test_an_override_is_of_what_was_seen_to_fail_alone() -> None:
    """Whoever fills the field in for a release that passes has not overridden what fails by the time of the move."""
    answer = Approval(approve=True, by="grace", reason="-", override="none needed")
    decided = ["--to=production", "--expect=3", "--reason=-"]
    seen = {"channel": "production", "sequence": 3}
    assert options({**seen, "passed": True}, answer) == decided
    assert options({**seen, "passed": False}, answer) == [*decided, "--override=none needed"]


def test_a_move_at_the_command_line_is_journalled_and_verify_repairs_the_journal(repository: Any) -> None:
    store = gated(repository.root)
    a_release(store, 0.5)
    done = repository.pointsman("promote", "latest", "--to", "production", "--reason", "-first")
    tag = f"release/{identify(store)}/production/000001"
    assert (done.returncode, list(journal.read(repository.root))) == (0, [tag]), done.stderr
    subprocess.run(["git", "tag", "-d", tag], cwd=repository.root, check=True)
    done = repository.pointsman("verify")
    assert (done.returncode, list(journal.read(repository.root))) == (0, [tag]), done.stderr
    assert f"the journal had no {tag}; written now" in done.stdout
