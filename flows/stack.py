"""What `pointsman up` keeps running in a checkout: Prefect's server, a worker, a page of reports; and its end.

Every process of it carries the checkout in its environment, so that `pointsman down` finds what a killed `up` left, and
what a killed worker left.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from flows.process import CHECKOUT, environment
from flows.reports import REPORTS_URL, reports_folder
from flows.server import HOST, START_SECONDS, answers, refuse_taken, url_file
from stages.shared.errors import TransientError
from stages.shared.files import write_text
from stages.shared.processes import die_with_parent, end, end_all, is_alive

MARK = "POINTSMAN_UP"
SERVER = "server"
STOP_SECONDS = {signal.SIGTERM: 20.0, signal.SIGKILL: 5.0}
MOST_STARTS = 5
"""Of one process that never stood for STEADY_S, before `up` gives up."""
STEADY_S = 20.0


@dataclass
class Part:
    """A process that is started again when it ends unasked."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    since: float = 0.0
    """When it was started last, by the monotonic clock."""


@dataclass
class Stack:
    """The parts, of one checkout."""

    root: Path
    port: int
    say: Callable[[str], None]
    parts: list[Part] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Of the server's API."""
        return f"http://{HOST}:{self.port}/api"

    @property
    def reports(self) -> str:
        """Where a browser finds reports."""
        return f"http://{HOST}:{self.port + 1}"

    def start(self, part: Part) -> None:
        """Start a process, whose output goes to .pointsman/logs; it ends with this one."""
        log = self.root / ".pointsman" / "logs" / f"{part.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        marks = {
            MARK: str(self.root),
            CHECKOUT: str(self.root),
            REPORTS_URL: self.reports,
            "PYTHONPATH": _path(self.root),
        }
        with log.open("ab") as out:
            part.process = subprocess.Popen(
                part.command, cwd=self.root, env=environment() | marks, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=die_with_parent,
            )  # fmt: skip
        part.starts, part.since = part.starts + 1, time.monotonic()
        if part not in self.parts:
            self.parts.append(part)

    def wait_for_server(self) -> None:
        """Raises TransientError when it does not come up."""
        deadline = time.monotonic() + START_SECONDS
        server = self.parts[0].process
        assert server is not None
        while time.monotonic() < deadline and server.poll() is None:
            if answers(self.url):
                return
            time.sleep(0.3)
        log = self.root / ".pointsman" / "logs" / f"{self.parts[0].name}.log"
        raise TransientError(f"Prefect's server did not come up at {self.url}; its log is {log}")

    def watch(self, restarted: Callable[[Part], None]) -> None:
        """Start again what ends unasked; returns when `pointsman down` has ended it all.

        Raises TransientError for a part that does not stay up.
        """
        while url_file(self.root).exists():
            for part in self.parts:
                if part.process is not None and part.process.poll() is not None and url_file(self.root).exists():
                    self._again(part, restarted)
            time.sleep(0.5)

    def _again(self, part: Part, restarted: Callable[[Part], None]) -> None:
        """What it left goes first: a killed server's child holds the port, a killed worker's run the retrain's lock."""
        assert part.process is not None
        if time.monotonic() - part.since > STEADY_S:
            part.starts = 0
        end(part.process, STOP_SECONDS)
        if part.starts >= MOST_STARTS:
            raise TransientError(f"{part.name} ended {part.starts} times; see .pointsman/logs/{part.name}.log")
        self.say(f"{part.name} ended; starting it again")
        self.start(part)
        if part is self.parts[0]:
            try:
                self.wait_for_server()
            except TransientError:
                if part.process.poll() is None:
                    raise
                return  # it ended while it started, which the watch sees
        restarted(part)


@contextmanager
def standing(root: Path, port: int, say: Callable[[str], None]) -> Iterator[Stack]:
    """Prefect's server and the page of reports, up; on leaving, all that belongs to the stack is ended.

    Raises ConfigurationError when a port is taken, TransientError when the server does not come up.
    """
    if left := end_stack(root):
        say(f"Ended what was left of an earlier one: {', '.join(left)}.")
    for each in (port, port + 1):
        refuse_taken(each)
    stack = Stack(root, port, say)
    os.environ["PREFECT_API_URL"] = stack.url
    python, reports = sys.executable, reports_folder(root)
    reports.mkdir(parents=True, exist_ok=True)
    server = [python, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    page = [python, "-m", "http.server", str(port + 1), "--bind", HOST, "--directory", str(reports)]
    try:
        stack.start(Part("prefect-server", server))
        stack.start(Part("reports", page))
        stack.wait_for_server()
        write_text(url_file(root), stack.url)
        yield stack
    finally:
        end_stack(root)


def worker_of(pool: str) -> Part:
    """A worker of processes."""
    return Part("worker", [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"])


def end_stack(root: Path) -> list[str]:
    """End everything that `up` started in a checkout, the server last; what it was."""
    url_file(root).unlink(missing_ok=True)
    found = belonging(root)
    servers = [member for member, words in found.items() if SERVER in words]
    end_all(None, [member for member in found if member not in servers], STOP_SECONDS)
    end_all(None, servers, STOP_SECONDS)
    return sorted({_told(words) for words in found.values()})


def belonging(root: Path) -> dict[psutil.Process, list[str]]:
    """The processes that carry the checkout's mark, but for those that this one descends from; and their commands."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = {}
    for member in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if member.pid not in own and member.environ().get(MARK) == str(root) and is_alive(member):
                found[member] = member.cmdline()
    return found


def _told(words: list[str]) -> str:
    kinds = {SERVER: "Prefect's server", "worker": "a worker", "http.server": "the page of reports"}
    return next((said for word, said in kinds.items() if word in words), "a run")


def _path(root: Path) -> str:
    """Of modules: the checkout's own before any other."""
    return os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
