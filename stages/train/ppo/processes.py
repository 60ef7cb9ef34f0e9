"""verl's trainer as a child: a process group of its own, no terminal, nothing left behind however this process ends."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from stages.shared.processes import descendants, die_with_parent, end_all

STEPS = {signal.SIGTERM: 5.0, signal.SIGKILL: 5.0}


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command with its output appended to `log`; on leaving, end it and everything that it ever started."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            list(command), env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, preexec_fn=die_with_parent,
        )  # fmt: skip
    try:
        yield child
    finally:
        end(child)


def end(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the child's group and to its descendants in groups of their own, SIGKILL after a grace."""
    end_all(child, descendants(child.pid), STEPS)
