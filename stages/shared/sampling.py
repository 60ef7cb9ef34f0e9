"""One token from each row of scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch

NUCLEUS = 64
"""Largest probabilities looked at first: nearly always they hold top_p of the mass, and a full sort is not needed."""


def sample(
    logits: torch.Tensor, temperatures: Sequence[float], top_ps: Sequence[float], uniforms: Sequence[float]
) -> tuple[list[int], list[float]]:
    """Tokens by inverting the cumulative distribution at one uniform number a row; temperature 0 takes the largest.

    logits [N, vocabulary], fp32. The log-probabilities returned are of the whole distribution at the row's temperature
    (1 for greedy rows), before any cut by top_p: what PPO's ratio is about.
    """
    scale = torch.tensor([t if t > 0 else 1.0 for t in temperatures], device=logits.device)
    log_probs = (logits / scale[:, None]).log_softmax(-1)
    greedy = [temperature <= 0 for temperature in temperatures]
    if all(greedy):
        tokens = log_probs.argmax(-1)
    else:
        tokens = _draw(log_probs, top_ps, uniforms)
        if any(greedy):
            tokens = torch.where(torch.tensor(greedy, device=logits.device), log_probs.argmax(-1), tokens)
    chosen = log_probs.gather(1, tokens[:, None])[:, 0]
    return tokens.tolist(), chosen.tolist()


def _draw(log_probs: torch.Tensor, top_ps: Sequence[float], uniforms: Sequence[float]) -> torch.Tensor:
    probabilities = log_probs.exp()
    if any(top_p < 1 for top_p in top_ps):
        probabilities = nucleus(probabilities, torch.tensor(top_ps, device=log_probs.device))
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    points = torch.tensor(uniforms, dtype=torch.float64, device=log_probs.device)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, points, right=True)[:, 0].clamp_(max=log_probs.shape[1] - 1)


def nucleus(probabilities: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Zero all but the smallest set of tokens whose mass reaches top_p (Holtzman et al. 2020); [N, vocabulary], [N]."""
    count = min(NUCLEUS, probabilities.shape[1])
    values, ids = probabilities.topk(count, dim=-1)
    if count < probabilities.shape[1] and bool((values.sum(-1) < top_p).any()):
        values, ids = probabilities.sort(dim=-1, descending=True)
    before = values.cumsum(-1) - values
    kept = values.masked_fill(before >= top_p[:, None], 0.0)
    cut = torch.zeros_like(probabilities).scatter_(1, ids, kept)
    return torch.where((top_p < 1)[:, None], cut, probabilities)
