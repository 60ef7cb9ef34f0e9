"""The CPU engine's forward pass gives verl what its own would: values for every response token, at its place."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stages.shared.network import Network
from stages.shared.params import TinyPolicy
from stages.train.ppo.engine import CpuEngine, CpuValueEngine, Tree
from stages.train.tiny.model import build_model

VOCABULARY, PAD = 60, 0
PROMPTS, RESPONSES = 10, 14


@pytest.fixture(scope="module")
def model() -> Any:
    return build_model(TinyPolicy(width=32, layers=2), VOCABULARY, PAD, 1, 0)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Five episodes of two prompts of different lengths, left-padded; responses right-padded, replies masked."""
    generator = torch.Generator().manual_seed(3)
    prompts = torch.randint(2, VOCABULARY, (2, PROMPTS), generator=generator)[[0, 0, 1, 0, 1]]
    responses = torch.randint(2, VOCABULARY, (5, RESPONSES), generator=generator)
    asked = (torch.arange(PROMPTS)[None] >= torch.tensor([2, 2, 5, 2, 5])[:, None]).long()
    answered = (torch.arange(RESPONSES)[None] < torch.tensor([14, 3, 8, 9, 1])[:, None]).long()
    mask = answered.clone()
    mask[:, 4:6] = 0
    return {
        "prompts": prompts,
        "responses": responses,
        "attention_mask": torch.cat((asked, answered), 1),
        "response_mask": mask,
    }


def micro_batch(batch: dict[str, torch.Tensor], temperature: float) -> Any:
    """As verl's trainer and engine pass it on."""
    from tensordict import TensorDict
    from verl.utils import tensordict_utils as tu
    from verl.workers.utils.padding import left_right_2_no_padding

    data = TensorDict(dict(batch), batch_size=5)
    data["input_ids"] = torch.cat((batch["prompts"], batch["responses"]), 1)
    data["position_ids"] = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    data = left_right_2_no_padding(data)
    tu.assign_non_tensor(data, temperature=temperature, calculate_entropy=True)
    return data


def reference(
    model: Any, batch: dict[str, torch.Tensor], row: int, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability and entropy of one episode's response tokens, by transformers alone."""
    ids = torch.cat((batch["prompts"][row], batch["responses"][row]))[batch["attention_mask"][row].bool()]
    count = int(batch["attention_mask"][row, PROMPTS:].sum())
    scores = (model(ids[None]).logits[0] / temperature).log_softmax(-1)[-count - 1 : -1]
    return scores.gather(1, ids[-count:, None])[:, 0], -(scores.exp() * scores).sum(-1)


def outputs(
    engine_class: type, module: Any, batch: dict[str, torch.Tensor], temperature: float
) -> dict[str, torch.Tensor]:
    from verl.workers.utils.padding import no_padding_2_padding

    engine = engine_class.__new__(engine_class)
    engine.module, engine._network = module, Network(module)
    data = micro_batch(batch, temperature)
    tree = Tree.build(data["prompts"], data["responses"], data["attention_mask"])
    hidden = engine._network.hidden(tree.tokens, tree.positions, tree.attend)
    found = engine._output(hidden, tree, data)
    return {name: no_padding_2_padding(value, data) for name, value in found.items()}


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probs_and_entropies_are_those_of_transformers(
    model: Any, batch: dict[str, torch.Tensor], temperature: float
) -> None:
    found = outputs(CpuEngine, model, batch, temperature)
    for row in range(5):
        scores, entropies = reference(model, batch, row, temperature)
        own = batch["response_mask"][row, : len(scores)].bool()
        assert torch.allclose(found["log_probs"][row, : len(scores)][own], scores[own], atol=1e-4)
        assert torch.allclose(found["entropy"][row, : len(scores)][own], entropies[own], atol=1e-4)
        assert not found["log_probs"][row, : len(scores)][~own].any()


def test_gradients_are_those_of_transformers(model: Any, batch: dict[str, torch.Tensor]) -> None:
    weights = torch.randn(5, RESPONSES, generator=torch.Generator().manual_seed(5)) * batch["response_mask"]
    model.zero_grad()
    (outputs(CpuEngine, model, batch, 1.0)["log_probs"] * weights).sum().backward()
    ours = {name: value.grad.clone() for name, value in model.named_parameters()}
    model.zero_grad()
    for row in range(5):
        scores, _ = reference(model, batch, row, 1.0)
        (scores * weights[row, : len(scores)]).sum().backward()
    for name, value in model.named_parameters():
        assert torch.allclose(ours[name], value.grad, atol=2e-4), name


def test_values_stand_before_the_token_that_they_judge(batch: dict[str, torch.Tensor]) -> None:
    from transformers import AutoModelForTokenClassification

    config = build_model(TinyPolicy(width=32, layers=2), VOCABULARY, PAD, 1, 0).config
    config.num_labels = 1
    torch.manual_seed(0)
    critic = AutoModelForTokenClassification.from_config(config).eval()
    found = outputs(CpuValueEngine, critic, batch, 1.0)["values"]
    for row in range(5):
        ids = torch.cat((batch["prompts"][row], batch["responses"][row]))[batch["attention_mask"][row].bool()]
        count = int(batch["attention_mask"][row, PROMPTS:].sum())
        assert torch.allclose(found[row, :count], critic(ids[None]).logits[0, -count - 1 : -1, 0], atol=1e-4)


def test_a_prompt_is_computed_once_for_all_its_episodes(batch: dict[str, torch.Tensor]) -> None:
    tree = Tree.build(batch["prompts"], batch["responses"], batch["attention_mask"])
    assert len(tree.prompt_lengths) == 2
    assert len(tree.tokens) == 8 + 5 + int(batch["attention_mask"][:, PROMPTS:].sum())
