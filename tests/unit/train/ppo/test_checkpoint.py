"""A policy out of verl's checkpoints: shards joined, adapters folded in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from stages.shared.errors import IntegrityError
from stages.shared.params import TinyPolicy
from stages.shared.policy import load_policy
from stages.train.ppo.checkpoint import export, merged
from stages.train.tiny.model import build_model
from stages.train.tiny.tokenizer import build_tokenizer


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    words = build_tokenizer()
    model = build_model(TinyPolicy(width=32, layers=2), len(words), words.pad_token_id, words.eos_token_id, 0)
    model.save_pretrained(tmp_path / "policy")
    words.save_pretrained(tmp_path / "policy")
    return tmp_path / "policy"


def test_an_adapted_policy_is_exported_as_peft_would_merge_it(policy: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(load_policy(policy), LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_()
    actor = tmp_path / "checkpoints" / "global_step_3" / "actor"
    actor.mkdir(parents=True)
    torch.save(model.state_dict(), actor / "model_world_size_1_rank_0.pt")
    (actor / "lora_train_meta.json").write_text(json.dumps({"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM"}))
    export(tmp_path / "checkpoints", 3, policy, tmp_path / "out")
    before, found = load_policy(policy).state_dict(), load_policy(tmp_path / "out").state_dict()
    wanted = model.merge_and_unload().state_dict()
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, wanted[name])
        assert value.equal(before[name]) == (not name.endswith("_proj.weight"))


def test_a_rank_that_is_missing_is_noticed(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "model_world_size_2_rank_1.pt")
    with pytest.raises(IntegrityError, match=r"ranks \[1\] are not a whole checkpoint"):
        merged(tmp_path)
