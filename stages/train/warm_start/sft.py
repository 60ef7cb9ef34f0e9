"""Supervised fine-tuning on demonstrations: the policy learns its own turns, never the prompt or the replies."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F

from stages.shared.episode.types import Episode

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WARM_UP = 0.1
"""Share of the steps in which the learning rate rises."""
FLOOR = 0.1
"""Share of the peak learning rate that is left at the last step."""
MAX_NORM = 1.0
MICRO_TOKENS = 2048
"""Padded tokens of one forward pass, at most: bounds memory, changes nothing else."""


@dataclass(frozen=True)
class Example:
    """One sequence of token ids; `trained` is 1 where the policy wrote the token."""

    ids: tuple[int, ...]
    trained: tuple[int, ...]

    @staticmethod
    def of(episode: Episode) -> Example:
        """Prompt and response of an episode; only what the policy wrote in the response is trained."""
        prompt = episode.prompt_ids
        return Example((*prompt, *episode.response_ids), (*(0 for _ in prompt), *episode.response_mask))


@dataclass(frozen=True)
class Recipe:
    """How to fine-tune."""

    steps: int
    batch: int
    learning_rate: float
    """Peak, after a linear rise and before a linear fall."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """Of matrix products; the weights stay fp32."""
    freeze_embeddings: bool = False
    """Also freezes an output layer that is tied to them."""


def fit(model: PreTrainedModel, examples: Iterable[Example], recipe: Recipe) -> Iterator[float]:
    """Train `model` in place; yields each step's loss: mean cross-entropy of the trained tokens, nats.

    Deterministic: the order of `examples` is the order of training, `batch` of them a step.
    """
    model.train()
    if recipe.freeze_embeddings:
        model.get_input_embeddings().requires_grad_(False)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    source = iter(examples)
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * rate(step, recipe.steps)
        loss = _backward(model, list(itertools.islice(source, recipe.batch)), recipe)
        torch.nn.utils.clip_grad_norm_(weights, MAX_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield loss
    model.eval().requires_grad_(True)


def rate(step: int, steps: int) -> float:
    """The learning rate of a step as a share of its peak."""
    rise = max(1, round(WARM_UP * steps))
    return min(1.0, (step + 1) / rise) * max(FLOOR, 1.0 - step / steps)


def _backward(model: PreTrainedModel, batch: Sequence[Example], recipe: Recipe) -> float:
    """Accumulate the gradients of one step over passes of bounded size; returns the loss."""
    total = sum(sum(example.trained[1:]) for example in batch)
    loss = 0.0
    for part in micro_batches(batch):
        with torch.autocast(model.device.type, torch.bfloat16, enabled=recipe.compute == "bfloat16"):
            share = token_losses(model, part).sum() / total
        share.backward()
        loss += share.item()
    return loss


def micro_batches(batch: Sequence[Example], limit: int = MICRO_TOKENS) -> Iterator[list[Example]]:
    """The examples in order of length, in groups that stay within `limit` tokens when padded; an example is not cut."""
    group: list[Example] = []
    for example in sorted(batch, key=lambda item: len(item.ids)):
        if group and len(example.ids) * (len(group) + 1) > limit:
            yield group
            group = []
        group.append(example)
    if group:
        yield group


def token_losses(model: PreTrainedModel, examples: Sequence[Example]) -> torch.Tensor:
    """Cross-entropy of every trained token, fp32, one flat tensor; logits are computed for these tokens alone.

    Sequences are padded on the right, where a causal model does not look.
    """
    longest = max(len(example.ids) for example in examples)
    ids = torch.tensor([[*example.ids, *[0] * (longest - len(example.ids))] for example in examples])
    trained = torch.tensor([[*example.trained, *[0] * (longest - len(example.ids))] for example in examples]).bool()
    ids, wanted = ids.to(model.device), trained[:, 1:].to(model.device)
    hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    logits = model.get_output_embeddings()(hidden[wanted]).float()
    return F.cross_entropy(logits, ids[:, 1:][wanted], reduction="none")
