"""Who built a release from which commit: an in-toto statement with SLSA's provenance, beside the release.

Not in it, since a commit that changes nothing makes no other release. A release may have several, each created once and
named by its own SHA-256, in a DSSE envelope that is signed where the release is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.publish.keys import attestation_key, attestations_of
from stages.publish.manifest import MANIFEST, canonical_json
from stages.publish.provenance import PREDICATE, STATEMENT, named_image, slsa
from stages.publish.signature import PublicKey, envelope, open_envelope
from stages.publish.store import Store
from stages.shared.errors import ConfigurationError, IntegrityError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

COMMIT_ENV = "POINTSMAN_COMMIT"
COMMIT = re.compile(r"[0-9a-f]{40}\+?")


@dataclass(frozen=True)
class Build:
    """One attestation, read."""

    commit: str
    """40 digits, with `+` where tracked files were not as committed."""
    signer: str | None
    """The file of the trusted key that signed it."""


def commit_from_environment() -> str | None:
    """The commit that is built from, with `+` where files were changed; None where nobody says.

    Raises ConfigurationError for one that is none.
    """
    commit = os.environ.get(COMMIT_ENV)
    if commit and not COMMIT.fullmatch(commit):
        raise ConfigurationError(f"{COMMIT_ENV}={commit!r} is no commit; give all 40 digits, or unset it")
    return commit or None


def attest(store: Store, digest: str, commit: str, signer: EllipticCurvePrivateKey | None) -> None:
    """Say that the release was built from a commit; to say the same again adds nothing."""
    content = canonical_json(envelope(canonical_json(_statement(digest, commit)), signer))
    name = hashlib.sha256(content).hexdigest()
    store.create(attestation_key(digest, name), content, name)


def read_builds(store: Store, digest: str, trusted: Sequence[PublicKey]) -> list[Build]:
    """Every attestation of a release. Raises IntegrityError for one that was changed or is another release's."""
    return [_read(store, stored.key, digest, trusted) for stored in store.entries(attestations_of(digest))]


def _read(store: Store, key: str, digest: str, trusted: Sequence[PublicKey]) -> Build:
    content, where = b"".join(store.read(key) or ()), f"{store.place}: {key}"
    if attestation_key(digest, hashlib.sha256(content).hexdigest()) != key:
        raise IntegrityError(f"{where} does not hash to its name; do not believe it")
    try:
        payload, signer = open_envelope(json.loads(content), trusted, where)
        statement = json.loads(payload)
        made_from = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
        source = next(each for each in made_from if each["name"] == "source")
        commit = source["digest"]["gitCommit"] + "+" * bool(source.get("annotations"))
        about = statement["subject"]
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        raise IntegrityError(f"{where} is no attestation: {error!r}; do not believe it") from error
    if about != _subject(digest):
        raise IntegrityError(f"{where} is about another release; do not believe it")
    return Build(commit, signer)


def _statement(digest: str, commit: str) -> dict[str, Any]:
    source: dict[str, Any] = {"name": "source", "digest": {"gitCommit": commit.removesuffix("+")}}
    if commit.endswith("+"):
        source["annotations"] = {"changed": True}
    predicate = slsa({}, [source, *named_image()])
    return {"_type": STATEMENT, "subject": _subject(digest), "predicateType": PREDICATE, "predicate": predicate}


def _subject(digest: str) -> list[dict[str, Any]]:
    return [{"name": MANIFEST, "digest": {"sha256": digest}}]
