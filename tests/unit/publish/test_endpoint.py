"""Any S3, by configuration."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from stages.publish.endpoint import open_store
from stages.publish.seaweed import Server
from stages.shared.errors import ConfigurationError
from stages.shared.params import PublishParams


def configured(url: str) -> PublishParams:
    return PublishParams(endpoint=url, access_key_env="MY_KEY", secret_key_env="MY_SECRET")


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    monkeypatch.setenv("MY_KEY", server.keys.access)
    monkeypatch.setenv("MY_SECRET", server.keys.secret)


@pytest.mark.usefixtures("keys")
def test_a_configured_endpoint_is_used_and_no_server_started(server: Server, tmp_path: Path) -> None:
    with open_store(configured(server.url), tmp_path) as store:
        store.create("configured", b"x", hashlib.sha256(b"x").hexdigest())
        assert server.url in store.place
    assert not (tmp_path / "s3").exists()


@pytest.mark.parametrize("missing", ["MY_KEY", "MY_SECRET"])
@pytest.mark.usefixtures("keys")
def test_a_missing_key_names_the_variable(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.delenv(missing)
    with pytest.raises(ConfigurationError, match=missing), open_store(configured(server.url), tmp_path):
        pass


@pytest.mark.usefixtures("keys")
def test_wrong_keys_are_refused_before_any_work(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SECRET", "wrong")
    with (
        pytest.raises(ConfigurationError, match=r"\$MY_KEY and \$MY_SECRET"),
        open_store(configured(server.url), tmp_path),
    ):
        pass


@pytest.mark.usefixtures("keys")
def test_a_missing_bucket_is_not_created_behind_the_users_back(server: Server, tmp_path: Path) -> None:
    params = configured(server.url).model_copy(update={"bucket": "not-there"})
    with pytest.raises(ConfigurationError, match="no bucket 'not-there'"), open_store(params, tmp_path):
        pass
