"""The server of a command: started again when it is killed, gone when the command is; of another's, its end is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psutil
import pytest

from flows import own_server
from flows.own_server import MISSED, Server, connected, server_for
from flows.process import environment
from flows.server import answers
from stages.shared.errors import TransientError

ROOT = Path(__file__).resolve().parents[3]
LITTLE = """
def make():
    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"]
                await send({"type": kind + ".complete"})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"true"})
    return application
"""
COMMAND = """
import pathlib, sys, time
from flows import own_server
own_server.APPLICATION = "little:make"
server = own_server.server_for(pathlib.Path(sys.argv[1]))
server.wait()
print(server.process.pid, flush=True)
time.sleep(60)
"""
SLOW = """
import pathlib, time
pathlib.Path("artifacts/first").mkdir(parents=True)
time.sleep(20)
"""


@pytest.fixture
def little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose server starts in a moment."""
    (tmp_path / "little.py").write_text(LITTLE)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    monkeypatch.setattr(own_server, "APPLICATION", "little:make")
    monkeypatch.setattr(own_server, "LOOK_S", 0.05)
    return tmp_path


@pytest.fixture
def own(little: Path) -> Iterator[Server]:
    server = server_for(little)
    server.wait()
    yield server
    server.stop()


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_server_that_was_killed_is_started_again_at_the_same_address_and_that_is_said(own: Server) -> None:
    assert os.environ["PREFECT_API_URL"] == own.url
    said: list[str] = []
    with connected(own, said.append):
        assert own.process is not None
        os.killpg(own.process.pid, signal.SIGKILL)
        until(lambda: own.starts == 2 and answers(own.url))
    assert said == ["Prefect's server ended; starting it again. The stages' work goes on."]


def test_a_server_that_does_not_start_is_an_error_with_its_log(little: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_server, "APPLICATION", "little:nothing")
    server = server_for(little)
    with pytest.raises(TransientError, match=r"did not start; .* Its log is (\S+)") as told:
        server.wait()
    assert "nothing" in Path(str(told.value).split()[-1]).read_text()


def test_that_somebody_elses_server_is_gone_is_said_once_with_how_to_go_on(
    little: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(401)

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    theirs, said = ThreadingHTTPServer(("127.0.0.1", 0), Refusing), list[str]()
    threading.Thread(target=theirs.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{theirs.server_port}/api")
    server = server_for(little)
    server.wait()
    try:
        with connected(server, said.append):
            time.sleep(0.05 * (MISSED + 3))
            assert said == []
            theirs.shutdown()
            theirs.server_close()
            until(lambda: bool(said))
            time.sleep(0.05 * (MISSED + 3))
    finally:
        server.stop()
    assert [line.partition("/api")[2] for line in said] == [
        " does not answer. The stages' work goes on; the run waits a minute for it where it needs it. Should it end for"
        " that, nothing is lost: the same command goes on from here."
    ]


def test_a_flow_that_ended_for_it_is_one_error_with_how_to_go_on(own: Server) -> None:
    with pytest.raises(TransientError, match=r"is gone, .*nothing is lost"), connected(own, str):
        raise httpx.ConnectError("refused")


def test_no_server_outlives_a_killed_command(little: Path) -> None:
    command = [sys.executable, "-c", COMMAND, str(little)]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        server = psutil.Process(int(process.stdout.readline()))
        process.kill()
    until(lambda: not server.is_running())


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("POINTSMAN_TEST_FAULTS"), reason="takes half a minute: make test-faults")
def test_a_run_whose_server_is_killed_says_so_within_seconds_and_ends_well(
    repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    repository.write("first", SLOW)
    command = [sys.executable, "-m", "flows.cli", "run"]
    env = environment() | {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=repository.root, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Running stage 'first'" in line:
                break
        (server,) = [each for each in psutil.Process(process.pid).children() if "uvicorn" in each.cmdline()]
        server.kill()
        began = time.monotonic()
        for line in process.stdout:
            if "Prefect's server ended; starting it again" in line:
                break
        assert time.monotonic() - began < 5
        rest = process.stdout.read()
    assert process.returncode == 0, rest
    assert "second: ran" in rest
    assert psutil.pid_exists(server.pid) is False
