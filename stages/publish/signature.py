"""Signatures in the format of OpenSSF Model Signing 1.0: an in-toto statement in a DSSE envelope in a Sigstore bundle.

`model_signing verify key FOLDER --signature FOLDER/model.sig --public-key KEY` checks a pulled release without
Pointsman. Signing with a key is written with `cryptography` alone: that package takes a second to load, and promotion
has two. Deterministic (RFC 6979): to sign the same release again gives the same bytes. Without a key: keyless.py.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

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
from stages.shared.files import read_bytes, writing

SIGNATURE = "model.sig"
"""The signature's name beside the files of a pulled release; no part of the release itself."""
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"
SUFFIX = ".pub"


class Trusted(Protocol):
    """Who may sign: a key (PublicKey), or an identity (keyless.TrustedIdentity)."""

    @property
    def id(self) -> str:
        """Names their signatures in a store."""
        ...

    @property
    def origin(self) -> str:
        """What they are called, for messages."""
        ...

    def open(self, bundle: bytes, where: str) -> bytes:
        """The statement that they have signed. Raises IntegrityError for a bundle that is not theirs, or changed."""
        ...


@dataclass(frozen=True)
class Sealed:
    """A statement in a bundle, and who must be trusted to believe it."""

    bundle: bytes
    by: Trusted


class Signer(Protocol):
    """Signs with a key (PrivateKey), or by an identity (keyless_signer.IdentitySigner)."""

    def seal(self, statement: bytes) -> Sealed:
        """Sign an in-toto statement."""
        ...


@dataclass(frozen=True)
class PublicKey:
    """A key that may sign, and the file that it came from, for messages."""

    key: ec.EllipticCurvePublicKey
    origin: str

    @property
    def id(self) -> str:
        """Hex SHA-256 of the key in PEM, as the format has it."""
        pem = self.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(pem).hexdigest()

    def open(self, bundle: bytes, where: str) -> bytes:
        """The statement that this key has signed. Raises IntegrityError for any other bundle."""
        try:
            found = json.loads(bundle)
            sealed = found.get("dsseEnvelope", found)
            payload = base64.b64decode(sealed["payload"], validate=True)
            signature = base64.b64decode(sealed["signatures"][0]["sig"], validate=True)
            self.key.verify(signature, _signed_bytes(payload), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise IntegrityError(f"{where}: the signature is not made with {self.origin}, or was changed") from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise IntegrityError(f"{where}: not a signature: {error!r}") from error
        return payload


@dataclass(frozen=True)
class PrivateKey:
    """A key that signs, and the file that it came from, for messages."""

    key: ec.EllipticCurvePrivateKey
    origin: str

    def seal(self, statement: bytes) -> Sealed:
        """Sign an in-toto statement; to sign the same again gives the same bytes."""
        public = PublicKey(self.key.public_key(), self.origin)
        signed = self.key.sign(_signed_bytes(statement), ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        bundle = canonical_json({
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": public.id}, "tlogEntries": []},
            "dsseEnvelope": envelope(statement, signed),
        })  # fmt: skip
        return Sealed(bundle, public)


def make_keys(path: Path) -> None:
    """Write a new private key (P-256, PEM, for its owner's eyes) to `path` and its public half to `path`.pub.

    Raises ConfigurationError where one of the two is there already, and where no file can be written.
    """
    public = path.parent / (path.name + SUFFIX)
    key = ec.generate_private_key(ec.SECP256R1())
    with writing(path):
        for each in (path, public):
            if each.exists():
                raise ConfigurationError(f"{each} exists, and a key is never overwritten; choose another path")
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
            handle.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def load_private_key(path: Path) -> PrivateKey:
    """A private key that signs. Raises ConfigurationError for a file that holds none of the curve P-256."""
    try:
        key = load_pem_private_key(read_bytes(path), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{path} is no private key: {error}; make one: pointsman keys PATH") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigurationError(f"{path}: not an elliptic key of the curve P-256; make one: pointsman keys PATH")
    return PrivateKey(key, str(path))


def load_public_key(path: Path) -> PublicKey:
    """A public key that is trusted. Raises ConfigurationError for a file that holds none of the curve P-256."""
    try:
        key = load_pem_public_key(read_bytes(path))
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{path} is no public key: {error}; `pointsman keys PATH` writes PATH.pub") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigurationError(f"{path}: not an elliptic key of the curve P-256")
    return PublicKey(key, str(path))


def sign(manifest: Manifest, signer: Signer) -> Sealed:
    """A bundle that signs every file of a release, and its manifest."""
    return signer.seal(canonical_json(_statement(manifest)))


def envelope(payload: bytes, *signatures: bytes) -> dict[str, Any]:
    """A statement in a DSSE envelope."""
    signed = [{"sig": base64.b64encode(each).decode(), "keyid": ""} for each in signatures]
    return {"payload": base64.b64encode(payload).decode(), "payloadType": PAYLOAD, "signatures": signed}


def read_payload(sealed: bytes, where: str) -> bytes:
    """The statement in a DSSE envelope or its bundle, whoever signed it. Raises IntegrityError for what is neither."""
    try:
        found = json.loads(sealed)
        return base64.b64decode(found.get("dsseEnvelope", found)["payload"], validate=True)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{where}: not a signed statement: {error!r}") from error


def check_signature(bundle: bytes, manifest: Manifest, trusted: Trusted, where: str) -> None:
    """Raise IntegrityError unless the bundle signs exactly this release, by exactly this key or identity."""
    _check_statement(trusted.open(bundle, where), manifest, where)


def check_claim(bundle: bytes, manifest: Manifest, where: str) -> None:
    """Raise IntegrityError unless the bundle says that it signs exactly this release; by whom, nobody can check."""
    _check_statement(read_payload(bundle, where), manifest, where)


def _check_statement(statement: bytes, manifest: Manifest, where: str) -> None:
    try:
        signed = _signed_files(json.loads(statement))
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


def _signed_bytes(payload: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding."""
    return f"DSSEv1 {len(PAYLOAD)} {PAYLOAD} {len(payload)} ".encode() + payload
