"""A large object out of S3: in ranges, a few at once, into memory that is used again, hashed in their order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

import stamina
from botocore.exceptions import (
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from stages.publish.store import Hashed, write_at
from stages.publish.window import AT_ONCE, in_order
from stages.shared.errors import ConfigurationError

RANGE = 16 << 20
"""Bytes asked for at a time."""
CUT = (IncompleteReadError, ResponseStreamingError, ReadTimeoutError)
"""What is raised when a connection breaks or falls silent while a body is read."""


@dataclass(frozen=True)
class Range:
    """A piece of an object, there until its memory is used again; the bytes of the whole, and its ETag."""

    content: memoryview
    size: int
    version: str


@dataclass(frozen=True)
class Reader:
    """Reads one object (the bucket and the key, as S3's calls take them); a range that is cut is asked for again."""

    client: Any
    target: Mapping[str, str]
    attempts: int
    sink: int | None = None
    """The descriptor of a file that every range is written into, at its place."""

    def read(self, start: int, memory: bytearray, version: str | None = None) -> Range:
        """As many bytes from `start` on as there is memory for, where the object is still of that version.

        Raises ClientError as the server refuses, ConfigurationError for a server that gives more than it is asked for.
        """
        condition = {"IfMatch": version} if version else {}
        for attempt in stamina.retry_context(on=CUT, attempts=self.attempts, wait_initial=0.1, wait_max=2.0):
            wanted = f"bytes={start}-{start + len(memory) - 1}"
            try:
                got = self.client.get_object(**self.target, **condition, Range=wanted)
            except ClientError as error:
                if start == 0 and error.response["Error"]["Code"] == "InvalidRange":
                    return Range(memoryview(memory)[:0], 0, "")
                raise
            if got["ContentLength"] > len(memory):
                got["Body"].close()
                raise ConfigurationError("the server gives more bytes than it is asked for; use one that knows ranges")
            with attempt:
                content = memoryview(memory)[: got["ContentLength"]]
                _fill(got["Body"], content)
        if self.sink is not None:
            write_at(self.sink, content, start)
        size = got.get("ContentRange", "").rpartition("/")[2] or len(content)
        return Range(content, int(size), got["ETag"])

    def hash(self, most: int) -> Hashed:
        """The SHA-256 of the object, the next ranges fetched and written meanwhile; no more than `most` bytes are read.

        Raises ClientError as the server refuses.
        """
        found, spare = hashlib.sha256(), [bytearray(RANGE)]
        first = self.read(0, spare[0])
        found.update(first.content)
        if first.size > most:
            return Hashed(found.hexdigest(), first.size)
        starts = range(len(first.content), first.size, RANGE)
        spare += [bytearray(RANGE) for _ in starts[:AT_ONCE]]
        pieces = ((start, spare.pop()) for start in starts)
        for each in in_order(lambda piece: self.read(*piece, first.version), pieces):
            found.update(each.content)
            spare.append(each.content.obj)  # type: ignore[arg-type]
        return Hashed(found.hexdigest(), first.size)


def _fill(body: Any, content: memoryview) -> None:
    """Read a body straight from its connection: urllib3 would copy it through memory that is new each time.

    That costs as much as hashing it. Raises one of `CUT`; then the connection is given up, else it is used again.
    """
    response, filled = body._raw_stream, 0
    with _explained(response):
        while filled < len(content) and (count := response._fp.readinto(content[filled:])):
            filled += count
        if filled < len(content):
            raise IncompleteReadError(actual_bytes=filled, expected_bytes=len(content))
    response.release_conn()


@contextmanager
def _explained(response: Any) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        response.close()
        raise ReadTimeoutError(endpoint_url=response.url, error=error) from error
    except (OSError, HTTPException) as error:
        response.close()
        raise ResponseStreamingError(error=error) from error
    except IncompleteReadError:
        response.close()
        raise
