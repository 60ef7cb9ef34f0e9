"""The server as a process: it starts, says where it is, and leaves nothing behind, however it ends."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest

from stages.publish.serving.__main__ import main
from stages.publish.serving.server import run
from stages.shared import vllm_generator

ROOT = Path(__file__).resolve().parents[4]
REAL, SCRIPTED = ("-m", "stages.publish.serving"), (str(Path(__file__).parents[1] / "scripted.py"),)


@dataclass
class Process:
    """A server in a process of its own."""

    popen: subprocess.Popen[str]
    log: Path

    def url(self) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.popen.poll() is None:
            if found := re.search(r"listening on (http://\S+),", self.log.read_text()):
                return found[1]
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def family(self) -> list[psutil.Process]:
        return [psutil.Process(self.popen.pid), *psutil.Process(self.popen.pid).children(recursive=True)]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start a server in `tmp_path`; what a test leaves running is killed."""
    started: list[Process] = []

    def _start(program: tuple[str, ...], *arguments: str) -> Process:
        log = tmp_path / f"server-{len(started)}.log"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with log.open("w") as out:
            popen = subprocess.Popen(
                [sys.executable, *program, "production", "--port", "0", *arguments],
                cwd=tmp_path, env=environment, stdout=out, stderr=out, text=True,
            )  # fmt: skip
        started.append(Process(popen, log))
        return started[-1]

    yield _start
    for each in started:
        if each.popen.poll() is None:
            each.popen.kill()
        each.popen.wait()


def ask(url: str, question: str = "who is the mayor of zumako") -> httpx.Response:
    body = {"model": "production", "messages": [{"role": "user", "content": question}]}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30)


def test_told_to_stop_it_takes_nothing_more_ends_what_runs_and_leaves_no_process(
    workspace: Any, folder_params: Any, own_episode: Any, open_shop: Any, start: Any, eventually: Any
) -> None:
    """The sandbox's experts, in a process that the server starts, take two seconds here."""
    pool = folder_params.pool.model_copy(update={"time_scale": 2.0 / folder_params.pool.experts[0].latency_s})
    shop = open_shop(workspace, folder_params.model_copy(update={"pool": pool, "episode": own_episode}))
    shop.promote(shop.publish(0.5))
    server = start(SCRIPTED)
    url = server.url()
    family = server.family()
    assert len(family) > 1
    with ThreadPoolExecutor(1) as client:
        running = client.submit(ask, url)
        assert eventually(lambda: "pointsman_in_flight 1.0" in httpx.get(f"{url}/metrics").text)
        server.popen.send_signal(signal.SIGTERM)

        def _refuses() -> bool:
            try:
                httpx.get(f"{url}/health")
            except httpx.TransportError:
                return True
            return False

        assert eventually(_refuses)
        assert not running.done()
        assert running.result().json()["pointsman"]["calls"][0]["candidate"] == "Arlix"
    assert server.popen.wait(15) == 0
    assert psutil.wait_procs(family, timeout=10)[1] == []
    said = server.log.read_text()
    assert "serving production, number 1: release" in said
    assert f"curl {url}/v1/chat/completions -H" in said
    assert "no key (POINTSMAN_API_KEY is not set)" in said
    assert "mayor" not in said
    assert "Traceback" not in said


def test_a_real_policy_answers_many_at_once_and_no_process_outlives_a_kill(
    workspace: Any, folder_params: Any, open_shop: Any, start: Any
) -> None:
    """Untrained, it writes nonsense: what counts is that every client gets its end of an episode."""
    shop = open_shop(workspace, folder_params)
    shop.promote(shop.publish(0.5))
    server = start(REAL)
    url = server.url()
    with ThreadPoolExecutor(8) as clients:
        responses = list(clients.map(lambda _: ask(url), range(16)))
    assert {response.status_code for response in responses} == {200}
    assert {response.json()["choices"][0]["finish_reason"] for response in responses} <= {"stop", "length"}
    family = server.family()
    assert len(family) > 1
    server.popen.kill()
    server.popen.wait(15)
    assert psutil.wait_procs(family, timeout=10)[1] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["production", "--host", "0.0.0.0"], "POINTSMAN_API_KEY"),
        (["production"], "no channel 'production'"),
        (["nowhere"], "no channel 'nowhere'"),
        (["Production"], "cannot be a channel"),
        (["production", "--host", "203.0.113.7"], "POINTSMAN_API_KEY"),
    ],
)
def test_what_cannot_be_served_is_a_clear_error(
    shop: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(shop.workspace.root)
    assert main([*arguments, "--port", "0"]) == 2
    assert says in capsys.readouterr().err


def test_a_port_that_is_taken_is_a_clear_error(
    shop: Any, candidates: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(shop.workspace.root)
    assert main(["production", "--port", str(candidates.server_address[1])]) == 2
    assert "cannot listen on 127.0.0.1:" in capsys.readouterr().err


async def test_told_to_stop_while_it_loads_a_release_it_serves_nothing_and_closes() -> None:
    done: list[str] = []

    class Stopped:
        should_exit, server_state = False, SimpleNamespace(tasks=[])

        async def serve(self, sockets: Any) -> None:
            await asyncio.sleep(0.05)

        async def look(self) -> None:
            self.should_exit = True

        async def close(self) -> None:
            done.append("closed")

    stopped: Any = Stopped()
    await run(stopped, stopped, stopped, lambda: done.append("greeted"))
    assert done == ["closed"]


def test_vllm_where_it_is_not_installed_is_a_clear_error(
    shop: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.promote(shop.publish(0.5))
    monkeypatch.chdir(shop.workspace.root)
    monkeypatch.setattr(vllm_generator, "find_spec", lambda name: None)
    assert main(["production", "--port", "0", "--engine", "vllm"]) == 2
    assert "requirements-gpu.txt" in capsys.readouterr().err


def test_a_budget_that_no_question_fits_into_is_a_clear_error(
    shop: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.promote(shop.publish(0.5))
    monkeypatch.chdir(shop.workspace.root)
    assert main(["production", "--port", "0", "--budget-usd", "0.0000001"]) == 2
    assert "less than one question may cost" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [["--rate", "0"], ["--concurrency", "0"], ["--budget-usd", "-1"], ["--poll", "nan"], ["--port", "65536"]]
)
def test_an_option_that_cannot_be_meant_is_refused(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["production", *option])
    assert left.value.code == 2
    assert option[0] in capsys.readouterr().err


def test_help_says_what_is_reserved_and_what_is_not_read(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    for part in ("system messages are not used", "reserves the most that it may cost", "no GPU has run it yet"):
        assert part in said
