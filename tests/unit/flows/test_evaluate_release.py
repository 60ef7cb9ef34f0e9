"""What the flow `evaluate-release` sets up to evaluate; the whole flow was run by hand, on a release of the sandbox."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.evaluate_release import Pulled, _is_shown, lay_out
from stages.shared.artifacts import verify_manifest, write_manifest
from stages.shared.errors import ConfigurationError
from stages.shared.params import load_params

ROOT = Path(__file__).resolve().parents[3]
DIGEST = "5" * 64


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """With questions and a profile."""
    root = tmp_path / "checkout"
    for stage in ("ingest", "profile"):
        folder = root / "artifacts" / stage
        folder.mkdir(parents=True)
        (folder / "descriptors.json").write_text("of the checkout")
        write_manifest(folder, f"pointsman/{stage}/1")
    for name in ("flows", "stages"):
        (root / name).mkdir()
    (root / "params.yaml").write_bytes((ROOT / "infra/profiles/smoke.yaml").read_bytes())
    return root


@pytest.fixture
def pulled(checkout: Path, tmp_path: Path) -> Pulled:
    """A release made with fewer calls, and with its own descriptors."""
    folder = tmp_path / "release"
    (folder / "policy").mkdir(parents=True)
    (folder / "policy" / "model.safetensors").write_text("weights")
    (folder / "descriptors.json").write_text("of the release")
    theirs = yaml.safe_load((checkout / "params.yaml").read_text())
    theirs["episode"]["max_calls"] = 1
    (folder / "params.json").write_text(json.dumps(theirs))
    return Pulled(DIGEST, folder)


def test_the_release_is_what_was_trained_and_the_questions_are_the_checkouts(checkout: Path, pulled: Pulled) -> None:
    folder = lay_out(checkout, pulled, baselines=False)
    assert folder == checkout / ".pointsman/evaluations" / DIGEST[:16]
    for stage in ("ingest", "profile", "train"):
        verify_manifest(folder / "artifacts" / stage)
    assert (folder / "artifacts/train/policy/model.safetensors").read_text() == "weights"
    assert (folder / "artifacts/profile/descriptors.json").read_text() == "of the release"
    assert (folder / "artifacts/ingest/descriptors.json").read_text() == "of the checkout"
    params = load_params(folder / "params.yaml")
    assert (params.episode.max_calls, params.evaluate.methods) == (1, ())
    assert lay_out(checkout, pulled, baselines=True) == folder
    assert load_params(folder / "params.yaml").evaluate.methods != ()


def test_a_release_of_other_candidates_is_refused(checkout: Path, pulled: Pulled) -> None:
    path = pulled.folder / "params.json"
    theirs: dict[str, Any] = json.loads(path.read_text())
    theirs["pool"]["experts"].pop()
    path.write_text(json.dumps(theirs))
    with pytest.raises(ConfigurationError, match=r"release 5555555555555555 routes between .* check out a commit with"):
        lay_out(checkout, pulled, baselines=False)


def test_only_what_the_release_plays_itself_is_shown_unless_baselines_are_asked_for() -> None:
    methods = ("router", "one-call", "forced:Fitus", "knn", "fixed:Fitus", "warm-start")
    assert [name for name in methods if _is_shown(name, baselines=False)] == ["router", "one-call", "forced:Fitus"]
    assert [name for name in methods if not _is_shown(name, baselines=True)] == ["warm-start"]
