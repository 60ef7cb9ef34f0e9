"""flows.dvc against real git and real DVC."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from flows import dvc
from stages.shared.errors import ConfigurationError, ConflictError, DataError, PipelineError, TransientError

FAILING = """
from stages.shared.entry import run_stage
from stages.shared.errors import {kind}

def main(params, workspace):
    raise {kind}("row 7 is odd; remove it")

raise SystemExit(run_stage("first", main))
"""
SLOW = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path("pids").write_text(str(child.pid))
time.sleep(60)
"""


def states(repository) -> dict[str, bool]:
    return {item.stage: item.stale for item in dvc.status(repository.root)}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


def test_a_stage_that_never_ran_is_stale_for_that_reason(repository) -> None:
    assert [item.reasons for item in dvc.status(repository.root)] == [("it has not run yet",)] * 2


def test_a_stage_runs_once_then_is_unchanged_then_is_restored_from_the_cache(repository) -> None:
    lines: list[str] = []
    assert dvc.repro(repository.root, "first", on_line=lines.append) == "ran"
    assert "> python first.py" in lines
    assert dvc.repro(repository.root, "first") == "unchanged"
    assert states(repository) == {"first": False, "second": True}
    subprocess.run(["rm", "-r", str(repository.root / "artifacts/first")], check=True)
    assert dvc.repro(repository.root, "first") == "restored"
    assert (repository.root / "artifacts/first/text").exists()
    assert dvc.repro(repository.root, "first", force=True) == "ran"


def test_a_changed_parameter_is_named_with_both_values(repository) -> None:
    dvc.repro(repository.root, "first")
    repository.set_train_size(49)
    assert dvc.status(repository.root)[0].reasons == ("ingest.sizes.train: 48 -> 49",)


def test_a_parameter_that_params_yaml_lacks_is_named_with_the_way_out(repository) -> None:
    (repository.root / "params.yaml").write_text("profile_name: mine\n")
    with pytest.raises(ConfigurationError, match=r"lacks ingest, which first depends on: .*`pointsman use NAME`"):
        dvc.repro(repository.root, "first")


def test_changed_code_and_changed_commands_are_named(repository) -> None:
    dvc.repro(repository.root, "first")
    repository.write("first", (repository.root / "first.py").read_text() + "# more\n")
    assert dvc.status(repository.root)[0].reasons == ("first.py is modified",)


def test_the_plan_passes_staleness_downstream(repository) -> None:
    for stage in ("first", "second"):
        dvc.repro(repository.root, stage)
    assert not any(item.stale for item in dvc.plan(repository.root))
    repository.set_train_size(49)
    second = dvc.plan(repository.root)[1]
    assert second.reasons == ("first runs first, and may change what it reads",)


def test_new_replies_make_the_evaluation_stale_and_what_follows_it(repository, monkeypatch: pytest.MonkeyPatch) -> None:
    for stage in ("first", "second"):
        dvc.repro(repository.root, stage)
    monkeypatch.setattr(dvc, "REPLAYING", "first")
    assert [item.reasons for item in dvc.plan(repository.root, fresh=True)] == [
        ("its candidates are to be asked again",), ("first runs first, and may change what it reads",),
    ]  # fmt: skip
    assert not any(item.stale for item in dvc.plan(repository.root))


@pytest.mark.parametrize("kind", [DataError, TransientError, ConfigurationError])
def test_a_failure_keeps_the_kind_and_the_message_that_the_stage_left(repository, kind) -> None:
    repository.write("first", FAILING.format(kind=kind.__name__))
    with pytest.raises(kind, match="first: row 7 is odd; remove it") as caught:
        dvc.repro(repository.root, "first")
    assert type(caught.value) is kind


def test_a_crash_is_reported_with_its_last_lines_and_never_with_an_older_message(repository) -> None:
    repository.write("first", FAILING.format(kind="DataError"))
    with pytest.raises(DataError):
        dvc.repro(repository.root, "first")
    repository.write("first", "raise RuntimeError('out of luck')")
    with pytest.raises(PipelineError, match="RuntimeError: out of luck") as caught:
        dvc.repro(repository.root, "first")
    assert type(caught.value) is PipelineError


def test_two_runs_of_a_stage_at_once_are_a_conflict(repository) -> None:
    repository.write("first", SLOW)
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", "first"]
    other = subprocess.Popen(command, cwd=repository.root, env=dvc.environment(), start_new_session=True)
    try:
        wait_for(repository.root / "pids")
        with pytest.raises(ConflictError, match="another run holds this stage"):
            dvc.repro(repository.root, "first")
    finally:
        os.killpg(other.pid, signal.SIGKILL)
        other.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_a_run_leaves_no_process_and_no_lock(repository, number) -> None:
    repository.write("first", SLOW)
    command = [sys.executable, "-c", INTERRUPTIBLE]
    running = subprocess.Popen(command, cwd=repository.root, env=dvc.environment(), stderr=subprocess.DEVNULL)
    child = int(wait_for(repository.root / "pids"))
    running.send_signal(number)
    assert running.wait(timeout=20) != 0
    assert not alive(child)
    repository.write("first", "import pathlib; pathlib.Path('artifacts/first').mkdir(parents=True)")
    assert dvc.repro(repository.root, "first") == "ran"


INTERRUPTIBLE = """
import pathlib, signal
from flows import dvc
signal.signal(signal.SIGTERM, lambda *_: signal.default_int_handler(2, None))
signal.signal(signal.SIGINT, signal.default_int_handler)
dvc.repro(pathlib.Path.cwd(), "first")
"""


def test_ticks_come_while_a_stage_is_silent(repository) -> None:
    repository.write(
        "first", "import pathlib, time; time.sleep(1); pathlib.Path('artifacts/first').mkdir(parents=True)"
    )
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        assert threading.current_thread() is threading.main_thread()

    dvc.repro(repository.root, "first", on_tick=tick, tick_s=0.1)
    assert ticks >= 8


def test_a_folder_that_is_no_repository_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no dvc\.yaml here or above"):
        dvc.find_root(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    with pytest.raises(ConfigurationError, match="git init"):
        dvc.find_root(tmp_path)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    with pytest.raises(ConfigurationError, match="dvc init"):
        dvc.find_root(tmp_path)


def test_the_root_is_found_from_a_folder_below_it(repository) -> None:
    below = repository.root / "a" / "b"
    below.mkdir(parents=True)
    assert dvc.find_root(below) == repository.root


def test_the_revision_says_whether_tracked_files_differ(repository) -> None:
    assert dvc.revision(repository.root) == ""
    git = ["git", "-C", str(repository.root), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "Start"], check=True)
    clean = dvc.revision(repository.root)
    assert len(clean) == 12
    repository.set_train_size(50)
    assert dvc.revision(repository.root) == f"{clean}+"


def test_the_commit_that_is_built_from_says_whether_its_code_was_changed(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ("-c", "user.name=ada", "-c", "user.email=ada@desk", "-c", "commit.gpgSign=false")
        command = ["git", *who, "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    assert dvc.commit(tmp_path) == ""
    (tmp_path / "params.yaml").write_text("a: 1")
    git("add", "params.yaml")
    git("commit", "-q", "-m", "first")
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "train.json").write_text("{}")
    assert dvc.commit(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "params.yaml").write_text("a: 2")
    assert dvc.commit(tmp_path) == git("rev-parse", "HEAD") + "+"
