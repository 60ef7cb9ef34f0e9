"""Sigstore on loopback, as small as its clients let it be: an OIDC issuer, Fulcio, Rekor (v1), a timestamp authority.

Nothing is left out that a client checks: Fulcio asks the issuer for its keys and checks the token with them, checks
that the applicant holds the key, and puts the promise of a certificate log into what it signs; Rekor checks the
signature that it is shown and answers with a signed entry timestamp, a proof of inclusion and a checkpoint (RFC 6962);
the timestamp authority signs its time (RFC 3161). Each has keys of its own.
"""

from __future__ import annotations

import base64
import json
import struct
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Json = dict[str, Any]
FULCIO = "1.3.6.1.4.1.57264.1."
SCTS = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
HOUR = timedelta(hours=1)
STAMP = "/api/v1/timestamp"
EARLIER = (b"what others", b"logged before", b"us")
"""Leaves that the log holds already, so that a proof of inclusion has something to prove."""


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def signed(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass
class Authority:
    """Fulcio: a root that certifies a key for ten minutes to whom an OIDC token names, with the promise of a log."""

    root_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    log_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    shift: timedelta = timedelta()
    """Certificates begin this much later than now."""

    def __post_init__(self) -> None:
        name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")]), datetime.now(UTC)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(self.root_key.public_key())
        made = made.serial_number(1).not_valid_before(now - 9 * HOUR).not_valid_after(now + 9 * HOUR)
        made = made.add_extension(x509.BasicConstraints(True, 0), critical=True).add_extension(usage, critical=True)
        skid = x509.SubjectKeyIdentifier.from_public_key(self.root_key.public_key())
        self.root = made.add_extension(skid, critical=False).sign(self.root_key, hashes.SHA256())

    def certify(self, token: str, request: x509.CertificateSigningRequest) -> list[x509.Certificate]:
        """Raises jwt.PyJWTError for a token that its issuer did not make, or that is over."""
        issuer = jwt.decode(token, options={"verify_signature": False})["iss"]
        with urllib.request.urlopen(f"{issuer}/.well-known/openid-configuration") as answer:
            keys = jwt.PyJWKClient(json.load(answer)["jwks_uri"])
        key = keys.get_signing_key_from_jwt(token).key
        claims = jwt.decode(token, key, algorithms=["ES256"], audience="sigstore", issuer=issuer)
        assert request.is_signature_valid
        return [self._leaf(claims["sub"], issuer, request.public_key()), self.root]

    def _leaf(self, identity: str, issuer: str, key: Any) -> x509.Certificate:
        start = datetime.now(UTC).replace(microsecond=0) + self.shift
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        skid = self.root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        who = x509.UniformResourceIdentifier(identity) if "://" in identity else x509.RFC822Name(identity)
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (usage, True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),
            (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(skid), False),
            (x509.SubjectAlternativeName([who]), True),
            (x509.UnrecognizedExtension(x509.ObjectIdentifier(FULCIO + "1"), issuer.encode()), False),
            (x509.UnrecognizedExtension(x509.ObjectIdentifier(FULCIO + "8"), _der(0x0C, issuer.encode())), False),
        ]
        made = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(self.root.subject).public_key(key)
        made = made.serial_number(x509.random_serial_number()).not_valid_before(start)
        made = made.not_valid_after(start + timedelta(minutes=10))
        for extension, critical in extensions:
            made = made.add_extension(extension, critical)
        promised = self._promise(made.sign(self.root_key, hashes.SHA256()).tbs_certificate_bytes)
        return made.add_extension(x509.UnrecognizedExtension(SCTS, promised), False).sign(
            self.root_key, hashes.SHA256()
        )

    def _promise(self, unlogged: bytes) -> bytes:
        """RFC 6962, 3.2 and 3.3: a list of one signed certificate timestamp, for a certificate without it."""
        stamp, issuer = struct.pack("!Q", int(time.time() * 1000)), sha256(spki(self.root_key)).digest()
        entry = b"\0\0" + stamp + b"\0\1" + issuer + len(unlogged).to_bytes(3, "big") + unlogged + b"\0\0"
        seal = signed(self.log_key, entry)
        one = b"\0" + sha256(spki(self.log_key)).digest() + stamp + b"\0\0" + b"\4\3" + _sized(seal)
        return _der(0x04, _sized(_sized(one)))


@dataclass
class Log:
    """Rekor: a Merkle tree of what was signed when, by whom."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    forger: ec.EllipticCurvePrivateKey | None = None
    """Signs the log's promises and checkpoints in its stead."""
    leaves: list[bytes] = field(default_factory=lambda: list(EARLIER))

    def enter(self, proposed: Json) -> Json:
        """The entry of a signed statement. Raises InvalidSignature."""
        content = proposed["spec"]["proposedContent"]
        envelope, verifier = json.loads(content["envelope"]), content["verifiers"][0]
        payload, seal = base64.b64decode(envelope["payload"]), base64.b64decode(envelope["signatures"][0]["sig"])
        kind = envelope["payloadType"]
        key = x509.load_pem_x509_certificate(base64.b64decode(verifier)).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(seal, f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload, ec.ECDSA(hashes.SHA256()))
        body = {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": {"algorithm": "sha256", "value": sha256(content["envelope"].encode()).hexdigest()},
                "payloadHash": {"algorithm": "sha256", "value": sha256(payload).hexdigest()},
                "signatures": [{"signature": b64(seal), "verifier": verifier}],
            },
        }
        self.leaves.append(_canonical(body))
        return {"uuid": self._entry(len(self.leaves) - 1)}

    def _entry(self, index: int) -> Json:
        key, log = self.forger or self.key, sha256(spki(self.key)).digest()
        said = {
            "body": b64(self.leaves[index]), "integratedTime": int(time.time()), "logID": log.hex(), "logIndex": index,
        }  # fmt: skip
        root = _root(self.leaves)
        note = f"loopback - 1\n{len(self.leaves)}\n{b64(root)}\n"
        proof = {
            "checkpoint": f"{note}\n\u2014 loopback {b64(log[:4] + signed(key, note.encode()))}\n",
            "hashes": [each.hex() for each in _proof(index, self.leaves)],
            "logIndex": index, "rootHash": root.hex(), "treeSize": len(self.leaves),
        }  # fmt: skip
        promise = b64(signed(key, _canonical(said)))
        return said | {"verification": {"inclusionProof": proof, "signedEntryTimestamp": promise}}


@dataclass
class Clock:
    """A timestamp authority: what it is shown was there at this time."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    root_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    shift: timedelta = timedelta()
    """It is this much ahead."""

    def __post_init__(self) -> None:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        self.root = self._certificate("root of time", self.root_key, x509.BasicConstraints(True, 0))
        self.own = self._certificate("time", self.key, purpose)

    def _certificate(
        self, name: str, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        subject, issuer = (
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, "root of time")
        )
        now = datetime.now(UTC)
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number()).add_extension(extension, critical=True)
        made = made.not_valid_before(now - 9 * HOUR).not_valid_after(now + 9 * HOUR)
        return made.sign(self.root_key, hashes.SHA256())

    def stamp(self, query: bytes) -> bytes:
        """The answer to a query, both in DER."""
        asked, der = tsp.TimeStampReq.load(query), self.own.public_bytes(Encoding.DER)
        own, digest = asn1.Certificate.load(der), algos.DigestAlgorithm({"algorithm": "sha256"})
        said = tsp.TSTInfo({
            "version": "v1", "policy": "1.2.3", "message_imprint": asked["message_imprint"], "serial_number": 1,
            "gen_time": (datetime.now(UTC) + self.shift).replace(microsecond=0), "nonce": asked["nonce"].native,
        }).dump()  # fmt: skip
        named = tsp.ESSCertIDv2({"hash_algorithm": digest, "cert_hash": sha256(der).digest()})
        by_whom = tsp.SigningCertificateV2({"certs": [named]})
        attributes = cms.CMSAttributes([
            cms.CMSAttribute({"type": "content_type", "values": ["tst_info"]}),
            cms.CMSAttribute({"type": "message_digest", "values": [sha256(said).digest()]}),
            cms.CMSAttribute({"type": "signing_certificate_v2", "values": [by_whom]}),
        ])  # fmt: skip
        signer = cms.SignerInfo({
            "version": "v1", "digest_algorithm": digest, "signed_attrs": attributes,
            "sid": {"issuer_and_serial_number": {"issuer": own.issuer, "serial_number": own.serial_number}},
            "signature_algorithm": {"algorithm": "sha256_ecdsa"}, "signature": signed(self.key, attributes.dump()),
        })  # fmt: skip
        content = cms.SignedData({
            "version": "v3", "digest_algorithms": [digest], "certificates": [own], "signer_infos": [signer],
            "encap_content_info": {"content_type": "tst_info", "content": core.ParsableOctetString(said)},
        })  # fmt: skip
        token = cms.ContentInfo({"content_type": "signed_data", "content": content})
        return bytes(tsp.TimeStampResp({"status": {"status": "granted"}, "time_stamp_token": token}).dump())


@dataclass
class Sigstore:
    """All of it behind one address, and what its clients must know of it."""

    url: str
    issuer_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    authority: Authority = field(default_factory=Authority)
    log: Log = field(default_factory=Log)
    clock: Clock = field(default_factory=Clock)
    broken: str = ""
    """The path of a service that answers with 500, and with the token that it was sent."""
    moved: str = ""
    """The path of a service that answers with a redirect elsewhere."""

    def token(self, identity: str, *, realm: str = "ci", **claims: Any) -> str:
        """What the issuer of a realm gives to a job that runs as `identity`."""
        now = int(time.time())
        said = {"iss": f"{self.url}/{realm}", "sub": identity, "aud": "sigstore", "iat": now, "exp": now + 300}
        return jwt.encode(said | claims, self.issuer_key, algorithm="ES256", headers={"kid": "1"})

    def trust_config(self) -> Json:
        """What model_signing and Pointsman take as a trust config."""
        kept = {"start": "2020-01-01T00:00:00Z"}
        service = [{"url": self.url, "majorApiVersion": 1, "validFor": kept, "operator": "loopback"}]
        authority, clock = [self.authority.root], [self.clock.own, self.clock.root]
        return {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": {
                "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "tlogs": [self._logged(self.log.key, kept)],
                "ctlogs": [self._logged(self.authority.log_key, kept)],
                "certificateAuthorities": [self._certified(authority, kept)],
                "timestampAuthorities": [self._certified(clock, kept)],
            },
            "signingConfig": {
                "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
                "caUrls": service, "oidcUrls": service, "rekorTlogUrls": service,
                "tsaUrls": [service[0] | {"url": f"{self.url}{STAMP}"}],
                "rekorTlogConfig": {"selector": "ANY"}, "tsaConfig": {"selector": "ANY"},
            },
        }  # fmt: skip

    def _certified(self, chain: list[x509.Certificate], kept: Json) -> Json:
        certificates = [{"rawBytes": b64(each.public_bytes(Encoding.DER))} for each in chain]
        subject = {"organization": "loopback", "commonName": "loopback"}
        return {"subject": subject, "uri": self.url, "certChain": {"certificates": certificates}, "validFor": kept}

    def _logged(self, key: ec.EllipticCurvePrivateKey, kept: Json) -> Json:
        public = {"rawBytes": b64(spki(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": kept}
        log_id = {"keyId": b64(sha256(spki(key)).digest())}
        return {"baseUrl": self.url, "hashAlgorithm": "SHA2_256", "publicKey": public, "logId": log_id}

    def answer(self, path: str, token: str, body: bytes) -> tuple[int, Json | bytes]:
        """What one request is answered with."""
        realm, _, place = path.strip("/").partition("/")
        if place == ".well-known/openid-configuration":
            return 200, {"issuer": f"{self.url}/{realm}", "jwks_uri": f"{self.url}/{realm}/keys"}
        if place == "keys":
            key = jwt.algorithms.ECAlgorithm.to_jwk(self.issuer_key.public_key(), as_dict=True)
            return 200, {"keys": [key | {"kid": "1", "use": "sig", "alg": "ES256"}]}
        if path == STAMP:
            return 200, self.clock.stamp(body)
        if path == "/api/v1/log/entries":
            return 201, self.log.enter(json.loads(body))
        assert path == "/api/v2/signingCert"
        request = x509.load_pem_x509_csr(base64.b64decode(json.loads(body)["certificateSigningRequest"]))
        try:
            chain = self.authority.certify(token, request)
        except jwt.PyJWTError as error:
            return 401, {"code": 16, "message": f"There was an error processing the identity token: {error}"}
        certificates = [each.public_bytes(Encoding.PEM).decode() for each in chain]
        return 200, {"signedCertificateEmbeddedSct": {"chain": {"certificates": certificates}}}


@contextmanager
def run_sigstore() -> Iterator[Sigstore]:
    """Up while the block runs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        made = Sigstore(f"http://127.0.0.1:{server.server_address[1]}")
        server.RequestHandlerClass = _handler(made)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield made
        finally:
            server.shutdown()


def _handler(served: Sigstore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = str(self.headers.get("Authorization")).removeprefix("Bearer ")
            if self.path == served.moved:
                self.send_response(307)
                self.send_header("Location", f"{served.url}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            broken: tuple[int, Json | bytes] = (500, {"code": 13, "message": f"out of order, {token}"})
            status, found = broken if self.path == served.broken else served.answer(self.path, token, body)
            said = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST

        def log_message(self, *said: Any) -> None:
            pass

    return Handler


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    return bytes([tag]) + (bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")) + content


def _sized(content: bytes) -> bytes:
    return len(content).to_bytes(2, "big") + content


def _canonical(value: Json) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _both(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def _split(leaves: list[bytes]) -> int:
    return 1 << (len(leaves) - 1).bit_length() - 1


def _root(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    middle = _split(leaves)
    return _both(_root(leaves[:middle]), _root(leaves[middle:]))


def _proof(index: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962, 2.1.1: the hashes beside the way from a leaf to the root, from below."""
    if len(leaves) == 1:
        return []
    middle = _split(leaves)
    if index < middle:
        return [*_proof(index, leaves[:middle]), _root(leaves[middle:])]
    return [*_proof(index - middle, leaves[middle:]), _root(leaves[:middle])]
