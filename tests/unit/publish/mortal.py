"""Run as a program: publish, promote twice and collect in a folder, killed with SIGKILL before every change of a file.

Forks a child for each number of changes that it lives to see; the child tells what it has done. Prints how many times
it killed; raises AssertionError where what is left is not whole, or has lost what was acknowledged.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from small import release_of

from stages.publish.channels import Change, move, read_history, read_position
from stages.publish.fetch import fetch_release, list_releases, verify_stored
from stages.publish.folder import FolderStore
from stages.publish.garbage import collect
from stages.publish.release import publish

CHANNEL = "production"
CHANGES = frozenset({"os.link", "os.rename", "os.remove", "os.mkdir", "os.chmod"})


def live(folder: Path, changes_left: int | None, told: int) -> None:
    """Do it all; die before the change after so many. None: live on."""
    left = changes_left

    def _hear(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        creates = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        if left is None or not (creates or event in CHANGES):
            return
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    sys.addaudithook(_hear)
    store = FolderStore(folder)
    for seed in (0, 1):
        release = release_of(seed)
        publish(release, store)
        os.write(told, json.dumps(["published", release.manifest.digest]).encode() + b"\n")
        change = Change("promotion", release.manifest.digest, "ada", "better")
        event = move(store, read_position(store, CHANNEL), change)
        os.write(told, json.dumps(["moved", event.nonce]).encode() + b"\n")
    collect(store, timedelta(days=1))


def life(folder: Path, changes_left: int | None) -> tuple[bool, list[list[str]]]:
    """A child's: whether it was killed, and what it has acknowledged."""
    listening, told = os.pipe()
    child = os.fork()
    if child == 0:
        live(folder, changes_left, told)
        os._exit(0)
    os.close(told)
    with os.fdopen(listening) as lines:
        acknowledged = [json.loads(line) for line in lines]
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return status != 0, acknowledged


def check(folder: Path, acknowledged: list[list[str]]) -> None:
    """What is there is whole, and what was acknowledged is there."""
    store = FolderStore(folder)
    listed, history = list_releases(store), read_history(store, CHANNEL)
    assert all(verify_stored(store, digest) == [] for digest in listed)
    assert {event.digest for event in history} <= set(listed)
    assert {digest for what, digest in acknowledged if what == "published"} <= set(listed)
    assert {nonce for what, nonce in acknowledged if what == "moved"} <= {event.nonce for event in history}
    if history:
        fetch_release(store, history[-1].digest, folder.with_name("pulled"))


def main(root: Path) -> int:
    """How many changes there were to die before."""
    os.fsync = lambda number: None  # type: ignore[assignment]  # a kill loses nothing that was written; a disk takes long
    killed, number = True, 0
    while killed:
        folder = root / "store"
        killed, acknowledged = life(folder, number)
        check(folder, acknowledged)
        died, acknowledged = life(folder, None)
        assert not died, "whoever comes next goes on where the dead one stopped"
        check(folder, acknowledged)
        shutil.rmtree(folder)
        number += 1
    return number - 1


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
