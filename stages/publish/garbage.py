"""What no release needs: blobs, signatures and half of an upload that a publisher left behind when it died."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from stages.publish.fetch import list_releases, read_manifest
from stages.publish.keys import blob_key
from stages.publish.store import Store, Stored
from stages.shared.errors import IntegrityError

KINDS = ("blobs", "signatures", "attestations")
"""Of objects that may belong to no release; of the last two the release is part of the key."""


def collect(store: Store, older_than: timedelta, *, dry_run: bool = False) -> list[Stored]:
    """Remove the objects that belong to no release and are older than `older_than`; what they were.

    The age must be longer than any publish takes: a publisher's blobs belong to nothing until it commits. Raises
    IntegrityError, and removes nothing, when a manifest cannot be read, and once all is removed, when a release was
    committed meanwhile that rests on it.
    """
    limit = datetime.now(UTC) - older_than
    ours = (stored for kind in KINDS for stored in store.entries(f"{kind}/"))
    old = [stored for stored in ours if stored.modified < limit]
    releases = list_releases(store)
    needed = {key for digest in releases for key in _blobs(store, digest)}
    published = tuple(f"{kind}/{digest}/" for kind in KINDS[1:] for digest in releases)
    garbage = [stored for stored in old if stored.key not in needed and not stored.key.startswith(published)]
    if not dry_run:
        for stored in garbage:
            store.remove(stored.key)
        _refuse_robbed(store, {stored.key for stored in garbage}, known=releases)
    return garbage + store.abandon(blob_key(""), limit, dry_run=dry_run)


def _blobs(store: Store, digest: str) -> set[str]:
    return {blob_key(entry.sha256) for entry in read_manifest(store, digest).files.values()}


def _refuse_robbed(store: Store, removed: set[str], known: list[str]) -> None:
    """A publisher puts back what was collected until it commits, and may have looked just before we did it."""
    robbed = [each for each in list_releases(store) if each not in known and _blobs(store, each) & removed]
    if robbed:
        raise IntegrityError(
            f"{store.place}: published while what they share with garbage was collected: {', '.join(robbed)}; publish "
            "them again, then `pointsman verify`"
        )
