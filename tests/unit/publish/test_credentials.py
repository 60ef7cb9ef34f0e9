"""Session credentials run out: refused by a real server, which says the same of them as of any unknown key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.publish import keeper
from stages.publish.location import Keys, Location
from stages.publish.s3 import S3Store
from stages.publish.seaweed import find_binary
from stages.shared.errors import ConfigurationError

ADMIN = Keys("admin-key", "admin-secret", "the test")
SIGNING_KEY = b"k" * 32
ROLE = "arn:aws:iam::role/Writer"
SESSION = "arn:aws:sts::assumed-role/Writer/test"
ANYBODY = {"Effect": "Allow", "Principal": "*", "Action": ["sts:AssumeRole"]}
ANYTHING = {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["*"]}
SESSIONS = {
    "sts": {
        "tokenDuration": "1h", "maxSessionLength": "12h", "issuer": "test",
        "signingKey": base64.b64encode(SIGNING_KEY).decode(),
    },
    "policy": {"defaultEffect": "Deny", "storeType": "memory"},
    "policies": [{"name": "All", "document": {"Version": "2012-10-17", "Statement": [ANYTHING]}}],
    "roles": [{
        "roleName": "Writer", "roleArn": ROLE, "attachedPolicies": ["All"],
        "trustPolicy": {"Version": "2012-10-17", "Statement": [ANYBODY]},
    }],
    "providers": [],
}  # fmt: skip


def session_keys(expires: float) -> Keys:
    """What SeaweedFS's STS hands out until a time (seconds since 1970): all follows from the token that it signs."""
    session, began = secrets.token_hex(16), int(expires) - 3600
    claims = {
        "iss": "test", "sub": session, "sid": session, "iat": began, "nbf": began, "exp": int(expires),
        "typ": "session", "snam": "test", "role": ROLE, "assumed": SESSION, "principal": SESSION,
        "assumed_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    signed = ".".join(_url64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    token = f"{signed}.{_url64(hmac.digest(SIGNING_KEY, signed.encode(), 'sha256'))}"
    access = "ASIA" + hashlib.sha256(f"access-key:{session}".encode()).hexdigest()[:16]
    secret = base64.b64encode(hmac.digest(SIGNING_KEY, f"secret-key:{session}".encode(), "sha256")).decode()
    return Keys(access, secret, "$AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY", token)


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture
def location(weed: None, tmp_path: Path) -> Iterator[Location]:
    """A bucket of a server that takes session credentials."""
    pair = {"accessKey": ADMIN.access, "secretKey": ADMIN.secret}
    admin = {"name": "admin", "credentials": [pair], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    for name, content in (("s3", {"identities": [admin]}), ("iam", SESSIONS)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    ports = keeper._free_ports()
    options = {
        "dir": tmp_path, "s3.config": tmp_path / "s3.json", "s3.iam.config": tmp_path / "iam.json", "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1", "master.telemetry": "false", "admin.ui": "false", "webdav": "false",
        "s3.port.iceberg": 0, "s3.port.lance": 0, "volume.preStopSeconds": 0, **ports,
    }  # fmt: skip
    command = [find_binary(), "mini", *(f"-{name}={value}" for name, value in options.items())]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, cwd=tmp_path, env=keeper._environment(tmp_path), stdout=quiet, stderr=quiet)
    try:
        assert keeper._is_ready(server, ports["s3.port"])
        found = Location(f"http://127.0.0.1:{ports['s3.port']}", "sessions", "", "us-east-1")
        S3Store(found, ADMIN).ensure_bucket()
        yield found
    finally:
        keeper._stop(server, ports)


def test_credentials_that_run_out_are_refused_and_nothing_is_written(location: Location) -> None:
    valid, late = (S3Store(location, session_keys(time.time() + seconds)) for seconds in (3600, -60))
    digest = hashlib.sha256(b"x").hexdigest()
    assert valid.create("before", b"x", digest)
    for use in (late.check, lambda: late.create("after", b"x", digest), lambda: late.swap("pointer", b"x", None)):
        with pytest.raises(ConfigurationError, match=r"the keys from \$AWS_ACCESS_KEY_ID and \$AWS_SECRET"):
            use()
    assert [entry.key for entry in S3Store(location, ADMIN).entries("")] == ["before"]
