"""Whom a channel trusts to sign its releases, as infra/gates.yaml names them: public keys, identities of Sigstore."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from stages.publish.keyless import PUBLIC, TrustedIdentity, read_trust
from stages.publish.signature import Trusted, load_public_key


class Identity(BaseModel):
    """Whom Sigstore has certified, instead of a key: the one that an OIDC provider vouches for."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    identity: Annotated[str, Field(pattern=r"\S")]
    """As in the certificate: an address of e-mail, or the URI of a CI's workflow."""
    issuer: Annotated[str, Field(pattern=r"^https?://\S+$")]
    """The provider's URL."""
    trust: str = PUBLIC
    """`public`, or the trust config of a private Sigstore, seen from the repository."""

    def __str__(self) -> str:
        return f"{self.identity} (issuer {self.issuer})"


def _kind(value: Any) -> str:
    return "key" if isinstance(value, (str, Path)) else "identity"


Signatory = Annotated[Annotated[Path, Tag("key")] | Annotated[Identity, Tag("identity")], Discriminator(_kind)]
"""One entry of `signed_by`."""


def load_trusted(root: Path, signatories: Iterable[Path | Identity]) -> list[Trusted]:
    """What their signatures are checked with. Raises ConfigurationError for a key or trust config that is none."""
    return [_load(root, each) for each in signatories]


def _load(root: Path, signatory: Path | Identity) -> Trusted:
    if isinstance(signatory, Path):
        return replace(load_public_key(root / signatory), origin=str(signatory))  # evidence outlives this folder
    return TrustedIdentity(signatory.identity, signatory.issuer, read_trust(signatory.trust, root))
