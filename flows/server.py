"""Where Prefect keeps its state, and its server. Imports no Prefect, which reads all that once, at import."""

from __future__ import annotations

import os
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path

from stages.shared.errors import ConfigurationError
from stages.shared.files import read_text

HOST = "127.0.0.1"
START_SECONDS = 300
"""A first start makes a database in some 250 steps, which took more than 120 s on two busy cores."""
STOP_SECONDS = {signal.SIGTERM: 5.0, signal.SIGKILL: 5.0}
SETTINGS = {
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(START_SECONDS),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # In memory, a server that is started again knows no run's place among concurrent ones, and Prefect ends those runs.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "DO_NOT_TRACK": "1",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}


def prepare(root: Path, *, quiet: bool = True) -> None:
    """Point Prefect at this repository's own state, and at the server of `pointsman up` where one runs.

    What the user has set in the environment stands. Where no server is found, `flows.own_server` starts one for as long
    as a flow runs. `quiet` keeps its log off the terminal. Call it before Prefect is imported.
    """
    _home(root).mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PREFECT_HOME", str(_home(root)))
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if quiet:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    if "PREFECT_API_URL" not in os.environ and (url := running_url(root)):
        os.environ["PREFECT_API_URL"] = url


def _home(root: Path) -> Path:
    return root / ".pointsman" / "prefect"


def url_file(root: Path) -> Path:
    """Holds the address of the API while `pointsman up` runs."""
    return _home(root) / "server.url"


def running_url(root: Path) -> str | None:
    """The API of `pointsman up` in this checkout; None where it does not run."""
    try:
        url = read_text(url_file(root)).strip()
    except FileNotFoundError:
        return None
    return url if answers(url) else None


def answers(url: str) -> bool:
    """Whether there is a healthy server."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=1) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def is_there(url: str) -> bool:
    """Whether something answers, if only to refuse: a server of another kind may have no page of its health."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=1):
            return True
    except urllib.error.HTTPError:
        return True
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def refuse_taken(port: int) -> None:
    """Raises ConfigurationError when a port of loopback is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigurationError(f"port {port} on {HOST} is taken; choose one: pointsman up --port N") from error
