"""DVC's experiments: queued with changed parameters, run one at a time in folders of their own, read from git.

As DVC 3.67 behaves: a queued experiment is a snapshot of tracked files, so that edits made later do not reach it, and
it runs in a clone below .dvc/tmp/exps that shares DVC's cache; one that ends well leaves a commit under refs/exps, one
that fails a line in the queue; one whose worker was killed stays "Running" there until it is killed by name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from flows import dvc
from stages.shared.errors import ConfigurationError, ConflictError

ROW = re.compile(r"^[0-9a-f]{7}\s+(\S+)\s+.*\s(Queued|Running|Failed|Success)$", re.MULTILINE)
WORKERS = re.compile(r"Worker status: (\d+) active, (\d+) idle")
LOCK = "dvc.lock"
WAY_OUT = "see `dvc queue status`; wait for it, or end it with `dvc queue stop --kill` and `dvc queue remove --queued`"


def baseline(root: Path) -> str:
    """The commit that experiments start from. Raises ConfigurationError before the first one."""
    head = dvc.git(root, "rev-parse", "HEAD")
    if head is None:
        raise ConfigurationError(f"{root} has no commit yet, and DVC's experiments need one; commit your files first")
    return head.strip()


def changes(root: Path) -> str:
    """What tracked files differ by from the last commit, those apart that DVC writes itself."""
    return dvc.git(root, "diff", "HEAD", "--", ".", f":!{LOCK}", ":!metrics") or ""


def untracked(root: Path) -> list[str]:
    """Files of code that git does not know: an experiment would run without them."""
    listed = dvc.git(root, "ls-files", "--others", "--exclude-standard", "--", "*.py") or ""
    return listed.splitlines()


def finished(root: Path, commit: str) -> dict[str, str]:
    """Experiments that ended well, by name, with their commits."""
    prefix = f"refs/exps/{commit[:2]}/{commit[2:]}/"
    listed = dvc.git(root, "for-each-ref", "--format=%(refname) %(objectname)", prefix) or ""
    pairs = (line.split() for line in listed.splitlines())
    return {name.removeprefix(prefix): revision for name, revision in pairs}


def read(root: Path, revision: str, path: str) -> str | None:
    """A file as an experiment left it; None where it left none."""
    return dvc.git(root, "show", f"{revision}:{path}")


def queue(root: Path) -> dict[str, str]:
    """Queued, running and ended experiments by name: Queued, Running, Failed or Success."""
    return dict(ROW.findall(dvc.call(root, "queue", "status")))


def refuse_others(root: Path, own: Collection[str]) -> dict[str, str]:
    """Raise ConflictError when a worker is at work, or somebody else's experiments wait for one; else as `queue`."""
    status = dvc.call(root, "queue", "status")
    workers = WORKERS.search(status)
    if workers and any(int(count) for count in workers.groups()):
        raise ConflictError(f"DVC's queue is being worked off already; {WAY_OUT}")
    states = dict(ROW.findall(status))
    others = [name for name, state in states.items() if state == "Queued" and name not in own]
    if others:
        raise ConflictError(f"DVC's queue holds other experiments, which would run too: {', '.join(others)}; {WAY_OUT}")
    return states


def enqueue(root: Path, name: str, settings: Mapping[str, str], target: str) -> None:
    """Take a snapshot of tracked files, with these parameters set, that is to be run up to the stage `target`."""
    changed = [argument for key, value in settings.items() for argument in ("--set-param", f"++{key}={value}")]
    loose = (root / LOCK).exists() and dvc.git(root, "ls-files", "--error-unmatch", LOCK) is None
    lock = ["--copy-paths", LOCK] if loose else []
    dvc.call(root, "exp", "run", "--queue", "--name", name, *changed, *lock, target)


def withdraw(root: Path, names: Collection[str]) -> None:
    """Take those of them that wait out of the queue: a worker that is told to end would begin another one."""
    waiting = [name for name, state in queue(root).items() if name in names and state == "Queued"]
    if waiting:
        dvc.call(root, "queue", "remove", *waiting)


def forget(root: Path, names: Collection[str], states: Mapping[str, str]) -> None:
    """Take these out of the queue, whose states are given, whatever became of them; what they committed stays."""
    found = {name: state for name, state in states.items() if name in names}
    running = [name for name, state in found.items() if state == "Running"]
    if running:
        dvc.call(root, "queue", "kill", *running)
    if found:
        dvc.call(root, "queue", "remove", *found)


def last_words(root: Path, name: str, lines: int = 12) -> str:
    """The end of what an experiment printed."""
    return "\n".join(dvc.call(root, "queue", "logs", name).rstrip().splitlines()[-lines:])
