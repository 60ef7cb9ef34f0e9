"""The sandbox's seven sets have the shapes of the benchmarks whose names they carry."""

from __future__ import annotations

import random

import pytest

from stages.ingest.sandbox import make_questions
from stages.shared.errors import ConfigurationError
from stages.shared.params import WorldParams
from stages.shared.questions import Question
from stages.shared.sandbox.language import understand
from stages.shared.sandbox.world import World

WORLD = World.generate(WorldParams())
SETS = ("nq", "triviaqa", "popqa", "hotpotqa", "2wikimultihopqa", "musique", "bamboogle")


def draw(dataset: str, split: str = "test", n: int = 80, seed: int = 1) -> list[Question]:
    return make_questions(WORLD, dataset, split, n, random.Random(seed))


def ranks_by_type(questions: list[Question]) -> list[tuple[str, int]]:
    asks = [understand(WORLD, question.question) for question in questions]
    subjects = [WORLD.by_name[name] for ask in asks for name in ask.entities]
    return [(subject.type, subject.rank) for subject in subjects]


@pytest.mark.parametrize("dataset", SETS)
def test_every_question_is_understood_and_its_gold_answers_are_the_worlds(dataset: str) -> None:
    for question in draw(dataset):
        ask = understand(WORLD, question.question)
        assert ask is not None, question.question
        assert question.answers == WORLD.answer(ask)
        assert (question.hops, question.topic) == (ask.hops, ask.topic)


@pytest.mark.parametrize("dataset", SETS)
def test_the_same_seed_makes_the_same_distinct_questions(dataset: str) -> None:
    first, same = draw(dataset), draw(dataset)

    assert first == same
    assert len({question.id for question in first}) == 80


@pytest.mark.parametrize(
    "dataset, hops",
    [("nq", {1}), ("triviaqa", {1}), ("popqa", {1}), ("hotpotqa", {2}), ("2wikimultihopqa", {2}),
     ("musique", {2, 3, 4}), ("bamboogle", {2})],
)  # fmt: skip
def test_hops(dataset: str, hops: set[int]) -> None:
    questions = draw(dataset)

    assert {question.hops for question in questions} == hops
    assert all(len(question.parts) == (question.hops if question.hops > 1 else 0) for question in questions)


@pytest.mark.parametrize("dataset", ["hotpotqa", "2wikimultihopqa"])
def test_two_hop_sets_hold_bridges_and_comparisons(dataset: str) -> None:
    kinds = [understand(WORLD, question.question).kind for question in draw(dataset, n=200)]

    assert 0.1 < kinds.count("compare") / len(kinds) < 0.3


def test_popqa_asks_about_rarer_entities_than_nq() -> None:
    assert not {*ranks_by_type(draw("popqa"))} & {*ranks_by_type(draw("nq"))}
    assert min(rank for _, rank in ranks_by_type(draw("popqa"))) > 80


def test_test_sets_are_worded_as_training_sets_are_not() -> None:
    training = {
        question.id for split in ("train",) for name in ("nq", "hotpotqa") for question in draw(name, split, 400)
    }
    words = {word for name in ("nq", "hotpotqa") for q in draw(name, "train", 400) for word in q.question.split()}

    assert not training & {question.id for question in draw("triviaqa")}
    assert {"name", "cutting"} <= {word for q in draw("triviaqa", n=200) for word in q.question.split()} - words


def test_the_parts_of_a_chain_lead_from_its_entity_to_its_answer() -> None:
    for question in draw("musique"):
        values = [part.answers for part in question.parts]
        assert values[-1] == question.answers
        for before, part in zip(values, question.parts[1:], strict=False):
            assert before[0] in part.question
        assert all(part.topic for part in question.parts)


def test_a_comparison_has_no_tie_and_its_parts_are_its_two_numbers() -> None:
    for question in draw("hotpotqa", n=200):
        ask = understand(WORLD, question.question)
        if ask.kind == "compare":
            numbers = [int(part.answers[0]) for part in question.parts]
            assert numbers[0] != numbers[1]
            assert ask.entities[numbers.index(max(numbers))] in question.answers


def test_splits_share_no_entity() -> None:
    folds = {
        split: {WORLD.by_name[name] for question in draw(dataset, split, 60) for name in named(question)}
        for split in ("train", "profiling", "validation", "test")
        for dataset in ("hotpotqa",)
    }
    assert all(not folds[a] & folds[b] for a in folds for b in folds if a != b)


def named(question: Question) -> set[str]:
    texts = [question.question, *(part.question for part in question.parts), *question.answers]
    return {word for text in texts for word in text.split() if word in WORLD.by_name}


def test_a_world_too_small_for_the_sizes_says_what_to_raise() -> None:
    small = World.generate(WorldParams(entities=12))

    with pytest.raises(ConfigurationError, match=r"raise world\.entities \(now 12\)"):
        make_questions(small, "nq", "train", 5000, random.Random(1))
