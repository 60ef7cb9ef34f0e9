"""What `pointsman up` keeps running, and that nothing of it is left; tests/faults/test_kills.py proves the whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.server import url_file
from flows.stack import MARK, Part, Stack, belonging, end_stack
from stages.shared.errors import TransientError

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_down_ends_what_carries_the_mark_of_the_checkout_and_nothing_else(tmp_path: Path) -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    mine, others = (
        subprocess.Popen(sleep, env=os.environ | {MARK: str(root)}, start_new_session=True)
        for root in (tmp_path, tmp_path / "another")
    )
    try:
        until(lambda: len(belonging(tmp_path)) == 1)
        assert end_stack(tmp_path) == ["a run"]
        assert mine.wait() == -signal.SIGTERM
        assert others.poll() is None
        assert end_stack(tmp_path) == []
    finally:
        others.kill()
        others.wait()


def test_what_does_not_heed_the_request_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.stack.STOP_SECONDS", {signal.SIGTERM: 0.3, signal.SIGKILL: 5.0})
    command = [sys.executable, "-c", STUBBORN]
    env = os.environ | {MARK: str(tmp_path)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        end_stack(tmp_path)
        assert process.wait() == -signal.SIGKILL


def test_a_part_that_ends_is_started_again_and_given_up_when_it_never_stays(tmp_path: Path) -> None:
    said: list[str] = []
    stack = Stack(tmp_path, 0, said.append)
    stack.start(Part("steady", ["sleep", "60"]))
    stack.start(Part("weak", [sys.executable, "-c", "print('gone')"]))
    url_file(tmp_path).parent.mkdir(parents=True)
    url_file(tmp_path).touch()
    again: list[str] = []
    try:
        with pytest.raises(TransientError, match=r"weak ended 5 times; see \.pointsman/logs/weak\.log"):
            stack.watch(lambda part: again.append(part.name))
    finally:
        end_stack(tmp_path)
    assert again == ["weak"] * 4
    assert said == ["weak ended; starting it again"] * 4
    assert (tmp_path / ".pointsman/logs/weak.log").read_text() == "gone\n" * 5


def test_a_part_that_stood_for_a_while_is_started_again_however_often_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed one left is ended first: a server's child would keep the port."""
    monkeypatch.setattr("flows.stack.STEADY_S", 0.0)
    monkeypatch.setattr("flows.stack.MOST_STARTS", 1)
    stack, child = Stack(tmp_path, 0, str), tmp_path / "child"
    stack.start(Part("steady", ["sleep", "60"]))
    stack.start(Part("parent", ["bash", "-c", f"sleep 60 & echo $! >> {child}; sleep 60"]))
    url_file(tmp_path).parent.mkdir(parents=True)
    url_file(tmp_path).touch()
    seen: list[int] = []

    def kill_again(part: Part) -> None:
        until(lambda: child.exists() and len(child.read_text().split()) > len(seen))
        alive = {member.pid for member in belonging(tmp_path)}
        assert alive.isdisjoint(seen)
        seen.append(int(child.read_text().split()[-1]))
        assert part.process is not None
        os.kill(part.process.pid, signal.SIGKILL)
        if len(seen) == 2:
            url_file(tmp_path).unlink()

    try:
        kill_again(stack.parts[1])
        stack.watch(kill_again)
    finally:
        end_stack(tmp_path)
    assert len(seen) == 2


def test_the_watch_ends_when_down_was_called(tmp_path: Path) -> None:
    Stack(tmp_path, 0, print).watch(lambda part: None)
