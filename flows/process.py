"""Processes of DVC and of stages: what they run with, what they print, and that none of them is left."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from stages.shared.processes import die_with_parent, end

STOP_SECONDS = {signal.SIGINT: 30.0, signal.SIGTERM: 10.0, signal.SIGKILL: 5.0}
CHECKOUT = "POINTSMAN_CHECKOUT"
"""The environment variable that tells a worker which checkout it works in."""
FORGE_TOKEN = "POINTSMAN_FORGE_TOKEN"
"""The environment variable with the token that opens pull requests."""


def environment() -> dict[str, str]:
    """What DVC and the stages run with: this interpreter first on PATH; one thread a process unless the user set it.

    The forge's token is no business of theirs.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    mine = {"PATH": path, "DVC_NO_ANALYTICS": "1", "PYTHONUNBUFFERED": "1"}
    given = {name: value for name, value in os.environ.items() if name != FORGE_TOKEN}
    return {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", **given, **mine}


@contextmanager
def running(
    command: Sequence[str], root: Path, extra: Mapping[str, str] = MappingProxyType({})
) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a session of its own; no process of its group is left when the block ends, or this process."""
    process = subprocess.Popen(
        command, cwd=root, env=environment() | dict(extra), start_new_session=True, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace",
        preexec_fn=die_with_parent,
    )  # fmt: skip
    try:
        yield process
    finally:
        end(process, STOP_SECONDS)


def lines_of(process: subprocess.Popen[str], tick_s: float) -> Iterator[str | None]:
    """The process's lines without their ends, and None whenever `tick_s` seconds bring none."""
    assert process.stdout is not None
    stream = process.stdout
    waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        """Pass the lines on, then None."""
        for line in stream:
            waiting.put(line.rstrip())
        waiting.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = waiting.get(timeout=tick_s)
        except queue.Empty:
            yield None
            continue
        if line is None:
            return
        yield line
