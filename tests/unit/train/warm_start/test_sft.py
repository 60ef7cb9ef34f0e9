"""Fine-tuning on demonstrations, on a random network of a few thousand parameters."""

import random
from itertools import cycle

import pytest
import torch

from stages.shared.episode.types import Episode
from stages.train.warm_start.sft import Example, Recipe, fit, micro_batches, rate, token_losses

VOCABULARY = 50


def network(seed: int = 0):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    return Qwen2ForCausalLM(
        Qwen2Config(vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                    num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True)
    )  # fmt: skip


def examples(n: int = 8, seed: int = 0) -> list[Example]:
    """Sequences that repeat their first half, which is not trained."""
    rng = random.Random(seed)
    halves = [[rng.randrange(2, VOCABULARY) for _ in range(rng.randint(3, 9))] for _ in range(n)]
    return [Example((*half, 1, *half), (*[0] * (len(half) + 1), *[1] * len(half))) for half in halves]


def test_an_example_trains_what_the_policy_wrote_and_not_the_prompt():
    episode = Episode((5, 6), (7, 8, 9), (1, 0, 1), None, (), "9", (), "answered")
    assert Example.of(episode) == Example((5, 6, 7, 8, 9), (0, 0, 1, 0, 1))


def test_a_few_steps_lower_the_loss():
    losses = list(fit(network(), cycle(examples()), Recipe(steps=60, batch=8, learning_rate=1e-2)))
    assert losses[0] == pytest.approx(torch.tensor(VOCABULARY).log().item(), abs=0.5)
    assert losses[-1] < losses[0] / 2


def test_the_same_start_and_examples_give_the_same_weights():
    def trained():
        model = network()
        losses = list(fit(model, cycle(examples()), Recipe(steps=5, batch=4, learning_rate=1e-2)))
        return losses, torch.cat([weight.flatten() for weight in model.parameters()])

    (first_losses, first), (second_losses, second) = trained(), trained()
    assert first_losses == second_losses
    assert torch.equal(first, second)


def test_padding_changes_no_loss():
    model, batch = network(), examples()
    together = token_losses(model, batch)
    alone = torch.cat([token_losses(model, [example]) for example in batch])
    assert torch.allclose(together, alone, atol=1e-5)


def test_untrained_tokens_are_no_part_of_the_loss():
    model, (example, *_) = network(), examples()
    assert len(token_losses(model, [example])) == sum(example.trained)
    first = example.trained.index(1)
    changed = Example((*example.ids[:first], *(9 for _ in example.ids[first:])), example.trained)
    silent = Example(changed.ids, tuple(0 for _ in changed.ids))
    assert token_losses(model, [silent]).numel() == 0


def test_passes_of_bounded_size_give_the_gradient_of_the_whole(monkeypatch):
    def weights(limit):
        monkeypatch.setattr("stages.train.warm_start.sft.micro_batches", lambda batch: micro_batches(batch, limit))
        model = network()
        list(fit(model, cycle(examples()), Recipe(steps=1, batch=8, learning_rate=1e-2)))
        return torch.cat([weight.flatten() for weight in model.parameters()])

    assert torch.allclose(weights(10**6), weights(20), atol=1e-4)


def test_passes_hold_every_example_once_and_stay_within_the_limit():
    batch = examples(30)
    groups = list(micro_batches(batch, 40))
    assert sorted(e.ids for group in groups for e in group) == sorted(e.ids for e in batch)
    assert all(len(group) * max(len(e.ids) for e in group) <= 40 or len(group) == 1 for group in groups)


def test_embeddings_stay_when_frozen_and_everything_can_be_trained_after():
    model = network()
    before = model.get_input_embeddings().weight.clone()
    recipe = Recipe(steps=2, batch=4, learning_rate=1e-2, compute="bfloat16", freeze_embeddings=True)
    list(fit(model, cycle(examples()), recipe))
    assert torch.equal(model.get_input_embeddings().weight, before)
    assert all(weight.requires_grad and weight.dtype == torch.float32 for weight in model.parameters())


def test_the_learning_rate_rises_to_its_peak_and_falls_to_a_tenth():
    shares = [rate(step, 100) for step in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert max(shares) == pytest.approx(0.91)
    assert shares[9:] == sorted(shares[9:], reverse=True)
    assert shares[-1] == pytest.approx(0.1)
