"""Signatures by an identity instead of a key, through the real protocol, against a Sigstore on loopback."""

from __future__ import annotations

import base64
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from model_signing import _cli as openssf

from stages.publish import keyless_signer
from stages.publish.attestation import Build, attest, read_builds, seal_build
from stages.publish.claim import read_claim
from stages.publish.fetch import fetch_release, find_signature, list_claims
from stages.publish.folder import FolderStore
from stages.publish.keyless import Trust, TrustedIdentity, read_trust
from stages.publish.keys import attestations_of, signature_key, signatures_of
from stages.publish.release import publish
from stages.publish.signature import SIGNATURE, Signer, check_signature, load_private_key, make_keys, sign
from stages.publish.signer import find_signer
from stages.shared.errors import ConfigurationError, IntegrityError, TransientError
from stages.shared.params import PublishParams
from stages.shared.params.publish import SigstoreParams
from tests.unit.publish.sigstore_double import Sigstore, new_key, run_sigstore
from tests.unit.publish.small import release_of

CI = "https://forge.example/team/router/.github/workflows/release.yaml@refs/heads/main"
EVE = "eve@example.org"
COMMIT = "1" * 40
RELEASE = release_of(0)
DIGEST = RELEASE.manifest.digest
FULCIO, REKOR = "/api/v2/signingCert", "/api/v1/log/entries"
TOKEN = "POINTSMAN_IDENTITY_TOKEN"
CIS = ("GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "BUILDKITE", "GOOGLE_SERVICE_ACCOUNT_NAME")


@dataclass
class Forge:
    """A checkout in a CI whose jobs have identities."""

    sigstore: Sigstore
    root: Path
    environment: pytest.MonkeyPatch

    def signer(self, identity: str = CI, *, realm: str = "ci", **claims: Any) -> Signer:
        """Of a job that runs now."""
        self.environment.setenv(TOKEN, self.sigstore.token(identity, realm=realm, **claims))
        return self.found()

    def found(self, **said: Any) -> Signer:
        """Whatever signs by what is set now."""
        (self.root / "sigstore.json").write_text(json.dumps(self.sigstore.trust_config()))
        params = PublishParams(sigstore=SigstoreParams(**{"trust": "sigstore.json", **said}))
        signer = find_signer(params, self.root)
        assert signer is not None
        return signer

    def trusted(self, identity: str = CI, *, realm: str = "ci") -> TrustedIdentity:
        return TrustedIdentity(identity, f"{self.sigstore.url}/{realm}", read_trust("sigstore.json", self.root))


@pytest.fixture
def forge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forge]:
    for name in (TOKEN, f"{TOKEN}_FILE", "POINTSMAN_SIGNING_KEY", *CIS):
        monkeypatch.delenv(name, raising=False)
    with run_sigstore() as running:
        yield Forge(running, tmp_path, monkeypatch)


def test_what_an_identity_signs_holds_for_it_and_its_release(forge: Forge, folder_store: FolderStore) -> None:
    assert publish(RELEASE, folder_store, signer=forge.signer(), commit=COMMIT)
    found = find_signature(folder_store, RELEASE.manifest, [forge.trusted(EVE), forge.trusted()])
    assert found is not None
    assert found.signer == f"{CI} (issuer {forge.sigstore.url}/ci)"
    assert read_builds(folder_store, DIGEST, [forge.trusted()]) == [Build(COMMIT, found.signer)]
    assert read_builds(folder_store, DIGEST, [forge.trusted(EVE)]) == [Build(COMMIT, None)]
    assert json.loads(found.bundle)["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
    with pytest.raises(IntegrityError, match="for other files"):
        check_signature(found.bundle, release_of(9).manifest, forge.trusted(), "here")


def test_a_signature_says_who_made_it_and_where_that_is_logged(forge: Forge, folder_store: FolderStore) -> None:
    publish(RELEASE, folder_store, signer=forge.signer())
    (claim,) = list_claims(folder_store, DIGEST)
    assert (claim.id, claim.identity) == (forge.trusted().id, CI)
    assert (claim.issuer, claim.log_index) == (f"{forge.sigstore.url}/ci", 3)
    assert claim.logged is not None
    assert claim.logged.endswith("+00:00")


def test_to_publish_again_adds_no_second_signature(forge: Forge, folder_store: FolderStore) -> None:
    for _ in range(2):
        publish(RELEASE, folder_store, signer=forge.signer(), commit=COMMIT)
    publish(RELEASE, folder_store, signer=forge.signer(EVE), commit=COMMIT)
    assert len(folder_store.entries(signatures_of(DIGEST))) == 2
    assert len(folder_store.entries(attestations_of(DIGEST))) == 2


def test_openssf_s_own_tool_verifies_it_and_finds_who_and_what_is_wrong(
    forge: Forge, folder_store: FolderStore
) -> None:
    publish(RELEASE, folder_store, signer=forge.signer())
    folder = forge.root / "pulled"
    fetch_release(folder_store, DIGEST, folder, find_signature(folder_store, RELEASE.manifest, [forge.trusted()]))

    def verify(identity: str, realm: str = "ci") -> int:
        given = [str(folder), "--signature", str(folder / SIGNATURE), "--identity", identity]
        given += ["--identity_provider", f"{forge.sigstore.url}/{realm}"]
        given += ["--trust_config", str(forge.root / "sigstore.json")]
        return CliRunner().invoke(openssf.main, ["verify", "sigstore", *given]).exit_code

    assert verify(CI) == 0
    assert verify(EVE) != 0
    assert verify(CI, "other") != 0
    (folder / "a.json").write_text("another")
    assert verify(CI) != 0


@pytest.mark.parametrize(("identity", "realm", "said"), [(EVE, "ci", "SANs do not match"), (CI, "other", "OIDCIssuer")])
def test_another_identity_or_issuer_is_refused_under_whatever_name(
    forge: Forge, folder_store: FolderStore, identity: str, realm: str, said: str
) -> None:
    bundle = sign(RELEASE.manifest, forge.signer(identity, realm=realm)).bundle
    publish(RELEASE, folder_store)
    folder_store.create(signature_key(DIGEST, forge.trusted().id), bundle, sha256(bundle).hexdigest())
    with pytest.raises(IntegrityError, match=said) as refused:
        find_signature(folder_store, RELEASE.manifest, [forge.trusted()])
    assert f"the signature of {identity} (issuer {forge.sigstore.url}/{realm}) does not hold for {CI}" in str(
        refused.value
    )
    attest(folder_store, DIGEST, seal_build(DIGEST, COMMIT, forge.signer(identity, realm=realm)))
    assert read_builds(folder_store, DIGEST, [forge.trusted()]) == [Build(COMMIT, None)]


def test_a_name_that_would_write_over_the_terminal_signs_nothing(forge: Forge) -> None:
    with pytest.raises(IntegrityError, match="a name that cannot be shown"):
        sign(RELEASE.manifest, forge.signer("eve\x7f@example.org"))


def test_an_identity_of_another_sigstore_is_refused(forge: Forge) -> None:
    bundle = sign(RELEASE.manifest, forge.signer()).bundle
    with run_sigstore() as strange:
        (forge.root / "sigstore.json").write_text(json.dumps(strange.trust_config()))
        with pytest.raises(IntegrityError, match="certificate chain"):
            check_signature(bundle, RELEASE.manifest, forge.trusted(), "here")


def leaves(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every text in a JSON value."""
    if isinstance(value, str) and value:
        yield way
    for key, below in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from leaves(below, (*way, key))


def other(text: str) -> str:
    """The text with one character changed, near its middle, that is still of its kind."""
    place = len(text) // 2
    return f"{text[:place]}{'2' if text[place] != '2' else '3'}{text[place + 1 :]}"


def test_whatever_is_changed_in_a_bundle_is_found(forge: Forge) -> None:
    bundle = json.loads(sign(RELEASE.manifest, forge.signer()).bundle)
    ways = list(leaves(bundle))
    assert len(ways) > 15
    for way in ways:
        changed = json.loads(json.dumps(bundle))
        inner = changed
        for key in way[:-1]:
            inner = inner[key]
        inner[way[-1]] = other(inner[way[-1]])
        if way[-1] == "signedTimestamp":
            continue  # a second witness of the time beside the log: one that does not hold counts for nothing
        if way[-1] == "keyId":
            inner[way[-1]] = base64.b64encode(b"\0" * 32).decode()
        with pytest.raises(IntegrityError):
            check_signature(json.dumps(changed).encode(), RELEASE.manifest, forge.trusted(), "here")
    check_signature(json.dumps(bundle).encode(), RELEASE.manifest, forge.trusted(), "here")


NO_CERTIFICATE = b'{"verificationMaterial": {"certificate": {"rawBytes": "AAAA"}}}'
NO_KEY = b'{"verificationMaterial": {"publicKey": {"hint": "\\u001b[2J"}}}'


@pytest.mark.parametrize("bundle", [b"", b"{}", b"[]", b"\xff", NO_CERTIFICATE, NO_KEY])
def test_what_is_no_bundle_is_refused(forge: Forge, bundle: bytes) -> None:
    forge.signer()
    with pytest.raises(IntegrityError, match="not a signature"):
        check_signature(bundle, RELEASE.manifest, forge.trusted(), "here")


def test_an_entry_that_the_log_did_not_sign_is_refused_and_not_published(
    forge: Forge, folder_store: FolderStore
) -> None:
    forge.sigstore.log.forger = new_key()
    with pytest.raises(IntegrityError, match="invalid log entry"):
        publish(RELEASE, folder_store, signer=forge.signer())
    assert not folder_store.entries("manifests/")


@pytest.mark.parametrize("hours", [-1, 1])
@pytest.mark.parametrize("whose", ["certificate", "timestamp"])
def test_a_signature_outside_its_certificate_s_time_is_refused(
    forge: Forge, folder_store: FolderStore, whose: str, hours: int
) -> None:
    late = forge.sigstore.authority if whose == "certificate" else forge.sigstore.clock
    late.shift = timedelta(hours=hours)
    with pytest.raises((IntegrityError, ConfigurationError), match=r"not valid at validation time|expired"):
        publish(RELEASE, folder_store, signer=forge.signer())
    assert not folder_store.entries("manifests/")


def test_a_certificate_that_was_not_logged_is_refused(forge: Forge, folder_store: FolderStore) -> None:
    signer = forge.signer()
    forge.sigstore.authority.log_key = new_key()
    with pytest.raises(IntegrityError, match="SCT"):
        publish(RELEASE, folder_store, signer=signer)
    assert not folder_store.entries("")


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"exp": 1, "iat": 0}, r"\$POINTSMAN_IDENTITY_TOKEN expired at 1970-01-01 00:00:01 UTC; get a new one"),
        ({"aud": "another"}, "is not for 'sigstore'"),
        ({"sub": None}, "none that Sigstore takes"),
    ],
)
def test_a_token_that_cannot_do_says_why(forge: Forge, claims: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        forge.signer(**claims)


def test_without_a_token_there_are_words_and_no_browser(forge: Forge) -> None:
    with pytest.raises(ConfigurationError, match=r"no identity token to sign by: set \$POINTSMAN_IDENTITY_TOKEN"):
        forge.found()
    forge.environment.setenv(TOKEN, "what is no token")
    with pytest.raises(ConfigurationError, match="none that Sigstore takes"):
        forge.found()
    forge.environment.delenv(TOKEN)
    forge.environment.setenv(f"{TOKEN}_FILE", str(forge.root / "nowhere"))
    with pytest.raises(ConfigurationError, match="name the file that holds the identity token"):
        forge.found()
    forge.environment.delenv(f"{TOKEN}_FILE")
    forge.environment.setenv("GITHUB_ACTIONS", "true")
    with pytest.raises(ConfigurationError, match="this CI gives no identity token"):
        forge.found()


def test_a_token_comes_from_a_file_too_or_from_the_ci(forge: Forge) -> None:
    (forge.root / "token").write_text(forge.sigstore.token(CI) + "\n")
    forge.environment.setenv(f"{TOKEN}_FILE", str(forge.root / "token"))
    assert sign(RELEASE.manifest, forge.found()).by.id == forge.trusted().id
    forge.environment.delenv(f"{TOKEN}_FILE")
    forge.environment.setenv("GITLAB_CI", "true")
    forge.environment.setenv("SIGSTORE_ID_TOKEN", forge.sigstore.token(EVE))
    assert sign(RELEASE.manifest, forge.found()).by.id == forge.trusted(EVE).id


def test_a_token_that_its_issuer_did_not_sign_is_refused_by_fulcio(forge: Forge, folder_store: FolderStore) -> None:
    true_key, forge.sigstore.issuer_key = forge.sigstore.issuer_key, new_key()
    signer = forge.signer()
    forge.sigstore.issuer_key = true_key
    with pytest.raises(ConfigurationError, match=r"Fulcio .* refuses with 401: .*Signature verification failed"):
        publish(RELEASE, folder_store, signer=signer)
    assert not folder_store.entries("")


@pytest.mark.parametrize("service", [FULCIO, REKOR])
def test_a_service_that_is_out_of_order_may_be_tried_again(
    forge: Forge, folder_store: FolderStore, service: str
) -> None:
    signer, forge.sigstore.broken = forge.signer(), service
    with pytest.raises(TransientError, match=r"refuses with 500: .*out of order.*; try again") as refused:
        publish(RELEASE, folder_store, signer=signer)
    assert os.environ[TOKEN] not in str(refused.value)
    assert not folder_store.entries("")
    forge.sigstore.broken, forge.sigstore.moved = "", service
    with pytest.raises(ConfigurationError, match=f"{service} redirects to .*elsewhere"):
        publish(RELEASE, folder_store, signer=forge.signer())


@pytest.mark.parametrize("listens", [False, True])
@pytest.mark.parametrize(("key", "path"), [("caUrls", FULCIO), ("rekorTlogUrls", REKOR)])
def test_a_service_that_is_not_there_or_silent_is_named(
    forge: Forge, monkeypatch: pytest.MonkeyPatch, key: str, path: str, listens: bool
) -> None:
    monkeypatch.setattr(keyless_signer, "SILENCE_S", 0.1)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        if listens:
            mute.listen()
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        config = forge.sigstore.trust_config()
        config["signingConfig"][key] = [config["signingConfig"][key][0] | {"url": url}]
        forge.sigstore.trust_config = lambda: config  # type: ignore[method-assign]
        with pytest.raises(TransientError, match=f"cannot reach {url}{path}, of Sigstore"):
            sign(RELEASE.manifest, forge.signer())


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://10.0.0.7", "a private address"),
        ("https://me:secret@sigstore.example", "holds a user"),
        ("sigstore.example", "is no address"),
        ("http://8.8.8.8", "which takes https"),
    ],
)
def test_addresses_keep_the_rules_of_base_urls(forge: Forge, url: str, said: str) -> None:
    config = forge.sigstore.trust_config()
    config["signingConfig"]["caUrls"][0]["url"] = url
    forge.sigstore.trust_config = lambda: config  # type: ignore[method-assign]
    with pytest.raises(ConfigurationError, match=said):
        forge.signer()
    if "private" in said:
        forge.found(private=True)


def test_a_public_name_that_leads_to_a_private_address_is_not_followed(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = forge.sigstore.trust_config()
    config["signingConfig"]["caUrls"][0]["url"] = "https://sigstore.example"
    forge.sigstore.trust_config = lambda: config  # type: ignore[method-assign]
    signer = forge.signer()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *asked, **more: [(2, 1, 6, "", ("10.0.0.7", 443))])
    with pytest.raises(ConfigurationError, match=r"sigstore\.example is at 10\.0\.0\.7, a private address"):
        sign(RELEASE.manifest, signer)


def test_the_public_sigstore_that_cannot_be_reached_may_be_tried_again(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = sign(RELEASE.manifest, forge.signer()).bundle
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(forge.root / "kept"))
    for use in (
        lambda: check_signature(
            bundle, RELEASE.manifest, TrustedIdentity(CI, f"{forge.sigstore.url}/ci", Trust("public", None)), "here"
        ),
        lambda: forge.found(trust="public"),
    ):
        with pytest.raises(TransientError, match="keys of the public Sigstore cannot be fetched"):
            use()


@pytest.mark.parametrize("text", ["", "{}", '{"mediaType": "another"}'])
def test_what_is_no_trust_config_is_refused(forge: Forge, text: str) -> None:
    bundle = sign(RELEASE.manifest, forge.signer()).bundle
    (forge.root / "sigstore.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"sigstore\.json is no trust config"):
        check_signature(bundle, RELEASE.manifest, forge.trusted(), "here")
    with pytest.raises(ConfigurationError, match=r"nowhere\.json cannot be read"):
        forge.found(trust="nowhere.json")


def test_a_release_is_signed_one_way(forge: Forge) -> None:
    make_keys(forge.root / "release.pem")
    forge.environment.setenv("POINTSMAN_SIGNING_KEY", str(forge.root / "release.pem"))
    with pytest.raises(ConfigurationError, match="signed one way"):
        forge.signer()
    signed = sign(RELEASE.manifest, load_private_key(forge.root / "release.pem"))
    forge.environment.delenv("POINTSMAN_SIGNING_KEY")
    forge.signer()
    with pytest.raises(IntegrityError, match=f"signed with a {read_claim(signed.bundle, 'here')}, and not by {CI}"):
        check_signature(signed.bundle, RELEASE.manifest, forge.trusted(), "here")
