"""Run as a program: replace a folder, killed with SIGKILL before every change, then by several processes at once.

Raises AssertionError where the folder is ever there and not whole, or where one of the processes fails.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from stages.shared.files import atomic_folder

CHANGES = frozenset({"os.rename", "os.remove", "os.rmdir", "os.mkdir"})
NAMES = ("a", "b", "c")


def replace(folder: Path, content: str, changes_left: int | None = None) -> None:
    """Put a folder with this content in the place of what is there; die before the change after so many."""
    left = changes_left

    def _hear(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if left is None or event not in CHANGES:
            return
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    sys.addaudithook(_hear)
    with atomic_folder(folder) as part:
        for name in NAMES:
            (part / name).write_text(content)


def in_a_child(work: Callable[[], None]) -> int:
    """The id of a process that does it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except OSError as error:
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return child


def ended(child: int) -> int:
    """Its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def held(folder: Path) -> set[str]:
    """What is in the folder: one content in all files, or no folder."""
    if not folder.exists():
        return set()
    assert sorted(path.name for path in folder.iterdir()) == list(NAMES)
    return {path.read_text() for path in folder.iterdir()}


def killed(folder: Path) -> int:
    """How many changes there were to die before."""
    number = 0
    while True:
        replace(folder, "old")
        code = ended(in_a_child(partial(replace, folder, "new", number)))
        assert len(held(folder)) <= 1, held(folder)
        if code == 0:
            return number
        number += 1


def at_once(folder: Path) -> None:
    """Several at once."""

    def _often(who: str) -> None:
        for _ in range(100):
            replace(folder, who)

    children = [in_a_child(partial(_often, who)) for who in "wxyz"]
    assert [ended(child) for child in children] == [0] * len(children)
    assert len(held(folder)) == 1


if __name__ == "__main__":
    print(killed(Path(sys.argv[1]) / "killed"))
    at_once(Path(sys.argv[1]) / "raced")
    left = {path.name for path in Path(sys.argv[1]).iterdir() if path.suffix != ".part"}
    assert left == {"killed", "raced"}, left
