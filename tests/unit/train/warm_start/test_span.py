"""A gold answer is copied as a text writes it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.shared.scoring import contains, exact_match
from stages.train.warm_start.span import find_answer, replace_answer


@pytest.mark.parametrize(
    "text, answers, found",
    [
        ("The capital of France is Paris.", ("paris",), "Paris"),
        ("It was (probably) the U.S. Army, in 1944!", ("US Army",), "U.S. Army"),
        ("New York City", ("York", "New York City"), "New York City"),
        ("by the Beatles", ("The Beatles",), "Beatles"),
        ("Yes, both are.", ("yes",), "Yes"),
        ("the newest one", ("new",), None),
        ("", ("new",), None),
        ("an a the", ("the",), None),
    ],
)
def test_where_the_answer_stands(text, answers, found):
    assert find_answer(text, answers) == found


words = st.text(alphabet=st.characters(categories=("Ll", "Lu", "Nd", "Po")), min_size=1, max_size=6)


@given(st.lists(words, max_size=5), st.lists(words, min_size=1, max_size=3), st.lists(words, max_size=5))
def test_what_is_found_matches_exactly_and_stands_in_the_text(before, gold, after):
    text, answers = " ".join([*before, *gold, *after]), (" ".join(gold),)
    found = find_answer(text, answers)
    if found is not None:
        assert found in text
        assert exact_match(found, answers)
        assert contains(text, answers)


def test_a_mention_is_replaced_and_the_rest_kept():
    assert replace_answer("who founded Paris?", ("paris",), "Lutetia") == "who founded Lutetia?"
    assert replace_answer("who founded it?", ("paris",), "Lutetia") == "who founded it?"
