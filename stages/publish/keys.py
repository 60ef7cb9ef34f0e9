"""Where in a store the parts of a release are."""

from __future__ import annotations


def blob_key(digest: str) -> str:
    """Where the content with this SHA-256 is kept."""
    return f"blobs/sha256/{digest}"


def signatures_of(digest: str) -> str:
    """What the keys of all signatures of a release begin with."""
    return f"signatures/{digest}/"


def signature_key(digest: str, signer: str) -> str:
    """Where the signature of a release by the key or identity of this id is kept."""
    return f"{signatures_of(digest)}{signer}.json"


def attestations_of(digest: str) -> str:
    """What the keys of all that is attested of a release begin with."""
    return f"attestations/{digest}/"


def attestation_key(digest: str, name: str) -> str:
    """Where an attestation of a release, named by its own SHA-256, is kept."""
    return f"{attestations_of(digest)}{name}.json"


def manifest_key(digest: str) -> str:
    """Where the manifest of this release is kept: what is listed there is published."""
    return f"manifests/{digest}.json"
