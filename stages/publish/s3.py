"""A `Store` in S3: SeaweedFS, MinIO, Ceph, AWS. The only module that speaks S3."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

import boto3
import stamina
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    SSLError,
)
from botocore.exceptions import ConnectionError as NoConnectionError

from stages.publish.location import Keys, Location
from stages.publish.multipart import GONE, PART, abandon, upload_file
from stages.publish.ranges import RANGE, Range, Reader
from stages.publish.store import Hashed, Stored, Versioned
from stages.shared.errors import (
    BudgetError,
    ConfigurationError,
    ConflictError,
    IntegrityError,
    PipelineError,
    TransientError,
)

PROBE = "conditional-writes"
"""The object on which conditional writes are tried; it stays."""
UNTRUE = "checksums"
"""The object that is announced with a false checksum; no good server stores it."""
GOOD = "AWS, SeaweedFS, Ceph 20, MinIO since September 2025"
"""What a refusal of the probe advises."""
EMPTY = hashlib.sha256().hexdigest()
NO_SUCH_VERSION = f'"{"0" * 32}"'

MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
FAILED_CONDITION = frozenset({"PreconditionFailed", "412"})
REFUSED_KEYS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"})
FORBIDDEN = frozenset({"AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccountProblem"})
WRONG_CONTENT = frozenset({"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"})
WRONG_REGION = frozenset({"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraint"})
FULL = frozenset({"InsufficientStorage", "XMinioStorageFull", "QuotaExceeded", "EntityTooLarge"})

Result = TypeVar("Result")


class S3Store:
    """A `Store` in any S3 with conditional writes (`If-None-Match: *`) and SHA-256 checksums."""

    def __init__(
        self, location: Location, keys: Keys, *, attempts: int = 4, part_bytes: int = PART, silence_s: float = 60.0
    ) -> None:
        """`silence_s` is how long the server may say nothing before the connection is given up."""
        self._location = location
        self._keys = keys
        self._part_bytes = part_bytes
        self._attempts = attempts
        self._silence_s = silence_s
        with self._explained("open"):
            self._client = _client(location, keys, attempts, silence_s)

    @cached_property
    def _bulk(self) -> Any:
        """Sends parts: each has its SHA-256 in a signed header, and need not be hashed once more to sign its body."""
        return _client(self._location, self._keys, self._attempts, self._silence_s, payload_signing_enabled=False)

    @property
    def place(self) -> str:
        """For example `s3://pointsman/releases at http://127.0.0.1:8333`."""
        return str(self._location)

    def check(self) -> None:
        """Raise what is wrong with endpoint, keys or bucket, before any work is done."""
        with self._explained("list"):
            self._client.list_objects_v2(Bucket=self._location.bucket, Prefix=self._full(""), MaxKeys=1)

    def ensure_bucket(self) -> None:
        """Create the bucket where it is missing."""
        with self._explained("create the bucket"):
            try:
                self._client.create_bucket(Bucket=self._location.bucket)
            except ClientError as error:
                if _code(error) not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise

    def probe(self) -> None:
        """Write what must be refused.

        Raises ConfigurationError for a server that lets one writer overwrite another, or checks no checksum.
        """
        self._probe_conditions()
        self._probe_checksums()

    def _probe_conditions(self) -> None:
        key = self._full(PROBE)
        with self._explained("try conditional writes"):
            self._put_if(key, b"", EMPTY, IfNoneMatch="*")
            ignored = [
                header
                for header, condition in (
                    ("If-None-Match", {"IfNoneMatch": "*"}), ("If-Match", {"IfMatch": NO_SUCH_VERSION})
                )
                if self._put_if(key, b"", EMPTY, **condition)
            ]  # fmt: skip
            held = any(self._put_if(key, b"", EMPTY, IfMatch=self._version(key)) for _ in range(self._attempts))
        if ignored:
            raise ConfigurationError(
                f"{self.place}: the server ignores {' and '.join(ignored)}, so that writers could overwrite each "
                f"other's releases and promotions (MinIO did before May 2024); use another ({GOOD})"
            )
        if not held:
            raise ConfigurationError(
                f"{self.place}: the server refuses If-Match even where it holds (Ceph 18.2 does, for an ETag in "
                f"quotes), so that no channel could be moved; use another ({GOOD})"
            )

    def _version(self, key: str) -> str:
        return str(self._client.get_object(Bucket=self._location.bucket, Key=key)["ETag"])

    def _probe_checksums(self) -> None:
        try:
            with self._explained("try checksums"):
                self._put_if(self._full(UNTRUE), b"", _sha256(b"else"), IfNoneMatch="*")
        except IntegrityError:
            return
        self.remove(UNTRUE)
        raise ConfigurationError(
            f"{self.place}: the server does not check the SHA-256 of what it is sent, so that what arrives broken "
            f"would be stored (Ceph 18.2 does not either); use another ({GOOD})"
        )

    def create(self, key: str, content: bytes | Path, sha256: str) -> bool:
        """Create an object, its checksums checked by the server on arrival; False where the key exists."""
        with self._explained(f"create {key}"):
            try:
                return self._create(key, content, sha256)
            except ClientError as error:
                if _code(error) in FAILED_CONDITION:
                    return False
                raise

    def read(self, key: str) -> Iterator[bytes] | None:
        """The object in pieces of at most 16 MiB; None where it is not."""
        reader = self._reader(key)
        first = self._found(key, lambda: reader.read(0, bytearray(RANGE)))
        return None if first is None else self._ranges(key, reader, first)

    def hash(self, key: str, most: int, sink: int | None = None) -> Hashed | None:
        """Hash an object of at most `most` bytes, its ranges fetched and written into the sink side by side."""
        return self._found(key, lambda: self._reader(key, sink).hash(most))

    def entries(self, prefix: str) -> list[Stored]:
        """Every object whose key begins with `prefix`, in the order of keys."""
        own = len(self._full(""))
        pages = self._client.get_paginator("list_objects_v2")
        with self._explained("list"):
            found = [
                Stored(item["Key"][own:], item["Size"], item["LastModified"])
                for page in pages.paginate(Bucket=self._location.bucket, Prefix=self._full(prefix))
                for item in page.get("Contents", [])
            ]
        return sorted(found, key=lambda stored: stored.key)

    def load(self, key: str) -> Versioned | None:
        """A small object; its version is its ETag."""
        target = {"Bucket": self._location.bucket, "Key": self._full(key)}
        found = self._found(key, lambda: self._client.get_object(**target))
        with self._explained(f"read {key}"):
            return None if found is None else Versioned(found["Body"].read(), found["ETag"])

    def swap(self, key: str, content: bytes, expected: str | None) -> bool:
        """Replace the version `expected` (None: no object yet); False, and nothing done, where it is another now."""
        condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
        with self._explained(f"change {key}"):
            return self._put_if(self._full(key), content, _sha256(content), **condition)

    def remove(self, key: str) -> None:
        """Delete an object, if it is there."""
        with self._explained(f"remove {key}"):
            self._client.delete_object(Bucket=self._location.bucket, Key=self._full(key))

    def abandon(self, prefix: str, before: datetime, *, dry_run: bool = False) -> list[Stored]:
        """Remove the parts of uploads that were begun before that time and never finished; what they were."""
        own = len(self._full(""))
        with self._explained("look for unfinished uploads"):
            found = abandon(self._client, self._location.bucket, self._full(prefix), before, dry_run=dry_run)
        return [replace(each, key=each.key[own:]) for each in found]

    def _put_if(self, key: str, content: bytes | Path, sha256: str, **condition: str) -> bool:
        """Whether the condition held. To If-Match on a key that is not there, AWS answers 404, others 412.

        Where writers meet, AWS and Ceph answer some of them 409, which says nothing of the condition: they ask again.
        """
        refused = FAILED_CONDITION | MISSING if "IfMatch" in condition else FAILED_CONDITION
        try:
            for attempt in stamina.retry_context(
                on=_is_contested, attempts=self._attempts, wait_max=1.0, wait_jitter=0.1
            ):
                with attempt:
                    self._put(key, content, **_checksum(sha256), **condition)
        except ClientError as error:
            if _code(error) in refused:
                return False
            raise
        return True

    def _put(self, key: str, content: bytes | Path, **headers: str) -> None:
        with content.open("rb") if isinstance(content, Path) else nullcontext(content) as body:
            self._client.put_object(Bucket=self._location.bucket, Key=key, Body=body, **headers)

    def _full(self, key: str) -> str:
        prefix = self._location.prefix.strip("/")
        return f"{prefix}/{key}" if prefix else key

    def _create(self, key: str, content: bytes | Path, sha256: str) -> bool:
        target = {"Bucket": self._location.bucket, "Key": self._full(key)}
        if self._has(target):
            return False
        if isinstance(content, Path) and content.stat().st_size > self._part_bytes:
            return self._create_in_parts(target, content, sha256)
        return self._put_if(target["Key"], content, sha256, IfNoneMatch="*")

    def _has(self, target: dict[str, str]) -> bool:
        try:
            self._client.head_object(**target)
        except ClientError as error:
            if _code(error) in MISSING:
                return False
            raise
        return True

    def _create_in_parts(self, target: dict[str, str], path: Path, sha256: str) -> bool:
        try:
            upload_file(self._bulk, target, path, sha256, self._part_bytes)
        except ClientError as error:
            if _code(error) not in GONE:
                raise
            if self._has(target):
                return False
            upload_file(self._bulk, target, path, sha256, self._part_bytes, resume=False)
        return True

    def _reader(self, key: str, sink: int | None = None) -> Reader:
        return Reader(self._client, {"Bucket": self._location.bucket, "Key": self._full(key)}, self._attempts, sink)

    def _found(self, key: str, read: Callable[[], Result]) -> Result | None:
        """What was read; None where there is no such object."""
        with self._explained(f"read {key}"):
            try:
                return read()
            except ClientError as error:
                if _code(error) in MISSING:
                    return None
                raise

    def _ranges(self, key: str, reader: Reader, first: Range) -> Iterator[bytes]:
        yield bytes(first.content)
        with self._explained(f"read {key}"):
            for start in range(len(first.content), first.size, RANGE):
                yield bytes(reader.read(start, bytearray(RANGE), first.version).content)

    @contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        """Turn what S3 and the network say into one of our errors, with the way out."""
        try:
            yield
        except ClientError as error:
            raise self._refusal(action, error) from error
        except SSLError as error:
            raise ConfigurationError(f"{self.place}: no trusted TLS connection: {error}") from error
        except (HTTPClientError, NoConnectionError, IncompleteReadError) as error:
            raise TransientError(f"cannot reach {self.place}; is publish.endpoint right? {error}") from error
        except (BotoCoreError, ValueError) as error:
            if isinstance(error, PipelineError):
                raise
            raise ConfigurationError(f"{self.place}: {error}; check the section publish of params.yaml") from error

    def _refusal(self, action: str, error: ClientError) -> PipelineError:
        code, said = _code(error), error.response.get("Error", {}).get("Message") or ""
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        bucket, region, keys = self._location.bucket, self._location.region, f"the keys from {self._keys.origin}"
        kind, why = _diagnose(code, status, said, bucket=bucket, region=region, keys=keys)
        return kind(f"{self.place}: cannot {action}: {why}")


def _diagnose(
    code: str, status: int, said: str, *, bucket: str, region: str, keys: str
) -> tuple[type[PipelineError], str]:
    """What a refusal of the server means, and the way out."""
    if code in REFUSED_KEYS:
        return ConfigurationError, f"the server refuses {keys} ({code})"
    if code == "RequestTimeTooSkewed":
        return ConfigurationError, f"this machine's clock is wrong ({said})"
    if code in FORBIDDEN:
        return ConfigurationError, f"{keys} may not do this ({code}); allow them to list, get and put"
    if code == "NoSuchBucket":
        return ConfigurationError, f"there is no bucket {bucket!r}; create it, or correct publish.bucket"
    if code in WRONG_REGION:
        return ConfigurationError, f"the bucket is not in publish.region={region!r} ({said})"
    if code in WRONG_CONTENT or "checksum" in said.lower():
        return IntegrityError, f"what arrived does not have the announced SHA-256 ({code}); publish again"
    if code in FULL or status == 507:
        return BudgetError, f"no room left ({code}: {said}); free some space there"
    if status == 409:
        return ConflictError, f"somebody else is writing the same object; try again ({code})"
    if status == 429 or (status >= 500 and status != 501):
        return TransientError, f"the server answers {status} {code}: {said}; try again, look at its log and disk"
    return ConfigurationError, f"the server answers {status} {code}: {said}"


def _client(location: Location, keys: Keys, attempts: int, silence_s: float, **options: bool) -> Any:
    style = {"addressing_style": "path"} if _is_loopback(location.endpoint) else {}
    config = Config(
        s3={**style, **options},
        response_checksum_validation="when_required",
        retries={"mode": "standard", "total_max_attempts": attempts},
        proxies={} if _is_loopback(location.endpoint) else None,
        connect_timeout=5,
        read_timeout=silence_s,
    )
    return _session().client(
        "s3",
        endpoint_url=location.endpoint,
        region_name=location.region,
        aws_access_key_id=keys.access,
        aws_secret_access_key=keys.secret,
        aws_session_token=keys.token,
        config=config,
    )


@cache
def _session() -> Any:
    """One for all clients: what it has read of S3's description serves them all."""
    return boto3.session.Session()


def warm() -> None:
    """Make a client that nobody uses: the first one of a process reads the description of S3."""
    _session().client("s3", region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none")


def _is_loopback(endpoint: str) -> bool:
    return endpoint.split("://")[-1].startswith(("127.", "localhost", "[::1]"))


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _is_contested(error: Exception) -> bool:
    """Whether somebody else was writing the same object, so that nothing was decided."""
    return isinstance(error, ClientError) and error.response["ResponseMetadata"]["HTTPStatusCode"] == 409


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _checksum(sha256: str) -> dict[str, str]:
    """Announces a body. Ceph 20 checks the SHA-256 only where the algorithm is named beside it; others do anyway."""
    return {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": _base64(sha256)}


def _base64(sha256: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256)).decode()
