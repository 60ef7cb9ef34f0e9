"""Replies on disk, each recorded once: a SQLite file that several evaluations may use at a time.

A reply is in the file before anybody uses it. A process may die at any moment: what was recorded stays, and a reply is
there whole or not at all.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from stages.shared.errors import ConflictError, IntegrityError
from stages.shared.pool.candidate import Candidate, Reply

PATIENCE_S = 30.0
"""How long a process waits for another one's write."""
VERSION = 1
TABLE = """
CREATE TABLE IF NOT EXISTS replies (
    address TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, candidate TEXT NOT NULL, model TEXT NOT NULL,
    query TEXT NOT NULL, reply TEXT NOT NULL, price REAL NOT NULL, prompt_price REAL NOT NULL, asked_at REAL NOT NULL
)
"""


@dataclass(frozen=True)
class Recorded:
    """A reply, and what it cost when it was asked for."""

    reply: Reply
    price: float
    """USD per 1M completion tokens, then."""
    prompt_price: float
    asked_at: float
    """Seconds since 1970."""


class Record:
    """The open file."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._database = connection
        self._renewed = 0.0

    def find(self, address: str) -> Recorded | None:
        """The reply at an address, if it is recorded. Raises IntegrityError naming a row that is no reply."""
        columns = "reply, price, prompt_price, asked_at"
        row = self._database.execute(f"SELECT {columns} FROM replies WHERE address = ?", (address,)).fetchone()
        if row is None:
            return None
        try:
            return Recorded(_reply(row[0]), *(float(value) for value in row[1:]))
        except (ValueError, TypeError, KeyError) as error:
            raise IntegrityError(
                f"{self._path}, row {address}: not a reply ({error}); `pointsman run --fresh` asks for it again"
            ) from error

    def keep(self, address: str, fingerprint: str, candidate: Candidate, query: str, reply: Reply) -> Recorded:
        """Record a reply, and give back what is recorded: another process may have been first, and its reply stands.

        It counts as asked after what was forgotten, even where the clock was set back since.
        """
        now = max(time.time(), self._renewed)
        self._database.execute(
            "INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (address, fingerprint, candidate.name, candidate.model, query, json.dumps(reply.row()), candidate.price,
             candidate.prompt_price, now),
        )  # fmt: skip
        found = self.find(address)
        return found or Recorded(reply, candidate.price, candidate.prompt_price, now)

    def forget(self, fingerprints: Iterable[str], before: float) -> int:
        """Drop what these candidates were asked before a time; how many replies that were."""
        self._renewed = max(self._renewed, before)
        with self._database:
            rows = [(name, before) for name in fingerprints]
            cursor = self._database.executemany("DELETE FROM replies WHERE fingerprint = ? AND asked_at < ?", rows)
        return max(0, cursor.rowcount)


@contextmanager
def open_record(path: Path) -> Iterator[Record]:
    """The record in a file, made where there is none.

    Raises IntegrityError for a file that holds something else, ConflictError when another process holds it for too
    long.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None)) as connection:
            _prepare(path, connection)
            yield Record(path, connection)
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise ConflictError(f"{path} is held by another process; wait for it and run again") from error
        raise IntegrityError(_no_record(path, error)) from error
    except sqlite3.DatabaseError as error:
        raise IntegrityError(_no_record(path, error)) from error


def _prepare(path: Path, connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version not in (0, VERSION):
        raise IntegrityError(f"{path} is of version {version}, this code knows {VERSION}; {_way_out(path)}")
    connection.execute(TABLE)
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _reply(text: str) -> Reply:
    row = json.loads(text)
    reply = Reply.of(row)
    if not isinstance(reply.text, str) or reply.outcome.is_failure:
        raise ValueError("it holds no answer")
    if min(reply.prompt_tokens, reply.completion_tokens) < 0:
        raise ValueError("its token counts are below 0")
    return reply


def _no_record(path: Path, error: sqlite3.Error) -> str:
    return f"{path} is no record of replies ({error}); {_way_out(path)}"


def _way_out(path: Path) -> str:
    return f"remove {path.name}, and candidates are asked again"
