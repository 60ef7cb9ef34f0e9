"""The section `publish`."""

from __future__ import annotations

from stages.shared.params.section import Section


class PublishParams(Section):
    """Where a release goes."""

    endpoint: str | None = None
    """S3 endpoint; null starts the embedded SeaweedFS."""
    bucket: str = "pointsman"
    prefix: str = "releases"
    region: str = "us-east-1"
    access_key_env: str = "AWS_ACCESS_KEY_ID"
    secret_key_env: str = "AWS_SECRET_ACCESS_KEY"
