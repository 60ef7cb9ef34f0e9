"""verl's group estimators, made blind to episodes that the infrastructure failed: these have an all-zero response mask.

GAE needs no help: verl's skips masked tokens, and so an episode of nothing but those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from verl.trainer.ppo.core_algos import (
    compute_grpo_outcome_advantage,
    compute_rloo_outcome_advantage,
    register_adv_est,
)

Estimate = Callable[..., tuple[torch.Tensor, torch.Tensor]]
GRPO, RLOO = "pointsman_grpo", "pointsman_rloo"


@register_adv_est(GRPO)
def grpo(token_level_rewards: torch.Tensor, response_mask: torch.Tensor, index: np.ndarray, **options: Any) -> Any:
    """Group-relative advantages (Shao et al. 2024) among the episodes that count; [episodes, response tokens]."""
    config = options.get("config")
    by_std = True if config is None else config.get("norm_adv_by_std_in_grpo", True)
    return _of_counting(
        compute_grpo_outcome_advantage, token_level_rewards, response_mask, index, norm_adv_by_std_in_grpo=by_std
    )


@register_adv_est(RLOO)
def rloo(token_level_rewards: torch.Tensor, response_mask: torch.Tensor, index: np.ndarray, **_: Any) -> Any:
    """Leave-one-out advantages (Ahmadian et al. 2024) among the episodes that count; [episodes, response tokens]."""
    return _of_counting(compute_rloo_outcome_advantage, token_level_rewards, response_mask, index)


def _of_counting(
    estimate: Estimate, rewards: torch.Tensor, mask: torch.Tensor, index: np.ndarray, **options: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    counts = (mask.sum(-1) > 0) & ~_bereft(mask, index)
    advantages, returns = torch.zeros_like(rewards), torch.zeros_like(rewards)
    if bool(counts.any()):
        advantages[counts], returns[counts] = estimate(
            token_level_rewards=rewards[counts], response_mask=mask[counts], index=index[counts.numpy()], **options
        )
    return advantages, returns


def _bereft(mask: torch.Tensor, index: np.ndarray) -> torch.Tensor:
    """Episodes whose group counts no other although it had others: there is nothing left to compare them with."""
    _, group = np.unique(index.astype(str), return_inverse=True)
    members, counting = np.bincount(group), np.bincount(group, weights=mask.sum(-1).numpy() > 0)
    return torch.from_numpy(((members > 1) & (counting <= 1))[group])
