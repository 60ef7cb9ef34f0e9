"""What a Sigstore bundle says of who signed it: words for people, and where to look. Nothing here is checked."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from cryptography import x509

from stages.publish.manifest import canonical_json
from stages.shared.errors import IntegrityError

ISSUER, OTHER_NAME = "1.3.6.1.4.1.57264.1.1", "1.3.6.1.4.1.57264.1.7"
"""Fulcio's extensions of a certificate: https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md."""
KEY_ID = re.compile(r"[0-9a-f]{64}")
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, x509.ExtensionNotFound, x509.DuplicateExtension)
"""What reading something that is no bundle raises."""


@dataclass(frozen=True)
class Claim:
    """Who a signature says that made it: a key, or an identity and the provider that vouches for it."""

    id: str | None
    """Names the signer in a store; None where the signature names nobody."""
    identity: str | None = None
    issuer: str | None = None
    log_index: int | None = None
    """Its place in the transparency log."""
    logged: str | None = None
    """When the log took it, UTC."""

    def __str__(self) -> str:
        if self.identity is not None:
            return f"{self.identity} (issuer {self.issuer})"
        return f"key {self.id[:16]}" if self.id else "nobody"


def identity_id(identity: str, issuer: str) -> str:
    """Names an identity in a store: hex SHA-256, as a key's."""
    return sha256(canonical_json({"identity": identity, "issuer": issuer})).hexdigest()


def read_claim(bundle: bytes, where: str) -> Claim:
    """Raises IntegrityError for what is no bundle."""
    try:
        material = json.loads(bundle)["verificationMaterial"]
        if "certificate" not in material:
            return Claim(_key_id(material["publicKey"]["hint"]))
        identity, issuer = _subject(base64.b64decode(material["certificate"]["rawBytes"], validate=True))
        index, logged = _logged(material)
    except UNREADABLE as error:
        raise IntegrityError(f"{where}: not a signature: {error!r}") from error
    return Claim(identity_id(identity, issuer), identity, issuer, index, logged)


def _subject(der: bytes) -> tuple[str, str]:
    """Whom a certificate of Fulcio names, and who vouches for it."""
    certificate = x509.load_der_x509_certificate(der)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    found = [*names.get_values_for_type(x509.UniformResourceIdentifier), *names.get_values_for_type(x509.RFC822Name)]
    others = names.get_values_for_type(x509.OtherName)
    found += [each.value.decode() for each in others if each.type_id.dotted_string == OTHER_NAME]
    issuer = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(ISSUER)).value
    if len(found) != 1 or not isinstance(issuer, x509.UnrecognizedExtension):
        raise ValueError(f"a certificate for {len(found)} names")
    said = found[0], issuer.value.decode()
    if not all(each.isprintable() for each in said):
        raise ValueError("a certificate for a name that cannot be shown")
    return said


def _key_id(hint: str) -> str:
    if not KEY_ID.fullmatch(hint):
        raise ValueError("a key that is not named by its SHA-256")
    return hint


def _logged(material: dict[str, Any]) -> tuple[int | None, str | None]:
    entries = material.get("tlogEntries") or [{}]
    index, seconds = entries[0].get("logIndex"), entries[0].get("integratedTime")
    when = datetime.fromtimestamp(int(seconds), UTC).isoformat() if seconds is not None else None
    return (None if index is None else int(index)), when
