"""The bound: the cheapest right way through the pool, in one call or part by part."""

from __future__ import annotations

from stages.evaluate.contest import tells
from stages.evaluate.oracle import Probe, best_attempt
from stages.shared.questions import Question

QUESTION = Question("who ?", ("gold", "alias"), "hotpotqa", "test", hops=2)


def probe(name: str, right: bool, cost: float) -> Probe:
    return Probe(name, right, cost, cost * 2)


def test_it_takes_the_cheapest_right_candidate() -> None:
    attempt = best_attempt(QUESTION, [probe("a", True, 3), probe("b", True, 2), probe("c", False, 1)], [])
    assert (attempt.called, attempt.cost, attempt.cost_total, attempt.prediction) == (("b",), 2, 4, "gold")


def test_it_asks_part_by_part_where_only_that_is_right() -> None:
    parts = [[probe("a", True, 1), probe("b", True, 2)], [probe("a", False, 1), probe("b", True, 2)]]
    attempt = best_attempt(QUESTION, [probe("a", False, 1), probe("b", False, 2)], parts)
    assert (attempt.called, attempt.cost, attempt.prediction) == (("a", "b"), 3, "gold")


def test_it_asks_directly_where_that_is_cheaper() -> None:
    attempt = best_attempt(QUESTION, [probe("a", True, 1)], [[probe("a", True, 1)], [probe("a", True, 1)]])
    assert (attempt.called, attempt.cost) == (("a",), 1)


def test_it_asks_nobody_where_no_way_is_right() -> None:
    attempt = best_attempt(QUESTION, [probe("a", False, 1)], [[probe("a", True, 1)], [probe("a", False, 1)]])
    assert (attempt.called, attempt.cost, attempt.prediction) == ((), 0, "")


def test_a_reply_that_repeats_the_question_tells_nothing() -> None:
    comparison = Question("which is harder , zu or ra ?", ("zu",), "hotpotqa", "test", hops=2)
    assert not tells(comparison, "zu or ra , i do not know")
    assert tells(QUESTION, "it is the alias .")
    assert not tells(QUESTION, "it is golden")
