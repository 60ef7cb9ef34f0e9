"""A command whose work is another process: interrupted, both end, nothing is cut short, and one of them says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.command import INTERRUPTED

ROOT = Path(__file__).resolve().parents[3]
COMMAND = """
import typer
from flows.command import guarded, run_module
try:
    guarded(run_module)("at_work", here=True)
except typer.Exit as ended:
    raise SystemExit(ended.exit_code)
"""
STILL_LOADING = "import time; print('up', flush=True); time.sleep(600)"
SLOW_TO_TIDY = """
import time
from pathlib import Path
from stages.shared.entry import run_command

def work():
    try:
        print("up", flush=True)
        time.sleep(600)
    finally:
        time.sleep(1)
        Path("tidied").touch()

raise SystemExit(run_command(work))
"""
Interrupted = subprocess.CompletedProcess[str]
Interrupt = Callable[[str, signal.Signals], Interrupted]


@pytest.fixture
def interrupt(tmp_path: Path) -> Interrupt:
    """Run a command whose work is this code, and send it a signal, as a terminal's Ctrl-C to its whole group."""

    def sent(code: str, number: signal.Signals) -> Interrupted:
        (tmp_path / "at_work.py").write_text(code)
        command = [sys.executable, "-c", COMMAND]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    return sent


def test_one_that_is_still_loading_ends_without_a_traceback(interrupt: Interrupt) -> None:
    done = interrupt(STILL_LOADING, signal.SIGINT)
    assert done.returncode == INTERRUPTED
    assert done.stderr == "pointsman: interrupted; nothing is lost, the same command goes on from here\n"


def test_one_that_tidies_up_is_waited_for_and_says_so_alone(interrupt: Interrupt, tmp_path: Path) -> None:
    done = interrupt(SLOW_TO_TIDY, signal.SIGINT)
    assert done.returncode == INTERRUPTED
    assert done.stderr == "pointsman: interrupted; nothing is lost, the same command goes on from here\n"
    assert (tmp_path / "tidied").exists()
