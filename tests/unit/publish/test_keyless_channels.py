"""A channel that trusts an identity instead of a key, at the command line: promote, pull, verify, show, publish."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from stages.publish.channels import Event
from stages.publish.folder import FolderStore
from stages.publish.gates import POLICY, load_policies
from stages.publish.keys import blob_key
from stages.publish.manage import main
from stages.publish.manifest import FileEntry, Manifest
from stages.publish.memory import Memory
from stages.publish.promotion import Desk
from stages.publish.release import Release, publish
from stages.publish.serving import follower
from stages.publish.serving.metrics import Metrics
from stages.publish.serving.options import Options
from stages.publish.signature import SIGNATURE, Signer, load_private_key, make_keys
from stages.publish.signer import find_signer
from stages.shared.errors import ConfigurationError, IntegrityError
from stages.shared.params import Params, PublishParams
from stages.shared.params.publish import SigstoreParams
from tests.unit.publish.sigstore_double import Sigstore, run_sigstore

CI, EVE = "https://forge.example/team/router/.github/workflows/release.yaml@refs/heads/main", "eve@example.org"
COMMIT = "1" * 40
TOKEN = "POINTSMAN_IDENTITY_TOKEN"


@dataclass
class Checkout:
    """A repository whose releases go to a folder, and the Sigstore that its CI signs by."""

    root: Path
    sigstore: Sigstore
    output: pytest.CaptureFixture[str]
    environment: pytest.MonkeyPatch

    @property
    def store(self) -> FolderStore:
        return FolderStore(self.root / "store")

    @property
    def issuer(self) -> str:
        return f"{self.sigstore.url}/ci"

    def by_identity(self, identity: str = CI, issuer: str | None = None) -> dict[str, str]:
        return {"identity": identity, "issuer": issuer or self.issuer, "trust": "sigstore.json"}

    def trusts(self, *signatories: Any) -> None:
        """Whom production trusts."""
        policies = {"channels": {"production": {"signed_by": list(signatories)}}, "other": {}}
        (self.root / POLICY).write_text(yaml.safe_dump(policies))

    def signer(self, identity: str = CI) -> Signer:
        self.environment.setenv(TOKEN, self.sigstore.token(identity))
        found = find_signer(PublishParams(sigstore=SigstoreParams(trust="sigstore.json")), self.root)
        assert found is not None
        return found

    def key(self) -> Signer:
        make_keys(self.root / "release.pem")
        return load_private_key(self.root / "release.pem")

    def publish(self, em: float, signer: Signer | None) -> str:
        """A small release with what promotion looks at."""
        metrics = {"methods": {"router": {"average": {"em": em, "cost": 1.0}}}}
        said = {"metrics/evaluate.json": metrics, "params.json": {"profile_name": "smoke"}}
        contents = {name: json.dumps(value).encode() for name, value in said.items()}
        files = {name: FileEntry(sha256=sha256(data).hexdigest(), bytes=len(data)) for name, data in contents.items()}
        release = Release(Manifest(synthetic=True, files=files), contents)
        publish(release, self.store, signer=signer, commit=COMMIT)
        return release.manifest.digest

    def run(self, *arguments: str) -> tuple[int, str]:
        """A command's exit code, and all that it says."""
        self.output.readouterr()
        code = main(list(arguments))
        said = self.output.readouterr()
        return code, said.out + said.err

    def promote(self, digest: str) -> tuple[int, str]:
        return self.run("promote", digest, "--to", "production")


@pytest.fixture
def checkout(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Checkout]:
    changed = params.model_copy(update={"publish": PublishParams(folder="store")})
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(changed.model_dump(mode="json")))
    (tmp_path / "infra").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POINTSMAN_SIGNING_KEY", raising=False)
    with run_sigstore() as running:
        (tmp_path / "sigstore.json").write_text(json.dumps(running.trust_config()))
        made = Checkout(tmp_path, running, capsys, monkeypatch)
        made.trusts(made.by_identity())
        yield made


def test_what_the_trusted_identity_signed_is_promoted_shown_verified_and_pulled(checkout: Checkout) -> None:
    digest = checkout.publish(0.5, checkout.signer())
    code, said = checkout.run("promote", digest, "--to", "production", "--json")
    assert code == 0, said
    who = f"{CI} (issuer {checkout.issuer})"
    assert json.loads(said)["event"]["evidence"] == [
        {"gate": "signature", "wanted": f"by {who}", "found": who, "passed": True}
    ]
    assert checkout.run("verify")[0] == 0
    code, said = checkout.run("show", "production")
    assert f"signed by: {CI}, issuer {checkout.issuer}, log index 3, 20" in said
    assert "(trusted, checked)" in said
    assert f"built from: commit {COMMIT}; attested, signed ({who})" in said
    code, said = checkout.run("pull", "production", "--to", str(checkout.root / "live"), "--json")
    assert (code, json.loads(said)["signer"]) == (0, who)
    assert (checkout.root / "live" / "model.sig").is_file()


def test_what_another_signed_or_nobody_is_not_promoted_and_the_gate_says_who_did(checkout: Checkout) -> None:
    wanted = f"not by {CI} (issuer {checkout.issuer})"
    for em, signer, found in (
        (0.5, None, "none"),
        (0.6, checkout.signer(EVE), f"by {EVE} (issuer {checkout.issuer})"),
        (0.7, checkout.key(), "by key "),
    ):
        digest = checkout.publish(em, signer)
        code, said = checkout.promote(digest)
        assert code == 1
        assert f"signature: {found}" in said
        assert wanted in said
    code, said = checkout.run("show", digest)
    assert "signed by: key" in said
    assert "(no channel trusts it: not checked)" in said


def test_where_a_key_is_demanded_an_identity_does_not_do_and_both_may_be_trusted(checkout: Checkout) -> None:
    by_key, by_identity = checkout.publish(0.5, checkout.key()), checkout.publish(0.6, checkout.signer())
    checkout.trusts("release.pem.pub")
    code, said = checkout.promote(by_identity)
    assert code == 1
    assert f"signature: by {CI} (issuer {checkout.issuer}), not by release.pem.pub" in said
    checkout.trusts("release.pem.pub", checkout.by_identity())
    for digest in (by_key, by_identity):
        code, said = checkout.promote(digest)
        assert code == 0, said
    assert checkout.run("verify")[0] == 0


def test_what_a_channel_no_longer_trusts_is_not_served(checkout: Checkout) -> None:
    checkout.promote(checkout.publish(0.5, checkout.signer()))
    for identity, issuer in ((EVE, None), (CI, "https://issuer.example")):
        checkout.trusts(checkout.by_identity(identity, issuer))
        code, said = checkout.run("pull", "production", "--to", str(checkout.root / "live"))
        assert code == 1
        assert f"not signed as required (by {identity} (issuer {issuer or checkout.issuer}))" in said
        assert f"but by {CI} (issuer {checkout.issuer})" in said
    assert not (checkout.root / "live").exists()


def test_a_server_follows_what_the_trusted_identity_signed_alone(checkout: Checkout) -> None:
    loaded = []

    async def load(folder: Path, event: Event, *given: Any) -> SimpleNamespace:
        loaded.append((folder / SIGNATURE).is_file())
        return SimpleNamespace(event=event, digest=event.digest)

    checkout.environment.setattr(follower, "load", load)
    checkout.promote(checkout.publish(0.5, checkout.signer()))
    desk = Desk(checkout.store, Memory(checkout.root / ".pointsman", "store"), checkout.root)
    asyncio.run(follower.Follower(desk, Metrics(), Options("production")).look())
    checkout.trusts(checkout.by_identity(EVE))
    with pytest.raises(IntegrityError, match="not signed as required"):
        asyncio.run(follower.Follower(desk, Metrics(), Options("production")).look())
    assert loaded == [True]


def test_a_changed_signature_or_blob_is_found_by_verify_and_refused_by_pull(checkout: Checkout) -> None:
    digest = checkout.publish(0.5, checkout.signer())
    checkout.promote(digest)
    (signature,) = (checkout.root / "store" / "signatures" / digest).iterdir()
    blob = checkout.root / "store" / blob_key(sha256(json.dumps({"profile_name": "smoke"}).encode()).hexdigest())
    for path in (signature, blob):
        before = path.read_bytes()
        place = len(before) // 2
        path.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
        assert checkout.run("verify")[0] == 1
        assert checkout.run("pull", "production", "--to", str(checkout.root / "live"))[0] == 1
        path.write_bytes(before)
    assert checkout.run("verify")[0] == 0


def test_no_token_and_no_private_key_is_ever_written(checkout: Checkout) -> None:
    signer = checkout.signer()
    checkout.promote(checkout.publish(0.5, signer))
    checkout.run("pull", "production", "--to", str(checkout.root / "live"))
    token = os.environ[TOKEN].encode()
    files = [path for path in checkout.root.rglob("*") if path.is_file()]
    assert len(files) > 8
    for path in files:
        content = path.read_bytes()
        assert b"PRIVATE KEY" not in content, path
        assert not any(part in content for part in token.split(b".")), path


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"identity": CI}, "signed_by.0.identity.issuer: Field required"),
        ({"identity": CI, "issuer": "ci"}, "signed_by.0.identity.issuer: String should match"),
        ({"identity": CI, "issuer": "https://a", "isuer": "x"}, "unknown key; did you mean 'issuer'?"),
        (3, "signed_by.0.identity: Input should be"),
    ],
)
def test_an_identity_that_cannot_be_meant_is_named(checkout: Checkout, entry: Any, said: str) -> None:
    checkout.trusts(entry)
    with pytest.raises(ConfigurationError) as refused:
        load_policies(checkout.root)
    assert said in str(refused.value)
