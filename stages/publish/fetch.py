"""A release back out of a store: nothing is used that does not hash to its name."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from stages.publish.manifest import DIGEST, MANIFEST, FileEntry, Manifest, parse_manifest
from stages.publish.release import blob_key, manifest_key
from stages.publish.store import Store
from stages.shared.errors import ConfigurationError, IntegrityError
from stages.shared.files import atomic_folder, sha256

SHORTEST = 6
"""Digits of a digest that may stand for the whole."""


def fetch_release(store: Store, digest: str, folder: Path) -> Manifest:
    """Download a release into `folder`, which appears whole and verified or not at all.

    Raises ConfigurationError when the store has no such release, IntegrityError naming the missing or changed file.
    """
    data = store.read(manifest_key(digest))
    if data is None:
        raise ConfigurationError(f"{store.place} holds no release {digest}; publish first (`python -m stages.publish`)")
    manifest = parse_manifest(b"".join(data), digest, f"{store.place}: release {digest[:16]}")
    with atomic_folder(folder) as part:
        for name, entry in manifest.files.items():
            _fetch_file(store, name, entry, part / name)
        (part / MANIFEST).write_bytes(manifest.canonical())
    return manifest


def verify_release(folder: Path, digest: str) -> Manifest:
    """Hash a downloaded release again. Raises IntegrityError naming the file that is missing or changed."""
    try:
        data = (folder / MANIFEST).read_bytes()
    except FileNotFoundError as error:
        raise IntegrityError(f"{folder / MANIFEST} is missing; remove the folder, it is downloaded again") from error
    manifest = parse_manifest(data, digest, str(folder))
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.is_file() or sha256(path) != entry.sha256:
            fault = "changed" if path.is_file() else "is missing"
            raise IntegrityError(f"{path} {fault} since it was downloaded; remove {folder}, it is downloaded again")
    return manifest


def list_releases(store: Store) -> list[str]:
    """Digests of the published releases, newest first."""
    found = sorted(store.entries("manifests/"), key=lambda stored: (stored.modified, stored.key), reverse=True)
    return [match[1] for stored in found if (match := re.fullmatch(r"manifests/([0-9a-f]{64})\.json", stored.key))]


def resolve(store: Store, name: str) -> str:
    """The digest meant by its first digits, or by `latest`. Raises ConfigurationError when none or several are."""
    if DIGEST.fullmatch(name):
        return name
    found = list_releases(store)
    if name == "latest":
        found = found[:1]
    elif not re.fullmatch(rf"[0-9a-f]{{{SHORTEST},63}}", name):
        raise ConfigurationError(f"{name!r} names no release: give `latest` or {SHORTEST} or more hexadecimal digits")
    else:
        found = [digest for digest in found if digest.startswith(name)]
    if not found:
        raise ConfigurationError(f"{store.place} holds no release {name}; publish one first (`pointsman run`)")
    if len(found) > 1:
        raise ConfigurationError(
            f"{name} is ambiguous in {store.place}: " + ", ".join(sorted(digest[:16] for digest in found))
        )
    return found[0]


def _fetch_file(store: Store, name: str, entry: FileEntry, path: Path) -> None:
    chunks = store.read(blob_key(entry.sha256))
    if chunks is None:
        raise IntegrityError(f"{store.place}: the release lacks {name} (blob {entry.sha256[:16]}…); publish it again")
    path.parent.mkdir(parents=True, exist_ok=True)
    found = hashlib.sha256()
    with path.open("wb") as handle:
        for chunk in chunks:
            found.update(chunk)
            handle.write(chunk)
    if found.hexdigest() != entry.sha256:
        raise IntegrityError(f"{store.place}: {name} does not hash as the manifest says; do not use this release")
