"""Releases of a few bytes."""

from __future__ import annotations

from hashlib import sha256

from stages.publish.manifest import FileEntry, Manifest
from stages.publish.release import Release


def release_of(seed: int) -> Release:
    """A small release; releases of near seeds share a file."""
    contents = {"a.json": str(seed).encode(), "b.json": str(seed // 2).encode()}
    files = {name: FileEntry(sha256=sha256(data).hexdigest(), bytes=len(data)) for name, data in contents.items()}
    return Release(Manifest(synthetic=True, files=files), contents)
