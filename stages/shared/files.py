"""Files that are either whole or absent."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from stages.shared.errors import ConfigurationError, DataError

WRITTEN_BY_HAND = 1 << 20
STATE = 1 << 26
"""Bytes at most of what Pointsman writes in one piece: metrics, receipts, what a stage resumes from."""
LINE = 1 << 24
"""Of a line of what grows: a reply of a mebibyte, escaped, fits."""
END = 1 << 16
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What a full disk says."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Where a user wants something written. Raises ConfigurationError where it cannot be."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}; choose another path") from error


@contextmanager
def full_disk_at(path: Path) -> Iterator[None]:
    """Let a full disk be known by what was being written: the error of a write names no file."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it when the block ends well, and vanishes otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with full_disk_at(path):
            yield part
            with part.open("rb") as handle:
                os.fsync(handle.fileno())
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces `path` when the block ends well, and vanishes otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        with full_disk_at(path):
            yield part
        while not _take_place(part, path):
            pass
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _take_place(part: Path, path: Path) -> bool:
    """Whether the folder `part` is at `path` now; False where another writer's got there first.

    What was there is moved out of the way whole: to remove it takes long, and half of it would be left by a kill.
    """
    old = part.with_suffix(".old.part")
    shutil.rmtree(old, ignore_errors=True)
    if path.is_dir() and not path.is_symlink():
        with suppress(FileNotFoundError):
            path.rename(old)
    try:
        part.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    finally:
        shutil.rmtree(old, ignore_errors=True)
    return True


def read_bytes(path: Path, most: int = STATE) -> bytes:
    """A file, of at most `most` bytes, whatever its size claims to be. Raises DataError for a longer one."""
    with path.open("rb") as handle:
        content = handle.read(most + 1)
    if len(content) > most:
        raise DataError(f"{path} has more than {most:,} bytes, more than such a file should; is it the right one?")
    return content


def read_text(path: Path, most: int = WRITTEN_BY_HAND) -> str:
    """A text file, of at most `most` bytes. Raises DataError for a longer one, and what `open` and decoding raise."""
    return read_bytes(path, most).decode("utf-8")


def read_json(path: Path, most: int = STATE) -> Any:
    """Raises as `read_text`, and ValueError for what is no JSON."""
    return _parsed(read_bytes(path, most))


def read_yaml(path: Path) -> Any:
    """What somebody wrote by hand. Raises ConfigurationError for what is no YAML, else as `read_bytes`."""
    content = read_bytes(path, WRITTEN_BY_HAND)
    try:
        return yaml.load(content.decode("utf-8"), _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not readable YAML: {_place(error)}; correct it") from error


def _place(error: Exception) -> str:
    """What is wrong where, on one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return str(error)


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands in one mapping twice, of which YAML's own would take the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Raises ConstructorError."""
        seen: set[str] = set()
        for key in (each for each, _ in node.value if isinstance(each, yaml.ScalarNode)):
            if key.value in seen:
                raise ConstructorError(None, None, f"{key.value!r} stands there twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file of any length, with their ends. Raises DataError for a line of more than `LINE` bytes."""
    with path.open("rb") as handle:
        while line := handle.readline(LINE + 1):
            if len(line) > LINE:
                raise DataError(f"{path} has a line of more than {LINE:,} bytes; is it the right file?")
            yield line


def read_rows(path: Path) -> Iterator[Any]:
    """The JSON values in the lines of a file, but for a line that a crash cut short; none where there is no file."""
    for line in read_lines(path) if path.exists() else ():
        try:
            yield _parsed(line)
        except ValueError:
            continue


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("lists or objects nested too deeply") from error


def read_end(path: Path, after: int = 0) -> list[str]:
    """The last lines of a log, of at most `END` bytes in all that follow its first `after`, without blank ones."""
    with path.open("rb") as handle:
        handle.seek(max(after, path.stat().st_size - END))
        return [line for line in handle.read(END).decode("utf-8", errors="replace").splitlines() if line.strip()]


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: sorted keys, indented, one final newline, no NaN."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
