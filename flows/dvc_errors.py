"""What went wrong in DVC or in a stage that it ran, from what either said: which kind of error, and the way out."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from stages.shared.errors import (
    BudgetError,
    ConfigurationError,
    ConflictError,
    DataError,
    IntegrityError,
    PipelineError,
    TransientError,
)
from stages.shared.files import read_json
from stages.shared.workspace import Workspace

KINDS = (ConfigurationError, DataError, TransientError, BudgetError, IntegrityError, ConflictError)
MISSING = re.compile(r"Parameters '(.+)' are missing from 'params.yaml'")
"""DVC depends on parameters by their names, and takes no defaults."""
FULL = ("No space left on device", "Disk quota exceeded", "database or disk is full")
LOST = re.compile(r"^ERROR: failed to transfer '\S+' - (.*): '.*' -> '(.*)'$")
"""DVC could not keep an output, and ends with 0 all the same; the second group is what it had begun to write."""
BUSY = ("is busy, it is being blocked", "Unable to acquire lock")
TAIL_LINES = 15
ROOM = "make room (`dvc gc -w` drops old artifacts), then run again: it goes on from here"


def left_error(workspace: Workspace, name: str) -> PipelineError | None:
    """What a stage, or a command of one, said that was wrong when it failed; None where it said nothing."""
    try:
        left = read_json(workspace.errors(name))
    except FileNotFoundError:
        return None
    kind = next((kind for kind in KINDS if kind.kind == left["kind"]), PipelineError)
    return kind(f"{name}: {left['message']}")


def refusal(root: Path, arguments: Sequence[str], done: subprocess.CompletedProcess[str]) -> PipelineError:
    """Why a DVC command failed, in DVC's own words where it has any."""
    said = "\n".join(line for line in (done.stderr.strip() or done.stdout).splitlines() if line.strip())
    words = f"`dvc {arguments[0]}`"
    if any(mark in said for mark in BUSY):
        return ConflictError(f"another DVC command is at work in this repository; wait for it and try again\n{said}")
    if any(mark in said for mark in FULL):
        return BudgetError(f"no disk space left for {words}; {ROOM}\n{said}")
    if done.returncode < 0:
        killer = signal.Signals(-done.returncode).name
        return TransientError(f"{words} was ended by {killer}; nothing is lost: give the same command again")
    if not said:
        silent = f"{words} failed with exit code {done.returncode} and said nothing"
        return ConfigurationError(f"{silent}; in {root}, `dvc {arguments[0]} -v` says why")
    lock = "; take dvc.lock back with `git checkout dvc.lock`, or remove it: what DVC has cached is restored, not run"
    return ConfigurationError(
        f"{words} refuses this repository{lock if 'dvc.lock' in said else ''}; mend what it names in {root}:\n{said}"
    )


def check_kept(stage: str, lines: Sequence[str]) -> None:
    """Raise where an output did not get into DVC's cache; what was half written there is removed.

    BudgetError for a full disk, else TransientError: the next run runs the stage again, which resumes.
    """
    lost = [match for line in lines if (match := LOST.match(line))]
    for match in lost:
        if match[2].endswith(".tmp"):
            Path(match[2]).unlink(missing_ok=True)
    if lost:
        full = any(mark in lost[0][1] for mark in FULL)
        kind, way_out = (BudgetError, f"no disk space left there; {ROOM}") if full else (TransientError, "try again")
        raise kind(f"{stage}: DVC could not keep all that it made ({lost[0][1]}): {way_out}")


def failure(workspace: Workspace, stage: str, lines: Sequence[str]) -> PipelineError:
    """Why a stage failed: as it left it itself, or from the lines of DVC's output."""
    said = "\n".join(lines)
    if any(mark in said for mark in BUSY):
        return ConflictError(f"{stage}: another run holds this stage; wait for it to end and try again")
    if missing := MISSING.search(said):
        return ConfigurationError(
            f"params.yaml lacks {missing[1]}, which {stage} depends on: add it; infra/profiles shows every parameter, "
            "and `pointsman use NAME` writes a whole set"
        )
    tail = "\n".join(f"  {line}" for line in lines[-TAIL_LINES:])
    if (left := left_error(workspace, stage)) is not None:
        return left
    if any(mark in said for mark in FULL):
        return BudgetError(f"{stage}: no disk space left; {ROOM}; its last lines:\n{tail}")
    return PipelineError(f"{stage} stopped without saying why; its last lines:\n{tail}")
