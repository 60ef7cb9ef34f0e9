"""The edge of every stage."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stages.shared.entry import INTERRUPTED, run_stage
from stages.shared.errors import ConfigurationError, DataError, TransientError
from stages.shared.files import atomic_path
from stages.shared.params import Params
from stages.shared.workspace import Workspace

ROOT = Path(__file__).resolve().parents[3]
PARAMS = str(ROOT / "infra" / "profiles" / "smoke.yaml")
Work = Callable[[Params, Workspace], None]


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.chdir(tmp_path)
    yield Workspace(tmp_path)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def raising(error: BaseException) -> Work:
    def work(params: Params, workspace: Workspace) -> None:
        raise error

    return work


def test_work_gets_typed_parameters_and_the_workspace(workspace: Workspace) -> None:
    seen = []
    assert (
        run_stage("ingest", lambda params, place: seen.append((params.profile_name, place)), ["--params", PARAMS]) == 0
    )
    assert seen == [("smoke", workspace)]


def test_a_workspace_names_every_place_of_a_stage(workspace: Workspace) -> None:
    root = workspace.root
    assert workspace.artifacts("train") == root / "artifacts/train"
    assert workspace.metrics("train") == root / "metrics/train.json"
    assert workspace.runs("train") == root / ".pointsman/runs/train"
    assert workspace.errors("train") == root / ".pointsman/errors/train.json"


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [(ConfigurationError("no key"), 2, False), (DataError("row 7"), 1, False), (TransientError("no route"), 1, True)],
)
def test_a_failure_is_one_message_an_exit_code_and_a_file_for_the_flow(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], error: Exception, code: int, retryable: bool
) -> None:
    assert run_stage("ingest", raising(error), ["--params", PARAMS]) == code
    assert capsys.readouterr().err == f"ingest: {error.kind} error: {error}\n"
    left = json.loads(workspace.errors("ingest").read_text())
    assert left == {"kind": error.kind, "message": str(error), "retryable": retryable}


def test_a_failure_is_told_though_it_names_a_file_that_is_no_utf_8(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_stage("ingest", raising(ConfigurationError("caf\udce9.pem")), ["--params", PARAMS]) == 2
    assert "caf?.pem" in capsys.readouterr().err
    assert json.loads(workspace.errors("ingest").read_text())["message"] == "caf?.pem"


def test_a_success_clears_the_former_error(workspace: Workspace) -> None:
    run_stage("ingest", raising(DataError("row 7")), ["--params", PARAMS])
    run_stage("ingest", lambda params, place: None, ["--params", PARAMS])
    assert not workspace.errors("ingest").exists()


def test_a_full_disk_is_said_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "artifacts/ingest/train.parquet")
    assert run_stage("ingest", raising(full), ["--params", PARAMS]) == 1
    assert "no disk space left, writing artifacts/ingest/train.parquet" in capsys.readouterr().err


def test_a_full_disk_is_said_of_what_was_written_not_of_the_checkout(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The error of a write names no file; the full disk may be any."""

    def write(params: Params, place: Workspace) -> None:
        with atomic_path(tmp_path / "table") as part:
            part.write_text("")
            Path("/dev/full").write_text("x" * 10)

    nameless = raising(OSError(errno.ENOSPC, "No space left on device"))
    for work, said in ((write, f"left, writing {tmp_path / 'table'}; free"), (nameless, "space left; free")):
        assert run_stage("ingest", work, ["--params", PARAMS]) == 1
        assert said in capsys.readouterr().err


def test_a_defect_is_not_dressed_up() -> None:
    with pytest.raises(ZeroDivisionError):
        run_stage("ingest", raising(ZeroDivisionError()), ["--params", PARAMS])


def test_missing_parameters_are_a_configuration_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_stage("ingest", raising(AssertionError()), []) == 2
    assert "pointsman use sandbox" in capsys.readouterr().err


def test_ctrl_c_says_that_nothing_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_stage("ingest", raising(KeyboardInterrupt()), ["--params", PARAMS]) == INTERRUPTED
    assert "nothing is lost" in capsys.readouterr().err


def test_being_terminated_unwinds_what_the_stage_opened(tmp_path: Path) -> None:
    code = f"""
import os, pathlib, signal
from stages.shared.entry import run_stage

def main(params, workspace):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    finally:
        pathlib.Path("closed").touch()

raise SystemExit(run_stage("ingest", main, ["--params", {PARAMS!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == INTERRUPTED
    assert (tmp_path / "closed").exists()
