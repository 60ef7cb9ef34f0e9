"""Pre-training of the tiny policy on generated text: a Hugging Face folder in a few minutes on two cores."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from stages.shared.files import atomic_folder
from stages.shared.params import TinyPolicy
from stages.shared.progress import Progress
from stages.train.tiny.model import build_model, place_numbers, relate_words
from stages.train.tiny.muon import Muon
from stages.train.tiny.text import lesson_weights, lessons
from stages.train.tiny.tokenizer import build_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

WARM_UP_STEPS = 40
DECAY_FROM = 0.6
"""Share of the steps after which the learning rate falls, linearly, to `FLOOR`."""
FLOOR = 0.03
WORKERS = 2
"""Threads that share a step's groups, one core each, whatever the environment says: nothing else runs then."""
BUCKETS = 4
"""Groups of similar length in a batch, so that little is padded."""


@dataclass(frozen=True)
class Batch:
    """Right-padded sequences. `ids` and `trained` are (sequences, tokens); `trained` marks the tokens to learn."""

    ids: torch.Tensor
    trained: torch.Tensor


def prepare_tiny(policy: TinyPolicy, seed: int, folder: Path, *, thrifty: bool = False) -> None:
    """Pre-train the tiny policy and write it to `folder` (config, safetensors, tokenizer). Deterministic by seed.

    `thrifty`: for a reward that counts cost.
    """
    tokenizer = build_tokenizer()
    model = build_model(policy, len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id, seed)
    place_numbers(model, tokenizer)
    relate_words(model, tokenizer)
    with Progress("train", total=policy.pretrain_steps, unit="pre-training steps") as progress:
        for loss in pretrain(model, tokenizer, policy, seed, thrifty):
            progress.advance(1, note=f"loss {loss:.3f}")
    with atomic_folder(folder) as part:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)


def pretrain(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, policy: TinyPolicy, seed: int, thrifty: bool
) -> Iterator[float]:
    """Train in place; yields each step's loss (mean cross-entropy of the trained tokens, nats)."""
    optimizers = _optimizers(model, policy.pretrain_rate)
    rng = random.Random(seed)
    with ThreadPoolExecutor(WORKERS, initializer=torch.set_num_threads, initargs=(1,)) as workers:
        for step in range(policy.pretrain_steps):
            done = step / policy.pretrain_steps
            for group in (group for optimizer in optimizers for group in optimizer.param_groups):
                group["lr"] = policy.pretrain_rate * _schedule(step, done)
            yield _differentiate(model, draw_batches(tokenizer, policy.pretrain_batch, done, rng, thrifty), workers)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()


def _differentiate(model: Qwen2ForCausalLM, batches: list[Batch], workers: Executor) -> float:
    """Set the parameters' gradients of the mean loss, and return it. Summed in a fixed order: the same bits each time.

    Whole groups on a core each keep two cores busy; single products of this size, split over both, do not.
    """
    trained = sum(int(batch.trained[:, 1:].sum()) for batch in batches)
    parameters = list(model.parameters())

    def one(batch: Batch) -> tuple[float, tuple[torch.Tensor, ...]]:
        """A group's share of the loss, and its gradients."""
        loss = summed_loss(model, batch) / trained
        return loss.item(), torch.autograd.grad(loss, parameters)

    parts = list(workers.map(one, reversed(batches)))  # the longest first
    for parameter, *gradients in zip(parameters, *(gradients for _, gradients in parts), strict=True):
        parameter.grad = torch.stack(gradients).sum(0)
    return sum(loss for loss, _ in parts)


def _schedule(step: int, done: float) -> float:
    warm = min(1.0, (step + 1) / WARM_UP_STEPS)
    return warm * (1.0 if done < DECAY_FROM else max(FLOOR, (1.0 - done) / (1.0 - DECAY_FROM)))


def _optimizers(model: Qwen2ForCausalLM, rate: float) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for matrices (Jordan et al. 2024), AdamW for embeddings, biases and norms."""
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if not (p.dim() == 2 and "embed" not in n)]
    return (
        Muon(matrices, rate),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    )


def draw_batches(
    tokenizer: PreTrainedTokenizerFast, size: int, done: float, rng: random.Random, thrifty: bool = False
) -> list[Batch]:
    """`size` lessons, as often as `lesson_weights` says at that share of the training, bucketed by length."""
    drawn = [lesson(rng) for lesson in rng.choices(lessons(thrifty=thrifty), lesson_weights(done), k=size)]
    texts = [text for lesson in drawn for text, _ in lesson]
    encoded = iter(tokenizer(texts, add_special_tokens=False)["input_ids"])
    rows = [[(token, trained) for _, trained in lesson for token in next(encoded)] for lesson in drawn]
    rows.sort(key=len)
    width = -(-size // BUCKETS)
    return [_pad(rows[at : at + width], tokenizer.pad_token_id) for at in range(0, size, width)]


def _pad(rows: list[list[tuple[int, bool]]], pad: int) -> Batch:
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros((len(rows), longest), dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor([token for token, _ in row])
        mask[index, : len(row)] = torch.tensor([trained for _, trained in row])
    return Batch(ids, mask)


def summed_loss(model: Qwen2ForCausalLM, batch: Batch) -> torch.Tensor:
    """Summed cross-entropy of the trained tokens, nats; logits are computed for these alone."""
    hidden = model.model(input_ids=batch.ids).last_hidden_state
    wanted = batch.trained[:, 1:]
    logits = model.lm_head(hidden[:, :-1][wanted])
    return torch.nn.functional.cross_entropy(logits, batch.ids[:, 1:][wanted], reduction="sum")
