"""A large file into S3: in parts, a few at once, each with a checksum; it goes on where an upload was cut before."""

from __future__ import annotations

import base64
import hashlib
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from stages.publish.store import Stored
from stages.publish.window import AT_ONCE, in_order
from stages.shared.errors import IntegrityError

if TYPE_CHECKING:
    from hashlib import _Hash as Digest

PART = 16 << 20
"""Bytes of a part, of which a few are in memory at a time."""
MOST_PARTS = 10_000
ALGORITHM = "CRC32"
"""Finds what breaks on the way, and costs server and client less than SHA-256. What the file is, the SHA-256 of the
whole says: taken of what was sent before anybody can see it, and once more of what the store gives back."""
GONE = frozenset({"NoSuchUpload", "InvalidPart"})
"""What a server says when somebody else has finished, removed or rewritten the same upload meanwhile."""

Target = Mapping[str, str]
"""The bucket and the key, as S3's calls take them."""


@dataclass(frozen=True)
class Part:
    """A piece of the file, numbered from 1."""

    number: int
    body: bytearray

    @property
    def checksum(self) -> str:
        """CRC-32 in base64."""
        return base64.b64encode(zlib.crc32(self.body).to_bytes(4, "big")).decode()

    def is_listed(self, listed: Mapping[str, Any]) -> bool:
        """Whether the server has it: by CRC-32, and by the ETag, which is an MD5, where the server lists no other."""
        if listed["Size"] != len(self.body):
            return False
        if "ChecksumCRC32" in listed:
            return bool(listed["ChecksumCRC32"] == self.checksum)
        return bool(listed["ETag"].strip('"') == hashlib.md5(self.body, usedforsecurity=False).hexdigest())


@dataclass(frozen=True)
class Upload:
    """An upload that was begun, and the parts that the server has, by number."""

    client: Any
    target: Target
    id: str
    listed: Mapping[int, Mapping[str, Any]]

    def send(self, part: Part) -> tuple[Part, dict[str, Any]]:
        """Upload a part, where the server does not have it yet; the part, and how it is named at the end."""
        checksum, listed = part.checksum, self.listed.get(part.number)
        if listed is not None and part.is_listed(listed):
            etag = listed["ETag"]
        else:
            etag = self.client.upload_part(
                **self.target, UploadId=self.id, PartNumber=part.number, Body=part.body, ChecksumCRC32=checksum
            )["ETag"]
        return part, {"PartNumber": part.number, "ETag": etag, "ChecksumCRC32": checksum}

    def finish(self, parts: list[dict[str, Any]]) -> None:
        """Make one object of the parts, unless there is one."""
        try:
            self.client.complete_multipart_upload(
                **self.target, UploadId=self.id, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
            )
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 412:
                self.abort()
            raise

    def parts(self) -> list[dict[str, Any]]:
        """What the server has of it."""
        pages = self.client.get_paginator("list_parts").paginate(**self.target, UploadId=self.id)
        return [each for page in pages for each in page.get("Parts", [])]

    def abort(self) -> None:
        """Remove the parts."""
        self.client.abort_multipart_upload(**self.target, UploadId=self.id)


def upload_file(client: Any, target: Target, path: Path, sha256: str, part_bytes: int, *, resume: bool = True) -> None:
    """Upload a file as an object that is not there yet, from where an upload of the same key was cut (`resume`).

    Whatever else stops it, the parts stay for the next time. Raises IntegrityError, and keeps nothing, for a file that
    is not `sha256` (hex), ClientError as the server refuses.
    """
    upload = (_unfinished(client, target) if resume else None) or _begin(client, target)
    size = max(part_bytes, math.ceil(path.stat().st_size / MOST_PARTS))
    whole, sent, spare = hashlib.sha256(), [], [bytearray(size) for _ in range(AT_ONCE + 1)]
    with path.open("rb") as handle:
        for part, named in in_order(upload.send, _parts(handle, spare, whole)):
            sent.append(named)
            spare.append(part.body)
    if whole.hexdigest() != sha256:
        upload.abort()
        raise IntegrityError(f"{path} changed while it was read; nothing was stored, publish again")
    upload.finish(sent)


def _parts(handle: BufferedReader, spare: list[bytearray], whole: Digest) -> Iterator[Part]:
    """A file in pieces as large as the memory that is spare for them, which is new for none; the last is shorter."""
    number = 0
    while count := handle.readinto(body := spare.pop()):
        number += 1
        del body[count:]
        whole.update(body)
        yield Part(number, body)


def _begin(client: Any, target: Target) -> Upload:
    return Upload(client, target, client.create_multipart_upload(**target, ChecksumAlgorithm=ALGORITHM)["UploadId"], {})


def abandon(client: Any, bucket: str, prefix: str, before: datetime, *, dry_run: bool) -> list[Stored]:
    """Remove the parts of uploads below a prefix that were begun before that time. Raises ClientError."""
    found = []
    for each in _uploads_below(client, bucket, prefix):
        if each["Initiated"] >= before:
            continue
        upload = Upload(client, {"Bucket": bucket, "Key": each["Key"]}, each["UploadId"], {})
        size = sum(part["Size"] for part in upload.parts())
        found.append(Stored(each["Key"], size, each["Initiated"]))
        if not dry_run:
            upload.abort()
    return found


def _unfinished(client: Any, target: Target) -> Upload | None:
    """The newest upload of this key that was cut; none where the server does not let us look."""
    try:
        found = [
            each for each in _uploads(client, target["Bucket"], target["Key"])
            if each["Key"] == target["Key"] and each.get("ChecksumAlgorithm", ALGORITHM) == ALGORITHM
        ]  # fmt: skip
        if not found:
            return None
        newest = Upload(client, target, max(found, key=lambda each: each["Initiated"])["UploadId"], {})
        return replace(newest, listed={each["PartNumber"]: each for each in newest.parts()})
    except ClientError:
        return None


def _uploads_below(client: Any, bucket: str, prefix: str) -> list[dict[str, Any]]:
    """Every unfinished upload below a prefix. MinIO takes a prefix for a whole key, but can list a bucket."""
    everywhere = _uploads(client, bucket, prefix) or _uploads(client, bucket, "")
    return [each for each in everywhere if each["Key"].startswith(prefix)]


def _uploads(client: Any, bucket: str, prefix: str) -> list[dict[str, Any]]:
    pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
    return [each for page in pages for each in page.get("Uploads", [])]
