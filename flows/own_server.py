"""Prefect's server for one command: that of `pointsman up` or PREFECT_API_URL, or one of its own, which ends with it.

Its own is a child in a session of its own: Ctrl-C reaches the run and not the server, which hears how the run ended.
Imports no Prefect: the server starts while the command does.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flows.process import environment
from flows.server import HOST, START_SECONDS, STOP_SECONDS, answers, is_there
from stages.shared.errors import TransientError
from stages.shared.processes import die_with_parent, end

LOOK_S = 1.0
MISSED = 4
"""Looks in a row at which it did not answer, until that is said: a busy one misses some."""
MOST_STARTS = 5
ITS_OWN = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
"""As Prefect starts one for a script: no pages, and no services beside the API."""
APPLICATION = "prefect.server.api.server:create_app"
RESUME = "nothing is lost: the same command goes on from here"


@dataclass
class Server:
    """What a command's flow talks to. Without a port it is somebody else's."""

    url: str
    port: int | None = None
    log: Path = Path(os.devnull)
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Start it; it ends with the thread that calls this, and with the process."""
        command = [sys.executable, "-m", "uvicorn", "--factory", APPLICATION, "--log-level", "error"]
        command += ["--host", HOST, "--port", str(self.port), "--lifespan", "on"]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                command, env=environment() | ITS_OWN, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True, preexec_fn=die_with_parent,
            )  # fmt: skip
        self.starts += 1

    def wait(self) -> None:
        """Until it answers, where it is this command's own. Raises TransientError when it does not come up."""
        deadline = time.monotonic() + START_SECONDS
        while self.process is not None and not answers(self.url):
            if self.ended or time.monotonic() > deadline:
                raise TransientError(
                    f"Prefect's own server did not start; is the machine very busy? Try again. Its log is {self.log}"
                )
            time.sleep(0.1)

    @property
    def ended(self) -> bool:
        """Whether it was this command's own, and is gone."""
        return self.process is not None and self.process.poll() is not None

    def stop(self) -> None:
        """End it."""
        self.over.set()
        if self.process is not None:
            end(self.process, STOP_SECONDS)


def server_for(root: Path) -> Server:
    """The server of PREFECT_API_URL, or a new one, not waited for, which outlives Prefect's own clean-up.

    Call it after `prepare`, before Prefect is imported: what is registered to run at exit first runs last.
    """
    if "PREFECT_API_URL" in os.environ:
        return Server(os.environ["PREFECT_API_URL"])
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])
    log = root / ".pointsman" / "logs" / "prefect-server-of-run.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    server = Server(f"http://{HOST}:{port}/api", port, log)
    os.environ["PREFECT_API_URL"] = server.url
    atexit.register(server.stop)
    server.start()
    return server


@contextmanager
def connected(server: Server, say: Callable[[str], None]) -> Iterator[None]:
    """Meanwhile, say when the server is gone, and start it again where it is this command's own.

    Raises TransientError where the flow inside ended for that.
    """
    import httpx

    told = threading.Event()

    def tell(text: str) -> None:
        """Unless the block has ended."""
        if not told.is_set():
            say(text)

    threading.Thread(target=_watch, args=(server, tell), daemon=True).start()
    try:
        yield
    except httpx.TransportError as error:
        raise TransientError(f"Prefect's server at {server.url} is gone, and the run ended for it; {RESUME}") from error
    finally:
        told.set()


def _watch(server: Server, say: Callable[[str], None]) -> None:
    """Until the process ends: a server that is started again here ends with this thread."""
    missed = 0
    while not server.over.wait(LOOK_S):
        if server.ended and server.starts < MOST_STARTS:
            say("Prefect's server ended; starting it again. The stages' work goes on.")
            server.start()
        missed = 0 if _there(server) else missed + 1
        if missed == MISSED:
            say(
                f"Prefect's server at {server.url} does not answer. The stages' work goes on; the run waits a minute "
                f"for it where it needs it. Should it end for that, {RESUME}."
            )


def _there(server: Server) -> bool:
    """A command's own counts as long as it lives, since it takes seconds to start; another's, where it answers."""
    return not server.ended if server.process is not None else is_there(server.url)
