"""The section `publish`."""

from __future__ import annotations

from pydantic import model_validator

from stages.shared.params.section import Section


class SigstoreParams(Section):
    """Who signs without a key: the identity that a CI or another OIDC provider vouches for."""

    trust: str = "public"
    """`public`, or the trust config of a private Sigstore, seen from the repository: its addresses and keys."""
    private: bool = False
    """Whether its addresses may be private ones, as of a server in this network; this machine itself always may."""
    token_env: str = "POINTSMAN_IDENTITY_TOKEN"
    """The environment variable with the identity token; with `_FILE` behind its name, with the path of its file. Where
    neither is set, the CI's own is taken."""
    audience: str = "sigstore"
    """For whom the token must be made out."""


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
    sigstore: SigstoreParams | None = None
    """Signs by an identity instead: `{trust: public}`; the identity and what it signed then stand in a public log."""

    @model_validator(mode="after")
    def _one_place(self) -> PublishParams:
        if self.folder is not None and self.endpoint is not None:
            raise ValueError("both folder and endpoint are set; releases go to one place, set the other to null")
        return self
