"""What candidates said, and what the infrastructure broke, is in no advantage."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from verl.trainer.ppo.core_algos import compute_gae_advantage_return, compute_value_loss

from stages.train.ppo.advantage import grpo, rloo

ROWS, WIDTH = 6, 12


@pytest.fixture
def mask() -> torch.Tensor:
    """Policy tokens, a reply at 3..5 of every row, padding at the end of some."""
    mask = torch.ones(ROWS, WIDTH, dtype=torch.long)
    mask[:, 3:6] = 0
    mask[0, 9:] = mask[3, 10:] = 0
    return mask


def rewards_at_the_end(mask: torch.Tensor, scores: list[float]) -> torch.Tensor:
    rewards = torch.zeros(mask.shape)
    last = (mask * torch.arange(mask.shape[1])).argmax(1)
    rewards[torch.arange(len(scores)), last] = torch.tensor(scores)
    return rewards


SCORES = [1.0, 0.0, -1.0, 1.0, 0.5, 0.0]


def test_gae_whitening_and_critic_loss_do_not_see_observation_tokens(mask: torch.Tensor) -> None:
    torch.manual_seed(0)
    rewards, values = rewards_at_the_end(mask, SCORES), torch.randn(ROWS, WIDTH)
    disturbed = torch.where(mask.bool(), values, values + 100 * torch.randn(ROWS, WIDTH))
    own = mask.bool()
    for lam in (1.0, 0.9):
        plain, returns = compute_gae_advantage_return(rewards, values, mask, 1.0, lam)
        noisy, noisy_returns = compute_gae_advantage_return(rewards, disturbed, mask, 1.0, lam)
        assert torch.allclose(plain[own], noisy[own], atol=1e-5)
        assert torch.allclose(returns[own], noisy_returns[own], atol=1e-5)
        losses = [
            compute_value_loss(v + 0.1, r, v, own, cliprange_value=0.5)[0]
            for v, r in ((values, returns), (disturbed, noisy_returns))
        ]
        assert torch.allclose(*losses, atol=1e-5)


def test_gae_equals_that_of_an_episode_without_the_observation(mask: torch.Tensor) -> None:
    torch.manual_seed(1)
    rewards, values = rewards_at_the_end(mask, SCORES), torch.randn(ROWS, WIDTH)
    keep = [0, 1, 2, *range(6, WIDTH)]
    whole, _ = compute_gae_advantage_return(rewards, values, mask, 1.0, 0.9)
    cut, _ = compute_gae_advantage_return(rewards[:, keep], values[:, keep], mask[:, keep], 1.0, 0.9)
    own = mask[:, keep].bool()
    assert torch.allclose(whole[:, keep][own], cut[own], atol=1e-5)


def test_gae_leaves_out_an_episode_without_a_mask(mask: torch.Tensor) -> None:
    torch.manual_seed(2)
    rewards, values = rewards_at_the_end(mask, SCORES), torch.randn(ROWS, WIDTH)
    broken = mask.clone()
    broken[4] = 0
    others = [0, 1, 2, 3, 5]
    among, _ = compute_gae_advantage_return(rewards, values, broken, 1.0, 1.0)
    without, _ = compute_gae_advantage_return(rewards[others], values[others], mask[others], 1.0, 1.0)
    own = mask[others].bool()
    assert torch.allclose(among[others][own], without[own], atol=1e-5)


@pytest.mark.parametrize("estimate", [grpo, rloo])
def test_a_group_baseline_does_not_count_a_failed_episode(estimate, mask: torch.Tensor) -> None:  # type: ignore[no-untyped-def]
    index = np.array(["a"] * 4 + ["b"] * 2, dtype=object)
    broken = mask.clone()
    broken[2] = 0
    advantages, _ = estimate(token_level_rewards=rewards_at_the_end(mask, SCORES), response_mask=broken, index=index)
    rest = [0, 1, 3]
    expected, _ = estimate(
        token_level_rewards=rewards_at_the_end(mask, SCORES)[rest], response_mask=mask[rest], index=index[rest]
    )
    assert torch.allclose(advantages[rest], expected)
    assert not advantages[2].any()


@pytest.mark.parametrize("estimate", [grpo, rloo])
def test_the_only_survivor_of_a_group_has_nothing_to_be_compared_with(estimate, mask: torch.Tensor) -> None:  # type: ignore[no-untyped-def]
    index = np.array(["a"] * 2 + ["b"] * 4, dtype=object)
    broken = mask.clone()
    broken[0] = 0
    advantages, _ = estimate(token_level_rewards=rewards_at_the_end(mask, SCORES), response_mask=broken, index=index)
    assert not advantages[:2].any()
    assert advantages[2:].any()


@pytest.mark.parametrize("estimate", [grpo, rloo])
def test_no_survivor_at_all_is_no_advantage(estimate, mask: torch.Tensor) -> None:  # type: ignore[no-untyped-def]
    index = np.array(["a"] * 6, dtype=object)
    rewards = rewards_at_the_end(mask, SCORES)
    advantages, returns = estimate(token_level_rewards=rewards, response_mask=torch.zeros_like(mask), index=index)
    assert not advantages.any()
    assert not returns.any()
