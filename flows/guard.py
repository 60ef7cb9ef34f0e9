"""`python -m flows.guard NAMESPACE JOB`: ends a job whose launcher has died; it waits for the end of its own stdin.

It has a session of its own: what kills the launcher's group, by SIGKILL too, leaves it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from stages.shared.params.stage import Kubernetes


@contextmanager
def guarded(place: Kubernetes, name: str) -> Iterator[None]:
    """Have somebody there who ends the job when this process is gone before the block's end."""
    command = [sys.executable, "-m", "flows.guard", place.namespace, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as guard:
        try:
            yield
        finally:
            guard.kill()


def main() -> None:
    """Wait, then delete; for some minutes, where the cluster does not answer."""
    namespace, name = sys.argv[1:]
    sys.stdin.buffer.read()
    from flows.cluster import Cluster, patiently

    for attempt in patiently():
        with attempt:
            Cluster(Kubernetes(namespace=namespace)).end(name)


if __name__ == "__main__":
    main()
