"""What no release needs: blobs, signatures and half of an upload that a publisher left behind when it died."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from stages.publish.fetch import list_releases, read_manifest
from stages.publish.keys import blob_key
from stages.publish.store import Store, Stored

KINDS = ("blobs", "signatures", "attestations")
"""Of objects that may belong to no release; of the last two the release is part of the key."""


def collect(store: Store, older_than: timedelta, *, dry_run: bool = False) -> list[Stored]:
    """Remove the objects that belong to no release and are older than `older_than`; what they were.

    The age must be longer than any publish takes: a publisher's blobs belong to nothing until it commits. Raises
    IntegrityError, and removes nothing, when a manifest cannot be read.
    """
    limit = datetime.now(UTC) - older_than
    ours = (stored for kind in KINDS for stored in store.entries(f"{kind}/"))
    old = [stored for stored in ours if stored.modified < limit]
    releases = list_releases(store)
    needed = {blob_key(entry.sha256) for digest in releases for entry in read_manifest(store, digest).files.values()}
    published = tuple(f"{kind}/{digest}/" for kind in KINDS[1:] for digest in releases)
    garbage = [stored for stored in old if stored.key not in needed and not stored.key.startswith(published)]
    for stored in garbage:
        if not dry_run:
            store.remove(stored.key)
    return garbage + store.abandon(blob_key(""), limit, dry_run=dry_run)
