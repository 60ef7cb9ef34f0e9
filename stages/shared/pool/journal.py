"""A file that only grows, a JSON object a line, written by any number of processes."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from stages.shared.errors import ConflictError, IntegrityError
from stages.shared.files import LINE

Row = dict[str, Any]
CHUNK = 1 << 22


class Journal:
    """Appends rows, and hears of every row in the file once, its own and those of other processes, in order.

    A row is in the kernel's hands when `append` returns, so that it survives SIGKILL; `sync` puts it on the disk.
    A last line that a crash cut off is dropped by the next writer. Raises IntegrityError for a line that is no row.
    """

    def __init__(self, path: Path, on_row: Callable[[Row, int, int], None]) -> None:
        """`on_row` is called with a row, and with the place and the length of its line, bytes."""
        self._path = path
        self._on_row = on_row
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._read = 0

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Bytes heard of so far."""
        return self._read

    def hold(self) -> None:
        """Keep other processes that want the same from the file until it is closed. Raises ConflictError."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(
                f"{self._path} is in use: the same is under way in another process; wait for it"
            ) from error

    def append(self, row: Row) -> None:
        """Write one row; only while a `Lock` holds the folder."""
        self.catch_up()
        line = _encoded(row)
        place, written = self._read, os.write(self._file, line)
        while written < len(line):
            written += os.write(self._file, line[written:])
        self._read += len(line)
        self._on_row(row, place, len(line))

    def catch_up(self) -> None:
        """Hear of what others wrote; only while a `Lock` holds the folder."""
        size = os.fstat(self._file).st_size
        if size == self._read:
            return
        for line in self._lines(size):
            row = self._parse(line)
            place, self._read = self._read, self._read + len(line)
            self._on_row(row, place, len(line))
        if self._read < size:
            os.ftruncate(self._file, self._read)

    def at(self, place: int, length: int) -> Row:
        """The row of a line."""
        return self._parse(os.pread(self._file, length, place))

    def sync(self) -> None:
        """Put everything on the disk; may be called from another thread."""
        os.fsync(self._file)

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        os.close(self._file)

    def _lines(self, size: int) -> Iterator[bytes]:
        """Whole lines from where reading stopped; what follows the last of them is left."""
        place, rest = self._read, b""
        while place < size and (part := os.pread(self._file, min(CHUNK, size - place), place)):
            place += len(part)
            *lines, rest = (rest + part).split(b"\n")
            yield from (line + b"\n" for line in lines)
            if len(rest) > LINE:
                raise IntegrityError(f"{self._path} has a line of more than {LINE:,} bytes; is it a ledger?")

    def _parse(self, line: bytes) -> Row:
        try:
            row = orjson.loads(line)
        except ValueError as error:
            raise IntegrityError(f"{self._path}: not a row: {line[:40]!r}; remove that line") from error
        if not isinstance(row, dict):
            raise IntegrityError(f"{self._path}: not a row: {line[:40]!r}; remove that line")
        return row


def _encoded(row: Row) -> bytes:
    """A line. What orjson does not take (numbers of more than 64 bits, half characters) goes the slow way."""
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return json.dumps(row).encode() + b"\n"


class Lock:
    """A lock file; `with` holds it against other processes."""

    __slots__ = ("_file",)

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def __enter__(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)
