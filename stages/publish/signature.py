"""Signatures in the format of OpenSSF Model Signing 1.0: an in-toto statement in a DSSE envelope in a Sigstore bundle.

`model_signing verify key FOLDER --signature FOLDER/model.sig --public-key KEY` checks a pulled release without
Pointsman. Written with `cryptography` alone: that package takes a second to load, and promotion has two. Deterministic
(RFC 6979): to sign the same release again gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from stages.publish.manifest import MANIFEST, Manifest, canonical_json
from stages.shared.errors import ConfigurationError, IntegrityError
from stages.shared.params import PublishParams

SIGNATURE = "model.sig"
"""The signature's name beside the files of a pulled release; no part of the release itself."""
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"
SUFFIX = ".pub"


@dataclass(frozen=True)
class PublicKey:
    """Who may sign: a key, and the file that it came from, for messages."""

    key: ec.EllipticCurvePublicKey
    origin: str

    @property
    def id(self) -> str:
        """Hex SHA-256 of the key in PEM, as the format has it."""
        return key_id(self.key)


def make_keys(path: Path) -> None:
    """Write a new private key (P-256, PEM, for its owner's eyes) to `path` and its public half to `path`.pub.

    Raises ConfigurationError where one of the two is there already.
    """
    public = path.with_name(path.name + SUFFIX)
    for each in (path, public):
        if each.exists():
            raise ConfigurationError(f"{each} exists, and a key is never overwritten; choose another path")
    key = ec.generate_private_key(ec.SECP256R1())
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
        handle.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def load_private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A private key that signs. Raises ConfigurationError for a file that holds none of the curve P-256."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{path} is no private key: {error}; make one: pointsman keys PATH") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigurationError(f"{path}: not an elliptic key of the curve P-256; make one: pointsman keys PATH")
    return key


def key_from_environment(params: PublishParams) -> ec.EllipticCurvePrivateKey | None:
    """The key at the path that the variable `publish.signing_key_env` holds; None where it is not set."""
    path = os.environ.get(params.signing_key_env)
    return load_private_key(Path(path)) if path else None


def load_public_key(path: Path) -> PublicKey:
    """A public key that is trusted. Raises ConfigurationError for a file that holds none of the curve P-256."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{path} is no public key: {error}; `pointsman keys PATH` writes PATH.pub") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigurationError(f"{path}: not an elliptic key of the curve P-256")
    return PublicKey(key, str(path))


def key_id(key: ec.EllipticCurvePublicKey) -> str:
    """Hex SHA-256 of a public key in PEM."""
    return hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def sign(manifest: Manifest, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A bundle that signs every file of a release, and its manifest."""
    return canonical_json({
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": key_id(key.public_key())}, "tlogEntries": []},
        "dsseEnvelope": envelope(canonical_json(_statement(manifest)), key),
    })  # fmt: skip


def envelope(payload: bytes, key: ec.EllipticCurvePrivateKey | None) -> dict[str, Any]:
    """A statement in a DSSE envelope, signed where there is a key."""
    signatures = []
    if key is not None:
        signed = key.sign(_envelope(payload), ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        signatures = [{"sig": base64.b64encode(signed).decode(), "keyid": ""}]
    return {"payload": base64.b64encode(payload).decode(), "payloadType": PAYLOAD, "signatures": signatures}


def open_envelope(sealed: Any, trusted: Sequence[PublicKey], where: str) -> tuple[bytes, str | None]:
    """The statement in a DSSE envelope, and the file of the first trusted key that signed it; None: nobody trusted did.

    Raises IntegrityError for what is no envelope.
    """
    try:
        payload = base64.b64decode(sealed["payload"], validate=True)
        signatures = [base64.b64decode(each["sig"], validate=True) for each in sealed["signatures"]]
    except (ValueError, LookupError, TypeError) as error:
        raise IntegrityError(f"{where}: not a signed statement: {error!r}") from error
    for key in trusted:
        for signature in signatures:
            with suppress(InvalidSignature):
                key.key.verify(signature, _envelope(payload), ec.ECDSA(hashes.SHA256()))
                return payload, key.origin
    return payload, None


def check_signature(bundle: bytes, manifest: Manifest, key: PublicKey, where: str) -> None:
    """Raise IntegrityError unless the bundle signs exactly this release with exactly this key."""
    try:
        envelope = json.loads(bundle)["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
        key.key.verify(signature, _envelope(payload), ec.ECDSA(hashes.SHA256()))
        signed = _signed_files(json.loads(payload))
    except InvalidSignature as error:
        raise IntegrityError(f"{where}: the signature is not made with {key.origin}, or was changed") from error
    except (ValueError, LookupError, TypeError) as error:
        raise IntegrityError(f"{where}: not a signature of a release: {error!r}") from error
    if signed != _files(manifest):
        raise IntegrityError(f"{where}: the signature is for other files than those of release {manifest.digest[:16]}")


def _files(manifest: Manifest) -> dict[str, str]:
    return {MANIFEST: manifest.digest} | {name: entry.sha256 for name, entry in manifest.files.items()}


def _statement(manifest: Manifest) -> dict[str, Any]:
    files = sorted(_files(manifest).items())
    root = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in files)).hexdigest()
    return {
        "_type": STATEMENT,
        "subject": [{"name": f"pointsman-{manifest.digest[:16]}", "digest": {"sha256": root}}],
        "predicateType": PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": [SIGNATURE],
            },
            "resources": [{"name": name, "algorithm": "sha256", "digest": digest} for name, digest in files],
        },
    }  # fmt: skip


def _signed_files(statement: dict[str, Any]) -> dict[str, str]:
    if (statement["_type"], statement["predicateType"]) != (STATEMENT, PREDICATE):
        raise ValueError(f"a statement of {statement['predicateType']}")
    return {each["name"]: each["digest"] for each in statement["predicate"]["resources"]}


def _envelope(payload: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding."""
    return f"DSSEv1 {len(PAYLOAD)} {PAYLOAD} {len(payload)} ".encode() + payload
