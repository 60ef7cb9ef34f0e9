"""One trainer a run folder; and what a trainer that was killed left behind is cleared by the next."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from stages.shared.errors import ConflictError
from stages.shared.files import read_json, write_json
from stages.shared.progress import say

LOCK = "lock"
ATTEMPT = "attempt.json"
PREFIX = "pm"
"""Of Ray's folder: short, since Ray's sockets in it must fit into 107 characters."""
PATIENCE_S = 5.0


class Tenure:
    """The right to train in a folder, and the record of what this attempt started."""

    def __init__(self, folder: Path, ray: Path) -> None:
        self.ray = ray
        """Ray's own folder."""
        self._path = folder / ATTEMPT
        self._note(None)

    def started(self, pid: int) -> None:
        """Remember the leader of the session that everything of this attempt runs in."""
        self._note(pid)

    def _note(self, pid: int | None) -> None:
        born = None if pid is None else psutil.Process(pid).create_time()
        entry = {"session": pid, "born": born, "boot": psutil.boot_time(), "ray": str(self.ray)}
        write_json(self._path, entry)


@contextmanager
def tenure(folder: Path) -> Iterator[Tenure]:
    """Hold a run's folder. Raises ConflictError when a living process does; the lock ends with its process."""
    with (folder / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(f"{folder}: another process is training in it; wait for it or stop it") from error
        clear(folder)
        ray = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            yield Tenure(folder, ray)
        finally:
            shutil.rmtree(ray, ignore_errors=True)
            (folder / ATTEMPT).unlink(missing_ok=True)


def is_alive(folder: Path) -> bool:
    """Whether the attempt that a run's folder tells of lives. It takes no lock: to look must stop nobody."""
    try:
        attempt = read_json(folder / ATTEMPT)
        return attempt["session"] is None or psutil.Process(attempt["session"]).create_time() == attempt["born"]
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return False


def clear(folder: Path) -> None:
    """End the processes that a dead predecessor recorded, and remove Ray's folder; nothing that it did not record."""
    try:
        attempt = read_json(folder / ATTEMPT)
    except (FileNotFoundError, ValueError):
        return
    if attempt["session"] is not None and attempt["boot"] == psutil.boot_time():
        left = _session(int(attempt["session"]), float(attempt["born"]))
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if left:
            psutil.wait_procs(left, PATIENCE_S)
            say(f"train: ended {len(left)} processes that the run before had left")
    shutil.rmtree(attempt["ray"], ignore_errors=True)
    (folder / ATTEMPT).unlink()


def _session(leader: int, born: float) -> list[psutil.Process]:
    """Living processes of a session: its number is not given to another while one of them lives."""
    with suppress(psutil.NoSuchProcess):
        if psutil.Process(leader).create_time() != born:
            return []
    found = []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == leader:
                found.append(process)
    return found
