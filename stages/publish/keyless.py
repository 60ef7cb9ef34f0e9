"""Signatures without a key: Sigstore certifies who somebody is, and a public log keeps what they signed and when.

`model_signing verify sigstore FOLDER --signature FOLDER/model.sig --identity WHO --identity_provider ISSUER` checks a
pulled release without Pointsman, with `--trust_config FILE` for a private Sigstore. Never run against the public one:
what is tested is a private one on loopback. Sigstore's client loads when it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from stages.publish.claim import UNREADABLE, identity_id, read_claim
from stages.publish.signature import PAYLOAD
from stages.shared.errors import ConfigurationError, IntegrityError, TransientError
from stages.shared.files import read_text

if TYPE_CHECKING:
    from sigstore.models import ClientTrustConfig
    from sigstore.verify import Verifier

PUBLIC = "public"


@dataclass(frozen=True)
class Trust:
    """A Sigstore: its addresses, and the keys of its authority and its logs."""

    origin: str
    """`public`, or the file of its trust config, for messages."""
    text: str | None
    """That config; None for the public one, whose own is fetched and kept by Sigstore's client."""

    def config(self) -> ClientTrustConfig:
        """Raises ConfigurationError for what is no trust config, TransientError where the public one is unreachable."""
        from sigstore.errors import Error
        from sigstore.models import ClientTrustConfig

        if self.text is None:
            try:
                return ClientTrustConfig.production()
            except (Error, OSError) as error:
                raise TransientError(
                    f"the keys of the public Sigstore cannot be fetched: {error}: {error.__cause__}; try again, or "
                    "name the trust config of a private one"
                ) from error
        try:
            return ClientTrustConfig.from_json(self.text)
        except (Error, ValueError) as error:
            raise ConfigurationError(f"{self.origin} is no trust config of Sigstore: {error}") from error


@dataclass(frozen=True)
class TrustedIdentity:
    """Somebody whom a provider vouches for and Sigstore certifies."""

    identity: str
    issuer: str
    trust: Trust

    @property
    def id(self) -> str:
        """Names their signatures in a store."""
        return identity_id(self.identity, self.issuer)

    @property
    def origin(self) -> str:
        """What they are called, for messages."""
        return f"{self.identity} (issuer {self.issuer})"

    def open(self, bundle: bytes, where: str) -> bytes:
        """The statement that this identity has signed, while its certificate held, as the log tells.

        Raises IntegrityError for any other bundle, ConfigurationError and TransientError as `Trust.config`.
        """
        claim = read_claim(bundle, where)
        if claim.identity is None:
            raise IntegrityError(f"{where}: signed with a {claim}, and not by {self.origin}")
        verifier = _verifier(self.trust, date.today())
        from sigstore.errors import Error
        from sigstore.models import Bundle
        from sigstore.verify import policy

        wanted = policy.Identity(identity=self.identity, issuer=self.issuer)
        try:
            kind, payload = verifier.verify_dsse(Bundle.from_json(bundle), wanted)
        except (Error, *UNREADABLE) as error:
            raise IntegrityError(
                f"{where}: the signature of {claim} does not hold for {self.origin} by Sigstore ({self.trust.origin}): "
                f"{error}"
            ) from error
        if kind != PAYLOAD:
            raise IntegrityError(f"{where}: not a signed statement, but {kind}")
        return payload


def read_trust(name: str, root: Path) -> Trust:
    """`public`, or a file seen from the repository. Raises ConfigurationError for one that cannot be read."""
    if name == PUBLIC:
        return Trust(PUBLIC, None)
    path = root / Path(name).expanduser()
    try:
        return Trust(name, read_text(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error}; name the trust config of a Sigstore, or `{PUBLIC}`"
        ) from error


@lru_cache(8)
def _verifier(trust: Trust, day: date) -> Verifier:
    """The public Sigstore's keys change now and then: a server that runs for months looks once a day."""
    from sigstore.errors import Error
    from sigstore.verify import Verifier

    try:
        return Verifier(trusted_root=trust.config().trusted_root)
    except (Error, ValueError) as error:
        raise ConfigurationError(f"{trust.origin} is no trust config of Sigstore: {error}") from error
