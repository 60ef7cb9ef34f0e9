"""Any S3, by configuration."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from stages.publish.endpoint import open_store, store_name
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


def test_a_folder_is_a_store_without_a_server(tmp_path: Path) -> None:
    state = tmp_path / "repository" / ".pointsman"
    with open_store(PublishParams(folder="../kept"), state, writing=True) as store:
        store.create("x", b"x", hashlib.sha256(b"x").hexdigest())
    assert (tmp_path / "kept" / "x").read_bytes() == b"x"
    assert not (state / "s3").exists()


def test_a_folder_loads_nothing_of_s3() -> None:
    code = (
        "import sys; from pathlib import Path; from stages.publish.endpoint import open_store;"
        "from stages.shared.params import PublishParams\n"
        "with open_store(PublishParams(folder='x'), Path(sys.argv[1])): pass\n"
        "print([name for name in ('boto3', 'torch', 'transformers') if name in sys.modules])"
    )
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_two_places_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="both folder and endpoint"):
        PublishParams(folder="here", endpoint="http://there")


def test_a_store_has_one_name_whatever_port_its_server_has(tmp_path: Path) -> None:
    assert store_name(PublishParams(), tmp_path) == "embedded/pointsman/releases"
    assert store_name(PublishParams(folder="kept"), tmp_path / ".pointsman") == str(tmp_path / "kept")
    assert store_name(configured("https://s3.example.org"), tmp_path).startswith("https://s3.example.org/pointsman")


def test_a_clone_publishes_to_the_store_of_its_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_STORE_HOME", str(tmp_path / "checkout" / ".pointsman"))
    with open_store(PublishParams(folder="kept"), tmp_path / "clone" / ".pointsman", writing=True):
        assert (tmp_path / "checkout" / "kept").is_dir()
    assert not (tmp_path / "clone").exists()
    assert store_name(PublishParams(folder="kept"), tmp_path / "clone" / ".pointsman") == str(
        tmp_path / "checkout" / "kept"
    )
