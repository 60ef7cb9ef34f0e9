"""Splits are drawn by seed, hold no copies, and share no question."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.ingest.splits import check_leaks, distinct, draw_splits
from stages.shared.errors import ConfigurationError, DataError
from stages.shared.params import IngestParams, SandboxSource, Sizes
from stages.shared.questions import Question


def numbered(prefix: str, count: int) -> list[str]:
    return [f"{prefix} {number} ?" for number in range(count)]


def test_sizes_are_per_set_and_a_smaller_test_set_is_used_whole(listed, params) -> None:
    source = listed(
        {"nq": numbered("n", 20), "hotpotqa": numbered("h", 20)},
        {"nq": numbered("t", 9), "bamboogle": numbered("b", 3)},
    )

    draw = draw_splits(source, params(train_on=("nq", "hotpotqa")))

    assert {split: len(questions) for split, questions in draw.splits.items()} == {
        "train": 6, "profiling": 4, "validation": 4, "test": 5 + 3,
    }  # fmt: skip


def test_the_seed_decides_the_draw(listed, params, ids) -> None:
    source = listed({"nq": numbered("n", 40)}, {"nq": numbered("t", 20)})

    first, same, other = (draw_splits(source, params(seed=seed)).splits for seed in (1, 1, 2))

    assert ids(first, "train") == ids(same, "train")
    assert ids(first, "train") != ids(other, "train")


def test_a_larger_training_split_leaves_the_others_as_they_were(listed, params, ids) -> None:
    source = listed({"nq": numbered("n", 40)}, {"nq": numbered("t", 20)})

    small, large = (draw_splits(source, params(train=size)).splits for size in (3, 20))

    for split in ("profiling", "validation", "test"):
        assert ids(small, split) == ids(large, split)


def test_copies_that_differ_in_case_or_punctuation_are_left_out_and_counted(listed, params) -> None:
    source = listed({"nq": [*numbered("n", 7), "N 1", "n, 1?"]}, {"nq": [*numbered("t", 3), "T 0 !"]})

    draw = draw_splits(source, params())

    assert draw.duplicates == 3
    assert len(draw.splits["test"]) == 3


def test_a_question_of_two_test_sets_stays_in_the_first(listed, params) -> None:
    source = listed({"nq": numbered("n", 7)}, {"nq": ["same ?"], "popqa": ["same?", "own ?"]})

    draw = draw_splits(source, params())

    assert [(q.dataset, q.question) for q in draw.splits["test"]] == [("nq", "same ?"), ("popqa", "own ?")]
    assert draw.duplicates == 1


def test_training_questions_that_are_in_the_test_set_of_the_same_data_set_are_taken_out(listed, params, ids) -> None:
    source = listed({"popqa": [*numbered("p", 7), "T 1", "t 15"]}, {"popqa": numbered("t", 20)})

    draw = draw_splits(source, params(train_on=("popqa",)))

    assert draw.overlaps == 2
    drawn = {id_ for split in ("train", "profiling", "validation") for id_ in ids(draw.splits, split)}
    assert drawn == {Question(text, ("x",), "popqa", "train").id for text in numbered("p", 7)}


def test_a_leak_into_another_test_set_stops_the_run_with_examples(listed, params) -> None:
    source = listed({"nq": [*numbered("n", 6), "who is it ?"]}, {"musique": ["Who is it?", "other ?"]})

    with pytest.raises(DataError) as caught:
        draw_splits(source, params())

    assert "share 1" in str(caught.value)
    assert "nq/musique: 'who is it ?'" in str(caught.value)


def test_the_leak_check_names_both_splits_and_passes_over_clean_ones() -> None:
    def questions(split: str, *texts: str) -> list[Question]:
        return [Question(text, ("x",), "nq", split) for text in texts]

    clean = {"train": questions("train", "a", "b"), "test": questions("test", "c")}
    check_leaks(clean)

    with pytest.raises(DataError, match="train and validation share 1: nq/nq: 'b'"):
        check_leaks({**clean, "validation": questions("validation", "B!", "d")})


def test_too_few_questions_say_which_size_to_lower(listed, params) -> None:
    source = listed({"nq": numbered("n", 6)}, {"nq": numbered("t", 3)})

    with pytest.raises(ConfigurationError, match=r"nq: 2 questions are left for train, ingest.sizes.train wants 3"):
        draw_splits(source, params())


texts = st.lists(st.text(alphabet="abcAB ?", min_size=1, max_size=3), max_size=40)


@settings(max_examples=60)
@given(train=texts, test=texts)
def test_whatever_a_source_offers_drawn_splits_share_nothing(listed, train: list[str], test: list[str]) -> None:
    params = IngestParams(
        source=SandboxSource(), train_on=("nq",), sizes=Sizes(train=2, profiling=1, validation=1, test=4)
    )
    try:
        splits = draw_splits(listed({"nq": train}, {"nq": test}), params).splits
    except ConfigurationError:
        return
    for first, second in combinations(splits.values(), 2):
        assert not {q.id for q in first} & {q.id for q in second}
    assert all(len(distinct(questions).questions) == len(questions) for questions in splits.values())
