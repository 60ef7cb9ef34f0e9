"""A release back out of a store: nothing is used that does not hash to its name."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.publish.claim import Claim, read_claim
from stages.publish.keys import blob_key, manifest_key, signature_key, signatures_of
from stages.publish.manifest import DIGEST, MANIFEST, SCHEMA, FileEntry, Manifest, parse_manifest
from stages.publish.signature import SIGNATURE, Trusted, check_claim, check_signature
from stages.publish.store import Hashed, Store
from stages.publish.window import side_by_side
from stages.shared.errors import ConfigurationError, IntegrityError
from stages.shared.files import atomic_folder, atomic_path, read_bytes, sha256

REFUSALS = frozenset({
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG,
})  # fmt: skip
"""Of a folder that a user named."""
PART = re.compile(rf"\.{DIGEST.pattern}\.\d+(\.old)?\.part")
"""What `atomic_folder` names a release that is not whole yet."""
ABANDONED = 24 * 3600
"""Seconds."""
SHORTEST = 6
"""Digits of a digest that may stand for the whole."""
LONGEST = 1 << 24
"""Bytes of a manifest or a signature."""


@dataclass(frozen=True)
class Signed:
    """A signature that was checked, and the trusted key, by its file, or identity that made it."""

    bundle: bytes
    signer: str


def fetch_release(store: Store, digest: str, folder: Path, signed: Signed | None = None) -> Manifest:
    """Download a release into `folder`, which appears whole and verified or not at all, its signature beside it.

    Raises ConfigurationError when the store has no such release, IntegrityError naming the missing or changed file.
    """
    manifest = read_manifest(store, digest)
    _sweep(folder.parent)
    with atomic_folder(folder) as part:
        list(side_by_side(lambda name: _fetch_file(store, name, manifest.files[name], part / name), _sizes(manifest)))
        (part / MANIFEST).write_bytes(manifest.canonical())
        if signed is not None:
            (part / SIGNATURE).write_bytes(signed.bundle)
    return manifest


def bring(store: Store, digest: str, folder: Path, signed: Signed | None = None) -> None:
    """Have a release in `folder`, whole and with this signature beside it; downloaded where it is not there yet.

    Raises ConfigurationError for a folder that holds something else or cannot be written, and as `fetch_release`.
    """
    try:
        if folder.exists() and not (folder.is_dir() and (is_release(folder) or not any(folder.iterdir()))):
            raise ConfigurationError(
                f"{folder} holds something else than a release, or a damaged one; remove it, or choose another: "
                "--to FOLDER"
            )
        if not holds(folder, digest):
            fetch_release(store, digest, folder, signed)
        elif signed is not None:
            with atomic_path(folder / SIGNATURE) as part:
                part.write_bytes(signed.bundle)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        raise ConfigurationError(
            f"{folder} cannot be written: {error.strerror}; choose another: --to FOLDER"
        ) from error


def _sweep(folder: Path) -> None:
    """Remove what downloads that were killed have left in there: hidden, as large as a release, and no use to anybody.

    One that goes on for longer than `ABANDONED` is not told apart from them.
    """
    for part in folder.glob(".*.part"):
        if PART.fullmatch(part.name) and time.time() - part.stat().st_mtime > ABANDONED:
            shutil.rmtree(part, ignore_errors=True)


def read_manifest(store: Store, digest: str) -> Manifest:
    """What a release consists of.

    Raises ConfigurationError when the store has no such release, IntegrityError for a manifest that was changed.
    """
    data = store.read(manifest_key(digest))
    if data is None:
        raise ConfigurationError(f"{store.place} holds no release {digest}; publish it first (`pointsman run`)")
    return parse_manifest(_whole(data, store.place), digest, f"{store.place}: release {digest[:16]}")


def read_json(store: Store, manifest: Manifest, name: str) -> dict[str, Any]:
    """A small JSON file of a release. Raises IntegrityError where it is missing or changed."""
    entry = manifest.files.get(name)
    if entry is None:
        raise IntegrityError(f"{store.place}: release {manifest.digest[:16]} has no {name}")
    data = _content(store, name, entry)
    try:
        found = json.loads(data)
    except ValueError as error:
        raise IntegrityError(f"{store.place}: {name} of release {manifest.digest[:16]} is no JSON: {error}") from error
    return found if isinstance(found, dict) else {}


def find_signature(store: Store, manifest: Manifest, trusted: Sequence[Trusted]) -> Signed | None:
    """The signature of a release by the first key or identity of `trusted` that has signed it; None where none has.

    Raises IntegrityError for a signature in a trusted one's name that is not its own.
    """
    for each in trusted:
        chunks = store.read(signature_key(manifest.digest, each.id))
        if chunks is not None:
            bundle = _whole(chunks, store.place)
            check_signature(bundle, manifest, each, f"{store.place}: release {manifest.digest[:16]}")
            return Signed(bundle, each.origin)
    return None


def list_claims(store: Store, digest: str) -> list[Claim]:
    """Who has signed a release by the signatures' own account, whether or not that holds."""
    return [_claim(store, stored.key) for stored in store.entries(signatures_of(digest))]


def check_claims(store: Store, manifest: Manifest) -> None:
    """What can be told of signatures that nobody here trusts: whose they say they are, and of which release.

    Raises IntegrityError for one that is damaged, another signer's than its name says, or of another release.
    """
    for stored in store.entries(signatures_of(manifest.digest)):
        bundle, where = _whole(store.read(stored.key) or (), store.place), f"{store.place}: {stored.key}"
        check_claim(bundle, manifest, where)
        if stored.key != signature_key(manifest.digest, str(read_claim(bundle, where).id)):
            raise IntegrityError(f"{where}: another has signed this than its name says; do not believe it")


def _claim(store: Store, key: str) -> Claim:
    try:
        return read_claim(_whole(store.read(key) or (), store.place), key)
    except IntegrityError:
        return Claim(None)


def _whole(chunks: Iterable[bytes], place: str) -> bytes:
    """A manifest or a signature. Raises IntegrityError for what is too long to be one."""
    found = bytearray()
    for chunk in chunks:
        found += chunk
        if len(found) > LONGEST:
            raise IntegrityError(
                f"{place}: a manifest or signature of more than {LONGEST:,} bytes; do not use this store"
            )
    return bytes(found)


def find_missing(store: Store, manifest: Manifest) -> list[str]:
    """The files of a release that the store lacks or holds in another size: cheap, for `verify` hashes them all."""
    sizes = {stored.key: stored.bytes for stored in store.entries(blob_key(""))}
    return [name for name, entry in manifest.files.items() if sizes.get(blob_key(entry.sha256)) != entry.bytes]


def verify_stored(store: Store, digest: str, done: Callable[[str], None] = lambda name: None) -> list[str]:
    """Hash every file of a release in the store again; what is wrong with it, nothing when all is well."""
    try:
        manifest = read_manifest(store, digest)
    except (IntegrityError, ConfigurationError) as error:
        return [str(error)]
    faults = []
    for name, fault in side_by_side(lambda name: _fault(store, name, manifest.files[name]), _sizes(manifest)):
        faults += [] if fault is None else [f"release {digest[:16]}: {fault}"]
        done(name)
    return faults


def verify_release(folder: Path, digest: str) -> Manifest:
    """Hash a downloaded release again. Raises IntegrityError naming the file that is missing or changed."""
    try:
        data = read_bytes(folder / MANIFEST)
    except FileNotFoundError as error:
        raise IntegrityError(f"{folder / MANIFEST} is missing; remove the folder, it is downloaded again") from error
    manifest = parse_manifest(data, digest, str(folder))
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.is_file() or sha256(path) != entry.sha256:
            fault = "changed" if path.is_file() else "is missing"
            raise IntegrityError(f"{path} {fault} since it was downloaded; remove {folder}, it is downloaded again")
    return manifest


def is_release(folder: Path) -> bool:
    """Whether a folder is one that a release was downloaded into: others have a manifest.json of another kind."""
    try:
        return bool(json.loads(read_bytes(folder / MANIFEST))["format"] == SCHEMA)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def holds(folder: Path, digest: str) -> bool:
    """Whether a folder holds this release, whole and unchanged."""
    try:
        verify_release(folder, digest)
    except IntegrityError:
        return False
    return True


def list_releases(store: Store) -> list[str]:
    """Digests of the published releases, newest first."""
    found = sorted(store.entries("manifests/"), key=lambda stored: (stored.modified, stored.key), reverse=True)
    return [match[1] for stored in found if (match := re.fullmatch(r"manifests/([0-9a-f]{64})\.json", stored.key))]


def resolve(store: Store, name: str) -> str:
    """The digest meant by its first digits, or by `latest`. Raises ConfigurationError when none or several are."""
    if DIGEST.fullmatch(name):
        return name
    there = list_releases(store)
    if name == "latest":
        found = there[:1]
    elif not re.fullmatch(rf"[0-9a-f]{{{SHORTEST},63}}", name):
        raise ConfigurationError(
            f"{name!r} names no release: give a channel (in lower case), `latest`, or at least {SHORTEST} hexadecimal "
            "digits"
        )
    else:
        found = [digest for digest in there if digest.startswith(name)]
    if not found:
        way = "`pointsman releases` lists them" if there else "publish one first (`pointsman run`)"
        raise ConfigurationError(f"{store.place} holds no release {name}; {way}")
    if len(found) > 1:
        raise ConfigurationError(
            f"{name} is ambiguous in {store.place}; give more digits of one: " + ", ".join(sorted(found))
        )
    return found[0]


def _sizes(manifest: Manifest) -> dict[str, int]:
    return {name: entry.bytes for name, entry in manifest.files.items()}


def _fault(store: Store, name: str, entry: FileEntry) -> str | None:
    try:
        _check(store, name, entry)
    except IntegrityError as error:
        return str(error)
    return None


def _fetch_file(store: Store, name: str, entry: FileEntry, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as handle:
        _check(store, name, entry, handle.fileno())


def _check(store: Store, name: str, entry: FileEntry, sink: int | None = None) -> None:
    """Hash a file, which is written into the sink. Raises IntegrityError where it is not what the manifest says."""
    _refuse_other(store, name, entry, store.hash(blob_key(entry.sha256), entry.bytes, sink))


def _content(store: Store, name: str, entry: FileEntry) -> bytes:
    """A small file. Raises IntegrityError where it is not what the manifest says."""
    found = bytearray()
    chunks = store.read(blob_key(entry.sha256))
    for chunk in chunks or ():
        found += chunk
        if len(found) > entry.bytes:
            break
    hashed = None if chunks is None else Hashed(hashlib.sha256(found).hexdigest(), len(found))
    _refuse_other(store, name, entry, hashed)
    return bytes(found)


def _refuse_other(store: Store, name: str, entry: FileEntry, found: Hashed | None) -> None:
    if found is None:
        raise IntegrityError(f"{store.place}: the release lacks {name} (blob {entry.sha256[:16]}…); publish it again")
    if (found.sha256, found.bytes) != (entry.sha256, entry.bytes):
        raise IntegrityError(
            f"{store.place}: {name} ({blob_key(entry.sha256)}) does not hash as the manifest says; do not use this "
            "release. Objects are never overwritten: remove that one there, and publish again"
        )
