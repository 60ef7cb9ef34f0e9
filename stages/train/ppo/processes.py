"""verl's trainer as a child: a process group of its own, no terminal, nothing left behind however this process ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

GRACE_S = 5.0
_PARENT_DEATH_SIGNAL = 1


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command with its output appended to `log`; on leaving, end it and everything that it ever started."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            list(command), env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, preexec_fn=_die_with_parent,
        )  # fmt: skip
    try:
        yield child
    finally:
        end(child)


def end(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the child's group and to its descendants in groups of their own, SIGKILL after a grace."""
    family = _descendants(child.pid)
    _signal(child.pid, family, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while time.monotonic() < deadline and (child.poll() is None or any(_alive(member) for member in family)):
        time.sleep(0.05)
    _signal(child.pid, [member for member in family if _alive(member)], signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_S)


def _descendants(pid: int) -> list[psutil.Process]:
    """Those in the process tree, and those whom their parent's death cut off from it but that are in its session."""
    found: dict[int, psutil.Process] = {}
    with suppress(psutil.NoSuchProcess):
        found.update((member.pid, member) for member in psutil.Process(pid).children(recursive=True))
    for member in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if os.getsid(member.pid) == pid and member.pid != pid:
                found[member.pid] = member
    return list(found.values())


def _signal(group: int, family: Sequence[psutil.Process], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
    for member in family:
        with suppress(psutil.Error):
            member.send_signal(number)


def _alive(member: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return bool(member.is_running() and member.status() != psutil.STATUS_ZOMBIE)
    return False


def _die_with_parent() -> None:
    """Linux: SIGTERM for the child when this process dies without a chance to clean up."""
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)
