"""What is said of the store before a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from stages.publish.check import store
from stages.publish.seaweed import Server
from stages.shared.params import Params, PublishParams, parse_params

ROOT = Path(__file__).resolve().parents[3]


def parameters(endpoint: str | None) -> Params:
    raw = yaml.safe_load((ROOT / "infra" / "profiles" / "smoke.yaml").read_text())
    raw["publish"] |= {"endpoint": endpoint, "access_key_env": "MY_KEY", "secret_key_env": "MY_SECRET"}
    return parse_params(raw, "test")


def test_the_embedded_store_needs_its_binary_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (finding,) = store(parameters(None))
    assert finding.state == "good"
    assert not list(tmp_path.iterdir())


def test_a_configured_store_is_asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", server.keys.access)
    monkeypatch.setenv("MY_SECRET", server.keys.secret)
    (finding,) = store(parameters(server.url))
    assert finding.state == "good"
    assert server.url in finding.found


def test_a_folder_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params = parameters(None)
    kept = params.model_copy(update={"publish": PublishParams(folder="kept")})
    assert [(each.state, "kept takes" in each.found) for each in store(kept)] == [("good", True)]
    (tmp_path / "file").write_text("in the way")
    broken = params.model_copy(update={"publish": PublishParams(folder="file/kept")})
    assert [each.state for each in store(broken)] == ["wrong"]


def test_a_missing_key_and_a_closed_endpoint_are_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    (finding,) = store(parameters("http://127.0.0.1:9"))
    assert finding.state == "wrong"
    assert "MY_KEY" in finding.found
