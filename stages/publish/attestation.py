"""Who built a release from which commit: an in-toto statement with SLSA's provenance, beside the release.

Not in it, since a commit that changes nothing makes no other release. A release may have several, each created once and
named by its own SHA-256: a DSSE envelope, in the bundle of whoever signs the release where somebody does.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from stages.publish.claim import read_claim
from stages.publish.keys import attestation_key, attestations_of
from stages.publish.manifest import MANIFEST, canonical_json
from stages.publish.provenance import PREDICATE, STATEMENT, named_image, slsa
from stages.publish.signature import Signer, Trusted, envelope, read_payload
from stages.publish.store import Store
from stages.shared.errors import ConfigurationError, IntegrityError

COMMIT_ENV = "POINTSMAN_COMMIT"
COMMIT = re.compile(r"[0-9a-f]{40}\+?")


@dataclass(frozen=True)
class Build:
    """One attestation, read."""

    commit: str
    """40 digits, with `+` where tracked files were not as committed."""
    signer: str | None
    """The trusted key, by its file, or identity that signed it."""


def commit_from_environment() -> str | None:
    """The commit that is built from, with `+` where files were changed; None where nobody says.

    Raises ConfigurationError for one that is none.
    """
    commit = os.environ.get(COMMIT_ENV)
    if commit and not COMMIT.fullmatch(commit):
        raise ConfigurationError(f"{COMMIT_ENV}={commit!r} is no commit; give all 40 digits, or unset it")
    return commit or None


def seal_build(digest: str, commit: str, signer: Signer | None) -> bytes:
    """The attestation that a release was built from a commit. Raises as the signer does."""
    statement = canonical_json(_statement(digest, commit))
    return canonical_json(envelope(statement)) if signer is None else signer.seal(statement).bundle


def attest(store: Store, digest: str, sealed: bytes) -> None:
    """Keep an attestation; where the same signer has said the same before, nothing is added."""
    said = _said(sealed, "the attestation")
    for stored in store.entries(attestations_of(digest)):
        with suppress(IntegrityError):
            if _said(_content(store, stored.key, digest), stored.key) == said:
                return
    name = hashlib.sha256(sealed).hexdigest()
    store.create(attestation_key(digest, name), sealed, name)


def read_builds(store: Store, digest: str, trusted: Sequence[Trusted]) -> list[Build]:
    """Every attestation of a release.

    Raises IntegrityError for one that was changed, is another release's, or is not by the trusted key or identity that
    it names.
    """
    return [_read(store, stored.key, digest, trusted) for stored in store.entries(attestations_of(digest))]


def _said(sealed: bytes, where: str) -> tuple[bytes, str | None]:
    """The statement, and who claims to have signed it."""
    return read_payload(sealed, where), _claimed(sealed, where)


def _claimed(sealed: bytes, where: str) -> str | None:
    return read_claim(sealed, where).id if b"verificationMaterial" in sealed else None


def _content(store: Store, key: str, digest: str) -> bytes:
    content = b"".join(store.read(key) or ())
    if attestation_key(digest, hashlib.sha256(content).hexdigest()) != key:
        raise IntegrityError(f"{store.place}: {key} does not hash to its name; do not believe it")
    return content


def _signer(sealed: bytes, trusted: Sequence[Trusted], where: str) -> str | None:
    """An envelope without a bundle, as keys signed before there were identities, does not say whose: all are tried."""
    claimed = _claimed(sealed, where)
    for each in trusted:
        if each.id == claimed:
            each.open(sealed, where)
            return each.origin
        with suppress(IntegrityError):
            if claimed is None and each.open(sealed, where):
                return each.origin
    return None


def _read(store: Store, key: str, digest: str, trusted: Sequence[Trusted]) -> Build:
    content, where = _content(store, key, digest), f"{store.place}: {key}"
    try:
        statement = json.loads(read_payload(content, where))
        made_from = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
        source = next(each for each in made_from if each["name"] == "source")
        commit = source["digest"]["gitCommit"] + "+" * bool(source.get("annotations"))
        about = statement["subject"]
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        raise IntegrityError(f"{where} is no attestation: {error!r}; do not believe it") from error
    if about != _subject(digest):
        raise IntegrityError(f"{where} is about another release; do not believe it")
    return Build(commit, _signer(content, trusted, where))


def _statement(digest: str, commit: str) -> dict[str, Any]:
    source: dict[str, Any] = {"name": "source", "digest": {"gitCommit": commit.removesuffix("+")}}
    if commit.endswith("+"):
        source["annotations"] = {"changed": True}
    predicate = slsa({}, [source, *named_image()])
    return {"_type": STATEMENT, "subject": _subject(digest), "predicateType": PREDICATE, "predicate": predicate}


def _subject(digest: str) -> list[dict[str, Any]]:
    return [{"name": MANIFEST, "digest": {"sha256": digest}}]
