"""What a wrong params.yaml is told: where, what, and nothing of pydantic's own words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.shared.errors import ConfigurationError
from stages.shared.params import load_params, parse_params

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def raw() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "params.yaml").read_text())


def refusal(raw: dict[str, Any]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse_params(raw, "params.yaml")
    return str(caught.value)


def test_every_wrong_key_and_value_is_named_with_its_place(raw: dict[str, Any]) -> None:
    raw["train"]["ppo"]["stepz"] = 3
    raw["train"]["ppo"]["clip"] = "wide"
    del raw["train"]["policy"]["kind"]
    said = refusal(raw).splitlines()
    assert said[0] == "params.yaml:"
    assert "  train.ppo.stepz: unknown key; remove it or correct its spelling" in said
    assert any(line.startswith("  train.ppo.clip: ") and line.endswith("(found 'wide')") for line in said)
    assert any(line.startswith("  train.policy: ") for line in said)


def test_sections_that_contradict_each_other_are_refused_in_one_line(raw: dict[str, Any]) -> None:
    raw["ingest"]["source"] = {"kind": "files", "folder": "x", "train": {"nq": "a"}, "test": {"nq": "b"}}
    assert refusal(raw).splitlines()[1:] == [
        "  (whole file): pool.kind is sandbox, whose simulated experts know the sandbox's questions only; "
        "set ingest.source.kind to sandbox, or choose another pool"
    ]


def test_an_episode_that_cannot_hold_one_call_is_refused(raw: dict[str, Any]) -> None:
    raw["episode"] |= {"turn_tokens": 64, "reply_tokens": 24, "response_tokens": 87}
    assert "turn_tokens + reply_tokens = 88; raise it" in refusal(raw)


def test_what_is_no_mapping_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("- a\n")
    with pytest.raises(ConfigurationError, match="must hold a mapping of sections, found list"):
        load_params(path)
    with pytest.raises(ConfigurationError, match="no such file; write one with `pointsman use sandbox`"):
        load_params(tmp_path / "none.yaml")
