"""Tokens are drawn from the distribution that the temperature and top_p describe."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.shared.sampling import NUCLEUS, nucleus, sample


def test_uniform_numbers_map_to_tokens_by_the_cumulative_distribution() -> None:
    logits = torch.tensor([[0.5, 0.2, 0.3]]).log().expand(4, -1)
    tokens, scores = sample(logits, [1.0] * 4, [1.0] * 4, [0.0, 0.49, 0.51, 0.99])
    assert tokens == [0, 0, 1, 2]
    assert torch.allclose(torch.tensor(scores).exp(), torch.tensor([0.5, 0.5, 0.2, 0.3]), atol=1e-6)


def test_greedy_and_sampled_rows_mix() -> None:
    tokens, _ = sample(torch.tensor([[0.0, 2.0], [0.0, 2.0]]), [0.0, 1.0], [1.0, 1.0], [0.0, 0.0])
    assert tokens == [1, 0]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), top_p=st.floats(0.05, 0.999), flat=st.booleans())
def test_the_nucleus_is_the_smallest_set_that_holds_top_p(seed: int, top_p: float, flat: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, 3 * NUCLEUS, generator=generator) * (0.01 if flat else 5.0)
    probabilities = scores.softmax(-1)
    cut = nucleus(probabilities, torch.tensor([top_p, top_p]))
    for row, kept in zip(probabilities, cut, strict=True):
        chosen = kept > 0
        assert torch.equal(row[chosen], kept[chosen])
        assert row[chosen].sum() >= top_p - 1e-5
        assert row[chosen].sum() - row[chosen].min() < top_p + 1e-5
        assert row[chosen].min() >= row[~chosen].max() if bool((~chosen).any()) else True


def test_top_p_of_one_keeps_everything() -> None:
    probabilities = torch.tensor([[0.7, 0.3], [0.7, 0.3]])
    assert nucleus(probabilities, torch.tensor([1.0, 0.5])).tolist() == [
        [0.699999988079071, 0.30000001192092896],
        [0.699999988079071, 0.0],
    ]
