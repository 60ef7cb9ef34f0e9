"""Replies that were paid for, kept as they come, so that a crash or Ctrl-C costs none of them again."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from stages.shared.errors import ConflictError, IntegrityError
from stages.shared.params import Params
from stages.shared.pool.candidate import Outcome, Reply
from stages.shared.pool.setting import setting

SYNC_EVERY_S = 0.5
FILE = "replies.jsonl"
Key = tuple[str, str]
"""Candidate and question."""


class Journal:
    """An append-only file of replies. A line is in the kernel's hands at once, and on the disk within half a second."""

    def __init__(self, path: Path, handle: BinaryIO) -> None:
        self._handle = handle
        self._due = 0.0
        self.replies: dict[Key, Reply] = dict(_replay(path, handle))

    def append(self, candidate: str, question: str, reply: Reply) -> None:
        """Keep a reply. A failed call is not kept: a later run tries it again."""
        if reply.outcome.is_failure:
            return
        line = json.dumps({"candidate": candidate, "question": question, "reply": asdict(reply)}, ensure_ascii=False)
        self._handle.write(line.encode() + b"\n")
        self._handle.flush()
        self.replies[candidate, question] = reply
        if time.monotonic() >= self._due:
            self.sync()

    def sync(self) -> None:
        """Put everything on the disk."""
        os.fsync(self._handle.fileno())
        self._due = time.monotonic() + SYNC_EVERY_S


@contextmanager
def open_journal(folder: Path) -> Iterator[Journal]:
    """The journal of a run folder, held by one process at a time. Raises ConflictError when another one has it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    with path.open("a+b") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(
                f"{path} is in use: another run of the same profile is under way; wait for it"
            ) from error
        journal = Journal(path, handle)
        try:
            yield journal
        finally:
            journal.sync()


def close_run(folder: Path) -> None:
    """Remove the run folder of a finished run, whose replies are in the records: a run after it measures anew."""
    shutil.rmtree(folder)


def digest(params: Params, questions: list[str]) -> str:
    """What the replies are: those of a setting to these questions (16 hexadecimal digits)."""
    asked = {"setting": setting(params.pool, params.world), "questions": questions}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def _replay(path: Path, handle: BinaryIO) -> Iterator[tuple[Key, Reply]]:
    """The replies in the file; a last line that a crash cut off is dropped from it."""
    handle.seek(0)
    whole = 0
    for number, line in enumerate(handle, 1):
        if not line.endswith(b"\n"):
            break
        whole += len(line)
        try:
            row = json.loads(line)
            yield (row["candidate"], row["question"]), _reply(row["reply"])
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"{path}, line {number}: not a reply ({error}); remove that line") from error
    handle.truncate(whole)
    handle.seek(0, os.SEEK_END)


def _reply(row: dict[str, Any]) -> Reply:
    return Reply(**{**row, "outcome": Outcome(row["outcome"])})
