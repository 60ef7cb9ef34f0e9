"""Processes that this one starts: none outlives it however it ends, and of none is a child left when it is ended."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import psutil

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
"""Loaded here: between fork and exec, another thread's lock on the loader would never be released."""


def die_with_parent() -> None:
    """Linux: SIGTERM for this process when its parent dies without a chance to clean up; kept across `exec`."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def end(child: subprocess.Popen[str] | subprocess.Popen[bytes], steps: Mapping[signal.Signals, float]) -> None:
    """End a child that leads a session, with the children of its group: each signal in turn, and seconds to heed it.

    A Ctrl-C meanwhile goes on to the next signal.
    """
    for number, seconds in steps.items():
        with suppress(ProcessLookupError, PermissionError, KeyboardInterrupt):
            os.killpg(child.pid, number)
            if _group_ends(child, seconds):
                return


def end_all(
    child: subprocess.Popen[str] | subprocess.Popen[bytes] | None,
    family: Sequence[psutil.Process],
    steps: Mapping[signal.Signals, float],
) -> None:
    """End a child's group, where there is one, and these processes wherever they are."""
    for number, seconds in steps.items():
        if child is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, number)
        for member in family:
            with suppress(psutil.Error):
                member.send_signal(number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (child is None or child.poll() is not None) and not any(map(is_alive, family)):
                return
            time.sleep(0.05)


def descendants(pid: int) -> list[psutil.Process]:
    """Those in the process tree, and those whom their parent's death cut off from it but that are in its session."""
    found: dict[int, psutil.Process] = {}
    with suppress(psutil.NoSuchProcess):
        found.update((member.pid, member) for member in psutil.Process(pid).children(recursive=True))
    for member in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if os.getsid(member.pid) == pid and member.pid != pid:
                found[member.pid] = member
    return list(found.values())


def is_alive(member: psutil.Process) -> bool:
    """Whether it runs; one that only waits to be reaped does not."""
    with suppress(psutil.Error):
        return bool(member.is_running() and member.status() != psutil.STATUS_ZOMBIE)
    return False


def _group_ends(child: subprocess.Popen[str] | subprocess.Popen[bytes], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        child.poll()
        try:
            os.killpg(child.pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False
