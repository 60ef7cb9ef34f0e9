"""The paper's reward, the released code's variant, and the cost normaliser, against numbers worked by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.shared.episode.normaliser import CostNormaliser
from stages.shared.episode.reward import score
from stages.shared.episode.types import Call, Episode, Turn
from stages.shared.params import RewardParams
from stages.shared.pool.candidate import Outcome, Reply


def episode(answer: str | None = "Paris", cost: float = 36.0, faults: tuple[str, ...] = ()) -> Episode:
    call = Call("A", "A", "q", Reply("r", Outcome.ANSWERED), cost, cost)
    return Episode((1,), (2,), (1,), None, (Turn("t", "o", call),), answer, faults, "answered")


def squares() -> CostNormaliser:
    """Roots 0, 1, …, 10: the 5th percentile is 0.5, the 95th 9.5."""
    normaliser = CostNormaliser(100)
    for root in range(11):
        normaliser.observe(float(root * root))
    return normaliser


def test_the_cost_term_by_hand() -> None:
    assert squares().term(36.0) == pytest.approx(1 - (6 - 0.5) / 9)  # 0.3889
    assert squares().term(25.0) == pytest.approx(0.5)
    assert squares().term(0.0) == 1.0
    assert squares().term(10_000.0) == 0.0


def test_percentiles_are_interpolated() -> None:
    normaliser = CostNormaliser(10)
    for cost in (1.0, 9.0):
        normaliser.observe(cost)  # roots 1 and 3: lo 1.1, hi 2.9
    assert normaliser.term(4.0) == pytest.approx(0.5)
    assert normaliser.term(1.69) == pytest.approx(1 - 0.2 / 1.8)


def test_an_empty_or_flat_window_gives_one_half() -> None:
    normaliser = CostNormaliser(10)
    assert normaliser.term(7.0) == 0.5
    for _ in range(5):
        normaliser.observe(4.0)
    assert normaliser.term(0.0) == normaliser.term(4.0) == normaliser.term(99.0) == 0.5


def test_the_window_slides() -> None:
    normaliser = CostNormaliser(2)
    for cost in (10_000.0, 1.0, 9.0):
        normaliser.observe(cost)
    assert normaliser.state() == [1.0, 3.0]


def test_a_fixed_reference_is_the_first_costs() -> None:
    normaliser = CostNormaliser(11, fixed=True)
    for root in range(30):
        normaliser.observe(float(root * root))
    assert normaliser.bounds() == pytest.approx((0.5, 9.5))
    assert normaliser.state() == squares().state()


def test_the_state_survives_a_checkpoint() -> None:
    restored = CostNormaliser(100)
    restored.restore(json.loads(json.dumps(squares().state())))
    assert restored.term(36.0) == squares().term(36.0)
    shorter = CostNormaliser(2)
    shorter.restore(squares().state())
    assert shorter.state() == [9.0, 10.0]


@pytest.mark.parametrize("cost", [-1.0, math.nan, math.inf])
def test_an_impossible_cost_is_refused(cost: float) -> None:
    with pytest.raises(ValueError, match="finite and not negative"):
        CostNormaliser(3).observe(cost)


@given(st.lists(st.floats(0, 1e6), max_size=30), st.floats(0, 1e6), st.floats(0, 1e6))
def test_the_term_is_bounded_and_never_rises_with_the_cost(window: list[float], one: float, other: float) -> None:
    normaliser = CostNormaliser(20)
    for cost in window:
        normaliser.observe(cost)
    cheap, dear = normaliser.term(min(one, other)), normaliser.term(max(one, other))
    assert 0.0 <= dear <= cheap <= 1.0


TERM = 1 - 5.5 / 9  # R_cost of a cost of 36


@pytest.mark.parametrize(
    ("mode", "outcome", "answer", "total"),
    [
        ("paper", "em", "paris", 0.4 * 1 + 0.6 * TERM),
        ("paper", "em", "Paris France", 0.6 * TERM),
        ("paper", "f1", "Paris France", 0.4 * 2 / 3 + 0.6 * TERM),
        ("upstream", "em", "paris", 0.4 * 1 + 0.6 * TERM),
        ("upstream", "em", "Paris France", 0.0),
        ("upstream", "f1", "Paris France", 0.4 * 2 / 3),
        ("paper", "em", "", 0.6 * TERM),
    ],
)
def test_a_well_formed_episode(mode: Literal["paper", "upstream"], outcome: Literal["em", "f1"], answer: str,
                               total: float) -> None:  # fmt: skip
    params = RewardParams(mode=mode, outcome=outcome, cost_coefficient=0.6)
    reward = score(episode(answer), ["The Paris", "Lutetia"], params, squares())
    assert reward.total == pytest.approx(total)
    assert reward.format == 0.0
    assert reward.cost == 36.0


@pytest.mark.parametrize("mode", ["paper", "upstream"])
def test_a_malformed_episode_earns_minus_one_and_still_reports_what_was_measured(
    mode: Literal["paper", "upstream"],
) -> None:
    params = RewardParams(mode=mode, cost_coefficient=0.6)
    reward = score(episode(faults=("no think block",)), ["Paris"], params, squares())
    assert (reward.total, reward.format, reward.outcome, reward.cost_term) == (-1.0, -1.0, 0.0, 0.0)
    assert (reward.em, reward.f1, reward.cost) == (1.0, 1.0, 36.0)


@pytest.mark.parametrize("faults", [(), ("no think block",)])
def test_a_failure_of_the_infrastructure_neither_rewards_nor_punishes(faults: tuple[str, ...]) -> None:
    failed = replace(episode(faults=faults), ending="infrastructure")
    reward = score(failed, ["Paris"], RewardParams(cost_coefficient=0.6), squares())
    assert reward.total is None
    assert reward.cost == 36.0


def test_scoring_does_not_feed_the_normaliser() -> None:
    normaliser = squares()
    before = normaliser.state()
    score(episode(), ["Paris"], RewardParams(cost_coefficient=0.6), normaliser)
    assert normaliser.state() == before


@given(
    st.sampled_from(["paper", "upstream"]),
    st.sampled_from(["em", "f1"]),
    st.floats(0, 1),
    st.floats(0, 1e6),
    st.text(max_size=12),
    st.booleans(),
)
def test_the_reward_is_bounded(mode: Literal["paper", "upstream"], outcome: Literal["em", "f1"], weight: float,
                               cost: float, answer: str, well_formed: bool) -> None:  # fmt: skip
    params = RewardParams(mode=mode, outcome=outcome, cost_coefficient=weight)
    reward = score(episode(answer, cost, () if well_formed else ("x",)), ["Paris"], params, squares())
    assert reward.total is not None
    assert (0.0 <= reward.total <= 1.0 + 1e-12) if well_formed else reward.total == -1.0
