"""Where Prefect keeps its state, and its server. Imports no Prefect, which reads all that once, at import."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stages.shared.errors import ConfigurationError, TransientError
from stages.shared.files import write_text

HOST = "127.0.0.1"
START_SECONDS = 120
SETTINGS = {
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(START_SECONDS),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}


def prepare(root: Path, *, quiet: bool = True) -> None:
    """Point Prefect at this repository's own state, and at the server of `pointsman up` where one runs.

    What the user has set in the environment stands. Without PREFECT_API_URL and without a running server, Prefect
    starts one of its own for as long as the flow runs. `quiet` keeps its log off the terminal. Call it before Prefect
    is imported.
    """
    _home(root).mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PREFECT_HOME", str(_home(root)))
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if quiet:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    url = _read_url(root)
    if "PREFECT_API_URL" not in os.environ and url is not None and _answers(url):
        os.environ["PREFECT_API_URL"] = url


@contextmanager
def serve(root: Path, port: int) -> Iterator[str]:
    """Run Prefect's server on loopback and yield its API's address; no process of it is left behind.

    Raises ConfigurationError when the port is taken, TransientError when the server does not come up.
    """
    _refuse_taken(port)
    url = f"http://{HOST}:{port}/api"
    os.environ["PREFECT_API_URL"] = url
    log = root / ".pointsman" / "logs" / "prefect-server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            command, cwd=root, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait(process, url, log)
            write_text(_url_file(root), url)
            yield url
        finally:
            _url_file(root).unlink(missing_ok=True)
            _stop(process)


@contextmanager
def starting() -> Iterator[None]:
    """Let a flow that runs inside say plainly when Prefect's own server did not come up. Raises TransientError then."""
    try:
        yield
    except RuntimeError as error:
        if "Prefect API server" not in str(error):
            raise
        raise TransientError(
            f"Prefect's own server did not start; is the machine very busy? Try again. ({error})"
        ) from error


def _home(root: Path) -> Path:
    return root / ".pointsman" / "prefect"


def _url_file(root: Path) -> Path:
    return _home(root) / "server.url"


def _read_url(root: Path) -> str | None:
    try:
        return _url_file(root).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=1) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigurationError(f"port {port} on {HOST} is taken; choose one: pointsman up --port N") from error


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if _answers(url):
            return
        time.sleep(0.3)
    raise TransientError(f"Prefect's server did not come up at {url}; its log is {log}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(timeout=10)
            return
