"""RouterArena's score against its public leaderboard, its optimality by hand, and what a method gives for its money."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from stages.evaluate.arena import arena_score, optimality
from stages.evaluate.attempt import Result
from stages.evaluate.frontier import Point
from stages.evaluate.sheet import Measured
from stages.evaluate.tradeoff import Scale, Tradeoff, taken, tradeoff
from stages.shared.questions import Question

Make = Callable[..., Result]
SCALE = Scale(4.0, {"Arlix": (1.0, 0.4), "Bomon": (3.0, 0.6)}, (1.0, 1.0))


def of(ours: Sequence[Result], point: Point, scale: Scale = SCALE) -> Tradeoff:
    """Of the router beside an oracle that does the same for half the cost."""
    oracle = [replace(item, method="oracle", cost=item.cost / 2) for item in ours]
    measured = Measured.of([*ours, *oracle], [item.question for item in ours], "seen")
    return tradeoff(taken(measured.sheet("router"), measured.sheet("oracle")), point, scale)


@pytest.mark.parametrize(
    ("accuracy", "dollars_a_thousand", "published"),
    [(0.6688, 0.15, 0.6689), (0.6809, 0.54, 0.6666), (0.7396, 10.02, 0.6432), (0.6728, 1.67, 0.6432)],
)
def test_the_score_is_that_of_the_public_leaderboard(
    accuracy: float, dollars_a_thousand: float, published: float
) -> None:
    """Leaderboard of October 2025: MIRT-BERT, Azure-Router, GPT-5, vLLM-SR; its costs are rounded to cents."""
    assert arena_score(accuracy, dollars_a_thousand * 1000) == pytest.approx(published, abs=5e-4)


def test_the_score_of_what_costs_nothing_is_finite_and_of_what_is_never_right_nothing() -> None:
    assert arena_score(0.5, 0.0) == pytest.approx(1.1 * 0.5 / 1.05)
    assert arena_score(0.0, 1.0) == 0.0
    assert arena_score(0.9, 1e9) == 0.0


def test_optimality_by_hand() -> None:
    """Five questions, four of which can be answered: one right at the least cost, one at twice it, one right though the
    oracle could not, two wrong."""
    found = optimality([1, 1, 1, 0, 0], [2.0, 6.0, 1.0, 1.0, 9.0], [1, 1, 0, 1, 1], [2.0, 3.0, 0.0, 1.0, 1.0])
    assert found.selection == pytest.approx(1 / 4)
    assert found.cost == pytest.approx(5 / 8)
    assert found.accuracy == pytest.approx(3 / 4)


def test_optimality_is_unknown_where_nothing_can_be_answered() -> None:
    found = optimality([0], [1.0], [0], [0.0])
    assert (found.selection, found.cost, found.accuracy) == (None, None, None)


def test_a_method_by_hand(questions: tuple[Question, ...], make_result: Make) -> None:
    ours = [make_result(questions[0], "router", called=("Arlix",) * 3 + ("Bomon",), cost=2.0)]
    found = of(ours, (2.0, 0.5))
    assert (found.latency_p50, found.latency_p95) == (2.0, 2.0)
    assert found.share == {"Arlix": 0.75, "Bomon": 0.25}
    assert found.entropy == pytest.approx(0.8113, abs=1e-4)
    assert found.gap_to_oracle == pytest.approx(0.5)
    assert found.cost_at_equal_em == pytest.approx(2.0)
    assert found.apgr == pytest.approx(0.5), "on the line between both: what mixing them at random recovers"
    assert (found.cpt50, found.cpt80) == (pytest.approx(0.5), pytest.approx(0.8))
    assert found.aiq == pytest.approx((0.5 + 1.0) / 4)
    assert found.hypervolume == pytest.approx(0.25)


def test_the_gap_lies_between_the_cheapest_and_the_best_fixed_candidate(
    questions: tuple[Question, ...], make_result: Make
) -> None:
    """By hand: 60 % at a cost of 2 lies above the line from (1, 40 %) to (3, 60 %): it recovers (0.5 + 1) / 2 of the
    gap, half of it a quarter of the way, and four fifths at two fifths."""
    results = [make_result(questions[0], "router")]
    found = of(results, (2.0, 0.6))
    assert (found.apgr, found.cpt50, found.cpt80) == pytest.approx((0.75, 0.25, 0.4))
    flat = Scale(4.0, {"Arlix": (1.0, 0.6), "Bomon": (3.0, 0.6)}, (1.0, 1.0))
    none = of(results, (2.0, 0.6), flat)
    assert (none.apgr, none.cpt50, none.cpt80) == (None, None, None)


def test_latency_is_a_quantile_over_questions(questions: tuple[Question, ...], make_result: Make) -> None:
    results = [make_result(question, "router", called=("Arlix",) * (1 + index % 2)) for index, question in
               enumerate(questions[:11])]  # fmt: skip
    found = of(results, (2.0, 0.5))
    assert (found.latency_p50, found.latency_p95) == (0.5, 1.0)


def test_every_method_of_an_evaluation_has_its_tradeoff_and_the_zero_router_stands_beside(sample: Any) -> None:
    evaluation = sample.evaluation
    assert set(evaluation.tradeoffs) == set(evaluation.methods)
    assert evaluation.tradeoffs["oracle"].gap_to_oracle == 0.0
    assert 0 < evaluation.zero_router < 1
