"""The critic's network as it is loaded on GPUs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from stages.shared.params import TinyPolicy
from stages.train.ppo import critic
from stages.train.tiny.model import build_model


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(critic.Job, "load", lambda: SimpleNamespace(seed=7))
    build_model(TinyPolicy(width=32, layers=2, heads=2), 40, 0, 1, seed=0).save_pretrained(tmp_path)
    return tmp_path


def loaded(policy: Path) -> Any:
    config = AutoConfig.from_pretrained(policy, attn_implementation="sdpa")
    config.num_labels = 1
    return critic.load(str(policy), torch.float32, config, trust_remote_code=False)


def test_it_takes_the_attention_that_is_asked_for_where_verl_would_take_a_package_that_is_not_there(
    policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import verl.utils.model as models

    monkeypatch.setattr(models, "load_valuehead_model", models.load_valuehead_model)
    with pytest.raises(RuntimeError, match="not a value head model"):
        models.load_valuehead_model(str(policy), torch.float32, AutoConfig.from_pretrained(policy), False)
    critic.install()
    assert models.load_valuehead_model is critic.load
    assert loaded(policy).config._attn_implementation == "sdpa"


def test_its_head_begins_the_same_in_every_process(policy: Path) -> None:
    first = loaded(policy)
    torch.rand(5)
    assert torch.equal(first.score.weight, loaded(policy).score.weight)
