"""A `Store` in a folder: a local disk, or a network file system with hard links and locks."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from stages.publish.store import CHUNK, Hashed, Stored, Versioned, write_at
from stages.shared.errors import ConfigurationError, IntegrityError
from stages.shared.files import full_disk_at

INCOMING = ".incoming"
"""Where an object is written before it gets its name. What a crash leaves there is seen by nobody."""
ABANDONED = timedelta(days=1)
LOCK = ".lock"
REFUSALS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTSUP, errno.ENOSYS, errno.ENOTDIR, errno.EXDEV})


class FolderStore:
    """Objects are files. A hard link gives a finished file its name, which fails where the name is taken."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    @property
    def place(self) -> str:
        """The folder."""
        return str(self._root)

    def probe(self) -> None:
        """Link a file twice under one name, and take the lock. Raises ConfigurationError where that does not do."""
        self.abandon("", datetime.now(UTC) - ABANDONED)
        with self._explained("write"), self._incoming(b"probe") as (part, _):
            twin = part.with_name(f"{part.name}.twin")
            try:
                if not _link(part, twin) or _link(part, twin):
                    raise OSError(errno.ENOTSUP, "hard links do not refuse a name that is taken")
            finally:
                twin.unlink(missing_ok=True)
            with self._locked():
                pass

    def create(self, key: str, content: bytes | Path, sha256: str) -> bool:
        """Create an object; False where the key exists. Raises IntegrityError when content is not `sha256` (hex)."""
        target = self._root / key
        if target.exists():
            return False
        with self._explained(f"create {key}"), self._incoming(content) as (part, found):
            if found != sha256:
                raise IntegrityError(f"{self.place}: {key}: the content does not have the announced SHA-256")
            target.parent.mkdir(parents=True, exist_ok=True)
            created = _link(part, target)
            _sync(target.parent)
        return created

    def read(self, key: str) -> Iterator[bytes] | None:
        """The object in chunks of at most 128 KiB; None where there is none."""
        with self._explained(f"read {key}"):
            try:
                return _chunks((self._root / key).open("rb"))
            except FileNotFoundError:
                return None

    def hash(self, key: str, most: int, sink: int | None = None) -> Hashed | None:
        """Hash an object of at most `most` bytes, which is written into the sink; None where there is none."""
        with self._explained(f"read {key}"):
            try:
                handle = (self._root / key).open("rb")
            except FileNotFoundError:
                return None
            with handle:
                return _hash(handle, most, sink)

    def entries(self, prefix: str) -> list[Stored]:
        """Every object whose key begins with `prefix`, in the order of keys."""
        base, found = self._root / prefix.rpartition("/")[0], []
        for path in base.rglob("*"):
            key = path.relative_to(self._root).as_posix()
            if key.startswith(".") or not key.startswith(prefix) or not path.is_file():
                continue
            with suppress(FileNotFoundError):
                seen = path.stat()
                found.append(Stored(key, seen.st_size, datetime.fromtimestamp(seen.st_mtime, UTC)))
        return sorted(found, key=lambda stored: stored.key)

    def load(self, key: str) -> Versioned | None:
        """A small object; its version is the hash of its content."""
        chunks = self.read(key)
        if chunks is None:
            return None
        content = b"".join(chunks)
        return Versioned(content, hashlib.sha256(content).hexdigest())

    def swap(self, key: str, content: bytes, expected: str | None) -> bool:
        """Replace the version `expected` (None: no object yet); False, and nothing done, where it is another now."""
        target = self._root / key
        with self._explained(f"change {key}"), self._locked():
            current = self.load(key)
            if (current.version if current else None) != expected:
                return False
            target.parent.mkdir(parents=True, exist_ok=True)
            with self._incoming(content) as (part, _):
                part.replace(target)
                _sync(target.parent)
        return True

    def remove(self, key: str) -> None:
        """Delete an object, if it is there."""
        with self._explained(f"remove {key}"):
            (self._root / key).unlink(missing_ok=True)

    def abandon(self, prefix: str, before: datetime, *, dry_run: bool = False) -> list[Stored]:
        """Remove what writers that began before that time have left half written, of whatever key; what it was."""
        found = []
        for part in sorted((self._root / INCOMING).glob("*")):
            with suppress(FileNotFoundError):
                seen = part.stat()
                begun = datetime.fromtimestamp(seen.st_mtime, UTC)
                if begun >= before:
                    continue
                found.append(Stored(f"{INCOMING}/{part.name}", seen.st_size, begun))
                if not dry_run:
                    part.unlink()
        return found

    @contextmanager
    def _incoming(self, content: bytes | Path) -> Iterator[tuple[Path, str]]:
        """The content in a file of its own, on the disk, and its SHA-256; the file is gone afterwards."""
        folder = self._root / INCOMING
        folder.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=folder)
        part, found = Path(name), hashlib.sha256()
        try:
            with full_disk_at(self._root), os.fdopen(number, "wb") as handle:
                for chunk in _chunks(content.open("rb")) if isinstance(content, Path) else (content,):
                    found.update(chunk)
                    handle.write(chunk)
                handle.flush()
                os.fsync(handle.fileno())
            part.chmod(0o644)
            yield part, found.hexdigest()
        finally:
            part.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer of what changes at a time; the kernel lets go of the lock when its holder dies."""
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / LOCK).open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in REFUSALS:
                raise
            raise ConfigurationError(
                f"{self.place}: cannot {action}: {error.strerror}; publish.folder must be writable, "
                "on a file system with hard links and locks"
            ) from error


def _link(part: Path, target: Path) -> bool:
    try:
        target.hardlink_to(part)
    except FileExistsError:
        return False
    return True


def _sync(folder: Path) -> None:
    """Make the names in a folder outlast a loss of power."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _chunks(handle: BinaryIO) -> Iterator[bytes]:
    with handle:
        while chunk := handle.read(CHUNK):
            yield chunk


def _hash(handle: BufferedReader, most: int, sink: int | None) -> Hashed:
    found, place, size = hashlib.sha256(), 0, os.fstat(handle.fileno()).st_size
    memory = memoryview(bytearray(min(CHUNK, size)))
    while size <= most and (count := handle.readinto(memory)):
        found.update(memory[:count])
        if sink is not None:
            write_at(sink, memory[:count], place)
        place += count
    return Hashed(found.hexdigest(), max(place, size))
