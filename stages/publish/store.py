"""Where releases are kept: objects created once and never changed, and a few that are compared and swapped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

CHUNK = 128 << 10
"""Bytes of a file read or written at a time. Linux caches what is written in blocks as large as the writes, and large
blocks are slow to get on a virtual machine that gives free memory back to its host: 1 s of CPU for 1 GiB, not 0.3."""


@dataclass(frozen=True)
class Stored:
    """One object of a listing."""

    key: str
    bytes: int
    modified: datetime


@dataclass(frozen=True)
class Versioned:
    """A small object that changes, as it was read, and the mark by which a swap knows that it is still so."""

    content: bytes
    version: str


@dataclass(frozen=True)
class Hashed:
    """What an object is: the SHA-256 (hex) of what was read of it, and the bytes of the whole."""

    sha256: str
    bytes: int


def write_at(file: int, content: bytes | memoryview, place: int) -> None:
    """Write all of `content` into a file, given by its descriptor, from byte `place` on, from any thread."""
    left = memoryview(content)
    while left:
        written = os.pwrite(file, left[:CHUNK], place)
        left, place = left[written:], place + written


class Store(Protocol):
    """Objects by key, each written whole or not at all; tests/unit/publish/test_store.py holds every backend to it."""

    @property
    def place(self) -> str:
        """The store in words, for messages."""
        ...

    def probe(self) -> None:
        """Try what publishing and promoting rest on. Raises ConfigurationError where the place cannot do it."""
        ...

    def create(self, key: str, content: bytes | Path, sha256: str) -> bool:
        """Create an object; False where the key exists. Raises IntegrityError when content is not `sha256` (hex)."""
        ...

    def read(self, key: str) -> Iterator[bytes] | None:
        """The object in pieces of at most 16 MiB, in order; None where there is none."""
        ...

    def hash(self, key: str, most: int, sink: int | None = None) -> Hashed | None:
        """Hash an object, which is written into the sink, the descriptor of a file; None where there is none.

        As fast as the store can, and not to its end where that has more than `most` bytes.
        """
        ...

    def entries(self, prefix: str) -> list[Stored]:
        """Every object whose key begins with `prefix`, in the order of keys."""
        ...

    def load(self, key: str) -> Versioned | None:
        """A small object with its version; None where there is none."""
        ...

    def swap(self, key: str, content: bytes, expected: str | None) -> bool:
        """Replace the version `expected` (None: no object yet); False, and nothing done, where it is another now."""
        ...

    def remove(self, key: str) -> None:
        """Delete an object, if it is there. For the collection of garbage alone."""
        ...

    def abandon(self, prefix: str, before: datetime, *, dry_run: bool = False) -> list[Stored]:
        """Remove what writers that began before that time have left half written; what it was.

        Where it is known which key was being written, only of keys that begin with `prefix`.
        """
        ...
