"""What PPO will take: against published models' sizes, and against what torch really allocates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from transformers import LlamaConfig, Qwen2Config

from stages.shared.errors import ConfigurationError
from stages.shared.network import Network
from stages.shared.params import Params, TinyPolicy, parse_params
from stages.shared.progress import read_progress
from stages.train.memory.plan import GIB, Plan, activations, plan
from stages.train.memory.policy import policy_config
from stages.train.memory.room import Device, announce, fit
from stages.train.memory.setup import Setup
from stages.train.memory.shape import Shape
from stages.train.ppo.engine import Tree
from stages.train.tiny.model import build_model

PROFILES = Path(__file__).resolve().parents[4] / "infra" / "profiles"
# https://huggingface.co/Qwen/Qwen2.5-3B-Instruct and meta-llama/Llama-3.2-3B-Instruct, config.json
QWEN = Qwen2Config(
    vocab_size=151936, hidden_size=2048, intermediate_size=11008, num_hidden_layers=36, num_attention_heads=16,
    num_key_value_heads=2, tie_word_embeddings=True,
)  # fmt: skip
LLAMA = LlamaConfig(
    vocab_size=128256, hidden_size=3072, intermediate_size=8192, num_hidden_layers=28, num_attention_heads=24,
    num_key_value_heads=8, head_dim=128, tie_word_embeddings=True,
)  # fmt: skip
UPDATE = 32


def parameters(profile: str, **train: object) -> Params:
    raw = yaml.safe_load((PROFILES / f"{profile}.yaml").read_text())
    raw["train"].update(train)
    return parse_params(raw, profile)


def setup(**overrides: object) -> Setup:
    return Setup.of(parameters("paper-qwen", overrides=overrides))


def bytes_of(made: Plan, name: str) -> int:
    return next(part.bytes for part in made.parts if part.name == name)


@pytest.mark.parametrize(
    ("config", "count", "per_token"), [(QWEN, 3_085_938_688, 36_864), (LLAMA, 3_212_749_824, 114_688)]
)
def test_published_models_have_their_published_sizes(config, count: int, per_token: int) -> None:
    shape = Shape.of(config)
    assert shape.parameters == count
    assert shape.kv_bytes(2) == per_token
    assert shape.critic_parameters == count + config.hidden_size + 1


def test_states_are_four_words_a_parameter_over_all_gpus() -> None:
    made = plan(Shape.of(QWEN), setup())
    for role, count in (("actor", 3_085_938_688), ("critic", 3_085_940_737)):
        assert bytes_of(made, f"{role} weights") == bytes_of(made, f"{role} gradients") == count
        assert bytes_of(made, f"{role} optimizer") == 2 * count
    assert made.checkpoint == 12 * (3_085_938_688 + 3_085_940_737)


@pytest.mark.parametrize(
    ("profile", "config", "logits"),
    [("paper-qwen", QWEN, 3 * 8 * 4096 * 151936 * 2), ("paper-llama", LLAMA, 3 * 8 * 4096 * 128256 * 2)],
)
def test_the_papers_runs_fit_four_gpus_of_80_gb_and_not_four_of_24(profile: str, config, logits: int) -> None:
    shape, laid_out = Shape.of(config), Setup.of(parameters(profile))
    made = fit(shape, laid_out, Device("H100", 79 * GIB, 4), UPDATE)
    assert bytes_of(made, "actor logits") == logits
    assert 50 * GIB < made.highest < 75 * GIB
    with pytest.raises(ConfigurationError, match=r"RTX 4090 has 24\.00 GiB"):
        fit(shape, laid_out, Device("RTX 4090", 24 * GIB, 4), UPDATE)


def test_a_refusal_names_the_largest_forward_pass_that_fits() -> None:
    shape, device = Shape.of(QWEN), Device("A6000", 48 * GIB, 4)
    with pytest.raises(ConfigurationError, match=r"set train\.ppo\.micro_batch to 4"):
        fit(shape, setup(), device, UPDATE)
    fit(shape, replace(setup(), micro_batch=4), device, UPDATE)


def test_where_no_forward_pass_fits_other_ways_are_named() -> None:
    with pytest.raises(ConfigurationError, match="lora_rank"):
        fit(Shape.of(QWEN), setup(), Device("T4", 15 * GIB, 4), UPDATE)


def test_vllm_must_hold_the_policy_and_one_episode() -> None:
    tight = setup(**{"actor_rollout_ref.rollout.gpu_memory_utilization": 0.1})
    with pytest.raises(ConfigurationError, match="gpu_memory_utilization"):
        fit(Shape.of(QWEN), tight, Device("A100", 40 * GIB, 4), UPDATE)


def test_adapters_take_the_place_of_gradients_and_moments() -> None:
    shape = Shape.of(QWEN)
    made = plan(shape, setup(**{"actor_rollout_ref.model.lora_rank": 32}))
    layer = 2048 + 2048 + 2 * (2048 + 256) + 2048 + 2048 + 3 * (2048 + 11008)
    assert bytes_of(made, "actor gradients") == 36 * layer * 32 * 4 / 4
    assert bytes_of(made, "actor weights") == shape.parameters + 36 * layer * 32


def test_offloaded_moments_are_there_while_their_own_model_learns() -> None:
    shape, kept = Shape.of(QWEN), setup()
    offloaded = setup(**{"actor_rollout_ref.actor.fsdp_config.optimizer_offload": True})
    difference = plan(shape, kept).peak("critic") - plan(shape, offloaded).peak("critic")
    assert difference == 2 * shape.parameters
    assert plan(shape, kept).peak("actor") == plan(shape, offloaded).peak("actor")


def test_checkpointing_keeps_a_layer_and_the_inputs_of_the_others() -> None:
    shape, laid_out = Shape.of(QWEN), setup()
    without = replace(laid_out.actor, checkpointing=False)
    assert activations(shape, laid_out, without) > 15 * activations(shape, laid_out, laid_out.actor)


def test_a_model_that_cannot_be_trained_is_refused() -> None:
    from transformers import ViTConfig

    with pytest.raises(ConfigurationError, match="vit"):
        Shape.of(ViTConfig())


def test_the_tiny_policy_takes_what_torch_allocates() -> None:
    """Weights, gradients and moments to the byte; what a forward pass keeps within a twentieth."""
    policy = TinyPolicy(width=64, layers=3, heads=4)
    model = build_model(policy, 200, 0, 1, seed=0)
    shape = Shape.of(model.config)
    laid_out = replace(Setup.of(parameters("sandbox")), prompt=40, response=24, micro_batch=6, shared_prompt=1)
    made = plan(shape, laid_out)
    optimizer = torch.optim.AdamW(model.parameters())
    tree, kept = episodes(laid_out), {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if tensor.is_floating_point() and storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = Network(model).hidden(tree.tokens, tree.positions, tree.attend)
    hidden.sum().backward()
    optimizer.step()
    assert bytes_of(made, "actor weights") == sum(p.nbytes for p in model.parameters())
    grown = [p.grad.nbytes if p.grad is not None else p.nbytes for p in model.parameters()]
    assert bytes_of(made, "actor gradients") == sum(grown)
    moments = [v for state in optimizer.state.values() for k, v in state.items() if k != "step"]
    assert bytes_of(made, "actor optimizer") == sum(moment.nbytes for moment in moments)
    measured = sum(storage.nbytes() for storage in kept.values())
    assert bytes_of(made, "actor activations") == pytest.approx(measured, rel=0.05)


def episodes(laid_out: Setup) -> Tree:
    """Episodes with a prompt of their own each, all as long as they may be."""
    shape = (laid_out.micro_batch, laid_out.prompt), (laid_out.micro_batch, laid_out.response)
    prompts, responses = (torch.randint(2, 200, size) for size in shape)
    return Tree.build(prompts, responses, torch.ones(laid_out.micro_batch, laid_out.prompt + laid_out.response))


def test_the_default_policy_is_planned_without_weights() -> None:
    shape = Shape.of(policy_config(parameters("sandbox").train.policy))
    assert 1_000_000 < shape.parameters < 2_000_000


def test_the_plan_is_said_part_by_part_and_left_as_a_progress_note(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    announce(parameters("sandbox"))
    assert "actor optimizer" in capsys.readouterr().err
    snapshot = read_progress("train")
    assert snapshot is not None
    assert snapshot.note.startswith("PPO takes up to ")
    assert "of this machine" in snapshot.note


def test_a_packed_pass_holds_who_may_see_whom_of_its_tokens_once_as_bool_and_once_as_bf16() -> None:
    assert bytes_of(plan(Shape.of(QWEN), setup()), "attention mask") == 3 * setup().tokens ** 2
