"""The sandbox's world and its language: what is phrased is understood, however it is worded."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.shared.params import WorldParams
from stages.shared.sandbox.language import phrase, phrase_parts, understand
from stages.shared.sandbox.lexicon import COMPARE_FRAMES, DOMAINS, FRAMES, RELATIONS, words
from stages.shared.sandbox.world import FOLDS, Ask, Entity, World

WORLD = World.generate(WorldParams())
ANSWERS = [relation for relation in RELATIONS if relation.answer in DOMAINS]


@st.composite
def chains(draw: st.DrawFn) -> Ask:
    """Any chain of one to four hops that fits the types."""
    domain = draw(st.sampled_from(DOMAINS))
    entity = draw(st.sampled_from(WORLD.entities(domain)))
    names = []
    for _ in range(draw(st.integers(0, 3))):
        relation = draw(st.sampled_from([item for item in ANSWERS if item.domain == domain]))
        names.append(relation.name)
        domain = relation.answer
    last = draw(st.sampled_from([item for item in RELATIONS if item.domain == domain]))
    return Ask("chain", (*names, last.name), (entity.name,))


@settings(max_examples=200)
@given(chains(), st.sampled_from(sorted(FRAMES)), st.randoms(use_true_random=False))
def test_every_phrasing_of_a_chain_is_understood(ask: Ask, style: str, rng: random.Random) -> None:
    if ask.hops == 1 and style in ("hotpotqa", "2wikimultihopqa"):
        return
    assert understand(WORLD, phrase(ask, style, rng)) == ask


@pytest.mark.parametrize("style", sorted(COMPARE_FRAMES))
def test_every_phrasing_of_a_comparison_is_understood(style: str) -> None:
    first, second = WORLD.entities("stone")[:2]
    ask = Ask("compare", ("stone-hardness",), (first.name, second.name))

    assert understand(WORLD, phrase(ask, style, random.Random(1))) == ask


STONE = WORLD.entities("stone")[0].name


@pytest.mark.parametrize(
    "text",
    [
        f"what is the quarry of {STONE} ?",
        f"Quarry of {STONE.capitalize()}?",
        f"Please tell me, what would you say is the source site of {STONE}?",
        f"{STONE} quarry",
        f"{STONE}'s dig place",
        f"take {STONE}: what is its quarry?",
    ],
)
def test_free_paraphrase_is_understood(text: str) -> None:
    assert understand(WORLD, text) == Ask("chain", ("stone-quarry",), (STONE,))


@pytest.mark.parametrize(
    "text", ["", "quarry", STONE, f"what is the quarry of {STONE[:-1]} ?", f"what is the composer of {STONE} ?"]
)
def test_what_names_no_fitting_relation_and_entity_is_not_understood(text: str) -> None:
    assert understand(WORLD, text) is None


@given(st.text(max_size=80))
def test_any_text_is_understood_or_not_without_an_error(text: str) -> None:
    understand(WORLD, text)


@settings(max_examples=50)
@given(chains())
def test_the_parts_of_a_chain_answered_in_turn_give_its_answer(ask: Ask) -> None:
    parts = phrase_parts(WORLD, ask, tuple(_first_phrasing(name) for name in ask.relations))

    assert len(parts) == ask.hops
    assert all(part.hops == 1 and understand(WORLD, text) == part for part, text in parts)
    assert WORLD.answer(parts[-1][0]) == WORLD.answer(ask)


def _first_phrasing(name: str) -> str:
    return next(relation.phrasings[0] for relation in RELATIONS if relation.name == name)


def test_the_seed_decides_the_world() -> None:
    other = World.generate(WorldParams(seed=8))

    assert WORLD.entities("song") != other.entities("song")
    assert World.generate(WorldParams()) is World.generate(WorldParams())


def test_facts_stay_within_their_fold() -> None:
    for fold, _ in FOLDS:
        for relation in ANSWERS:
            facts = [WORLD.fact(relation.name, entity) for entity in WORLD.entities(relation.domain, fold)]
            assert all(isinstance(fact, Entity) and fact.fold == fold for fact in facts)


def test_a_wrong_answer_is_plausible_and_wrong() -> None:
    rng = random.Random(0)
    for relation in RELATIONS:
        ask = Ask("chain", (relation.name,), (WORLD.entities(relation.domain)[0].name,))
        wrong = WORLD.wrong(ask, rng)
        assert wrong not in WORLD.answer(ask)
        assert wrong.isdigit() if relation.answer == "number" else WORLD.find(wrong).type == relation.answer


def test_no_name_is_a_word_of_the_language_and_no_two_are_alike() -> None:
    names = [name for group in WORLD.by_type.values() for entity in group for name in entity.names]

    assert len(set(names)) == len(names)
    assert not set(names) & set(words())
