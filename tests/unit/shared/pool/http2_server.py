"""A provider that speaks HTTP/2, for any ASGI server with TLS."""

from __future__ import annotations

import datetime
import ipaddress
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Server:
    """Answers chat completions, and remembers by which protocol and on which connection it was asked."""

    versions: list[str] = field(default_factory=list)
    clients: set[Any] = field(default_factory=set)
    headers: list[dict[str, str]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    base_url: str = ""
    size: int = 6

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        asked = b""
        while (event := await receive())["type"] == "http.request":
            asked += event["body"]
            if not event["more_body"]:
                break
        self.versions.append(scope["http_version"])
        self.clients.add(scope["client"])
        self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        status = self.statuses.pop(0) if self.statuses else 200
        choice = {"message": {"content": "b" * self.size}, "finish_reason": "stop"}
        body = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 20, "completion_tokens": 5}}).encode()
        said = [(b"openai-processing-ms", b"1234"), (b"retry-after", b"0")]
        await send({"type": "http.response.start", "status": status, "headers": said})
        await send({"type": "http.response.body", "body": body})


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """For localhost, signed by itself; the files of certificate and key."""
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]),
    )
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(1)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    signed = made.not_valid_before(now - day).not_valid_after(now + day).add_extension(names, False)
    certificate = signed.add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256())
    one, other = folder / "certificate.pem", folder / "key.pem"
    one.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    other.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return one, other
