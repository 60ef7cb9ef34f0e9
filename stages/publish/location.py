"""Where an S3 store is and how it is entered. Apart from the module that speaks S3, which takes long to load."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Keys:
    """Credentials, and where they came from, for messages."""

    access: str = field(repr=False)
    secret: str = field(repr=False)
    origin: str
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Location:
    """A folder of a bucket of an S3 server."""

    endpoint: str
    bucket: str
    prefix: str
    region: str

    def __str__(self) -> str:
        return f"s3://{'/'.join(filter(None, (self.bucket, self.prefix.strip('/'))))} at {self.endpoint}"
