"""SQuAD's normalisation, exact match and token F1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.shared.scoring import contains, exact_match, f1, normalise


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The  Eiffel-Tower!", "eiffeltower"),
        ("a cat, an owl and the theatre", "cat owl and theatre"),
        ("U.S.A.", "usa"),
        ("A", ""),
        ("don't", "dont"),
        ("10:30 a.m.", "1030 am"),
        ("naïve «Ünal»", "naïve «ünal»"),
        ("the the the", ""),
        ("an-the", "anthe"),
        ("one\n\ttwo", "one two"),
    ],
)
def test_normalises_as_squad_does(text: str, plain: str) -> None:
    assert normalise(text) == plain


def test_exact_match_takes_any_gold_answer() -> None:
    assert exact_match("The Beatles.", ["Queen", "beatles"]) == 1.0
    assert exact_match("Beatles band", ["Queen", "beatles"]) == 0.0


def test_an_empty_prediction_matches_nothing_even_a_gold_answer_that_normalises_to_nothing() -> None:
    assert exact_match("  ", ["A"]) == 0.0
    assert exact_match("a", ["A"]) == 1.0


@pytest.mark.parametrize(
    ("prediction", "golds", "value"),
    [
        ("Barack Hussein Obama", ["Barack Obama"], 0.8),  # precision 2/3, recall 1
        ("red red blue", ["red blue blue"], 2 / 3),  # two tokens in common, with their counts
        ("nothing shared", ["else"], 0.0),
        ("x y", ["x z", "x y"], 1.0),  # the best gold answer
        ("x", [], 0.0),
        ("", ["x"], 0.0),
    ],
)
def test_token_f1(prediction: str, golds: list[str], value: float) -> None:
    assert f1(prediction, golds) == pytest.approx(value)


def test_contains_whole_tokens_only() -> None:
    assert contains("I think it is The New York, mostly.", ["new york"])
    assert not contains("newyork yorker", ["york"])
    assert not contains("anything", ["the", ""])


@given(st.text(), st.lists(st.text(), max_size=4))
def test_scores_stay_between_0_and_1_and_a_match_has_full_f1(prediction: str, golds: list[str]) -> None:
    em, overlap = exact_match(prediction, golds), f1(prediction, golds)
    assert em in (0.0, 1.0)
    assert 0.0 <= overlap <= 1.0
    if em and normalise(prediction):
        assert overlap == 1.0


@given(st.text())
def test_normalising_twice_changes_little_else(text: str) -> None:
    assert normalise(f"  {normalise(text)} ") == normalise(normalise(text))
