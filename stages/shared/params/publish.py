"""The section `publish`."""

from __future__ import annotations

from pydantic import model_validator

from stages.shared.params.section import Section


class PublishParams(Section):
    """Where a release goes."""

    folder: str | None = None
    """Keeps releases in this folder, seen from the repository; null takes S3."""
    endpoint: str | None = None
    """S3 endpoint; null starts the embedded SeaweedFS."""
    bucket: str = "pointsman"
    prefix: str = "releases"
    region: str = "us-east-1"
    access_key_env: str = "AWS_ACCESS_KEY_ID"
    secret_key_env: str = "AWS_SECRET_ACCESS_KEY"
    signing_key_env: str = "POINTSMAN_SIGNING_KEY"
    """The environment variable with the path of the private key that signs releases; unset, they stay unsigned."""

    @model_validator(mode="after")
    def _one_place(self) -> PublishParams:
        if self.folder is not None and self.endpoint is not None:
            raise ValueError("both folder and endpoint are set; releases go to one place, set the other to null")
        return self
