"""Signs by the identity that a token proves: Fulcio certifies a key for minutes, Rekor logs what it signed."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from stages.publish.claim import read_claim
from stages.publish.identity_token import read_token
from stages.publish.keyless import Trust, TrustedIdentity, read_trust
from stages.publish.signature import Sealed
from stages.shared.episode.protocol import neutralise
from stages.shared.errors import ConfigurationError, IntegrityError, PipelineError, TransientError
from stages.shared.params.publish import SigstoreParams
from stages.shared.pool.candidate import Candidate
from stages.shared.pool.endpoint import where

if TYPE_CHECKING:
    from sigstore.oidc import IdentityToken
    from sigstore.sign import Signer, SigningContext

SILENCE_S = 30.0
"""Seconds without a byte after which a service counts as unreachable."""
SAID = 300
"""Characters of a refusal that are shown."""
TOO_MANY, BROKEN = 429, 500


class IdentitySigner:
    """Signs by an identity. The certificate is asked for at the first signature, and serves those that follow."""

    def __init__(self, trust: Trust, context: SigningContext, token: IdentityToken) -> None:
        self._trust, self._context, self._token = trust, context, token

    def seal(self, statement: bytes) -> Sealed:
        """Sign an in-toto statement, and have it logged.

        Raises ConfigurationError for a token that Fulcio refuses, TransientError for a service that does not answer.
        """
        from sigstore import dsse

        with _explained(self._trust.origin, str(self._token)):
            bundle = self._signer.sign_dsse(dsse.Statement(statement)).to_json().encode()
        claim = read_claim(bundle, f"what Sigstore ({self._trust.origin}) made")
        assert claim.identity is not None
        assert claim.issuer is not None
        return Sealed(bundle, TrustedIdentity(claim.identity, claim.issuer, self._trust))

    @cached_property
    def _signer(self) -> Signer:
        from sigstore.sign import Signer

        return Signer(self._token, self._context)


def signer_by_identity(params: SigstoreParams, root: Path) -> IdentitySigner:
    """Ready to sign: token, trust config and addresses are looked at now, and nobody is asked yet but the CI.

    Raises ConfigurationError for what is wrong with them, TransientError where the public Sigstore's are unreachable.
    """
    token, trust = read_token(params), read_trust(params.trust, root)
    context = _context(trust, Wire(params.private))
    for service, url in _addresses(trust):
        check_address(f"{service} ({trust.origin})", url, private=params.private)
    return IdentitySigner(trust, context, token)


def check_address(name: str, url: str, *, private: bool) -> None:
    """Raises ConfigurationError for what no base_url of a candidate may be, and where a token would go in the clear."""
    where(Candidate(name=name, model="", base_url=url, price=0.0, prompt_price=0.0, private=private))
    parts = urlsplit(url)
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise ConfigurationError(f"{name} is at {url}: an identity token is sent there, which takes https")


class Wire(HTTPAdapter):
    """Sigstore's clients wait for ever and go where they are sent; through this they do neither."""

    def __init__(self, private: bool) -> None:
        super().__init__()
        self._private = private

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """See requests'. Raises ConfigurationError for a redirect and a private address that was not meant."""
        url = str(request.url)
        host = urlsplit(url).hostname or ""
        options |= {"timeout": options.get("timeout") or SILENCE_S}
        if is_loopback(host):
            options["proxies"] = {}
        elif not requests.utils.select_proxy(url, options.get("proxies")):
            self._look_up(host)
        answer = super().send(request, *args, **options)
        if answer.is_redirect:
            raise ConfigurationError(
                f"{url} redirects to {answer.headers['Location']}; write that into the trust config"
            )
        return answer

    def _look_up(self, host: str) -> None:
        """Whatever a name server says, no private address for a public service."""
        try:
            found = {str(each[4][0]) for each in socket.getaddrinfo(host, None)}
        except OSError:
            return
        for address in found:
            shown = f"[{address}]" if ":" in address else address
            check_address(host, f"https://{shown}", private=self._private)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _addresses(trust: Trust) -> Iterator[tuple[str, str]]:
    """Service and address, of a private Sigstore."""
    services = {"Fulcio": "caUrls", "Rekor": "rekorTlogUrls", "the timestamp authority": "tsaUrls"}
    signing = json.loads(trust.text)["signingConfig"] if trust.text is not None else {}
    for service, key in services.items():
        yield from ((service, each["url"]) for each in signing.get(key, ()))


def _context(trust: Trust, wire: Wire) -> SigningContext:
    from sigstore.errors import Error
    from sigstore.sign import SigningContext

    config = trust.config()
    try:
        signing = config.signing_config
        fulcio, rekor, clocks = signing.get_fulcio(), signing.get_tlogs()[0], signing.get_tsas()
    except (Error, ValueError) as error:
        raise ConfigurationError(f"{trust.origin} says not how to sign: {error}") from error
    for session in (fulcio.session, *(each._session for each in (rekor, *clocks))):  # type: ignore[attr-defined]
        session.mount("https://", wire)
        session.mount("http://", wire)
    return SigningContext(fulcio=fulcio, rekor=rekor, trusted_root=config.trusted_root, tsa_clients=clocks)


@contextmanager
def _explained(origin: str, token: str) -> Iterator[None]:
    """Failures of Sigstore's client, as ours. None of them shows the token, even where a service sends it back."""
    from sigstore._internal.fulcio.client import ExpiredCertificate, FulcioClientError
    from sigstore._internal.rekor import RekorClientError
    from sigstore.errors import Error
    from sigstore.oidc import ExpiredIdentity

    try:
        yield
    except FulcioClientError as error:
        raise _refusal("Fulcio", origin, token, error.__cause__) from error
    except RekorClientError as error:
        raise _refusal("Rekor", origin, token, error.__context__) from error
    except (ExpiredIdentity, ExpiredCertificate) as error:
        raise ConfigurationError("the identity token expired before it was used; get a new one") from error
    except requests.exceptions.SSLError as error:
        raise ConfigurationError(f"{_place(error)}: no trusted TLS connection: {error}") from error
    except (requests.ConnectionError, requests.Timeout) as error:
        raise TransientError(f"cannot reach {_place(error)}, of Sigstore ({origin}): {error}") from error
    except Error as error:
        raise IntegrityError(f"what Sigstore ({origin}) answered does not hold: {error}; nothing was signed") from error
    except (ValueError, LookupError, TypeError) as error:
        raise ConfigurationError(
            f"what was answered is not Sigstore's protocol ({error!r}); are the addresses in {origin} right?"
        ) from error


def _refusal(service: str, origin: str, token: str, cause: BaseException | None) -> PipelineError:
    """By what the service answered: its fault, which passes, or ours."""
    answer = cause.response if isinstance(cause, requests.HTTPError) else None
    if answer is None:
        return ConfigurationError(f"{service} ({origin}) answers with no certificate; is that its address?")
    text = neutralise(answer.text.replace(token, "***"))[:SAID]
    said = f"{service} ({origin}) refuses with {answer.status_code}: {text}"
    if answer.status_code == TOO_MANY or answer.status_code >= BROKEN:
        return TransientError(f"{said}; try again")
    return ConfigurationError(f"{said}; is the identity token for this Sigstore?")


def _place(error: requests.RequestException) -> str:
    parts = urlsplit(str(error.request.url)) if error.request is not None else urlsplit("//a service")
    return f"{parts.scheme}://{parts.netloc}{parts.path}"
