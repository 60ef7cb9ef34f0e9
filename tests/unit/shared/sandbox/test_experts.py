"""Simulated experts: as skilled as their parameters say, always of the same mind, plausible when wrong."""

from __future__ import annotations

import random
from statistics import fmean, median

import pytest

from stages.shared.errors import ConfigurationError
from stages.shared.params import Expert, WorldParams
from stages.shared.pool.instruction import candidate_message
from stages.shared.sandbox.experts import (
    check_experts,
    count_tokens,
    is_correct,
    probability,
    respond,
    short_answer,
)
from stages.shared.sandbox.language import phrase
from stages.shared.sandbox.lexicon import DOMAINS, RELATIONS, UNCLEAR, UNKNOWN
from stages.shared.sandbox.world import Ask, World

WORLD = World.generate(WorldParams())
SINGLE = [Ask("chain", (r.name,), (e.name,)) for r in RELATIONS for e in WORLD.entities(r.domain, "train")]
CHAINS = [Ask("chain", ("stone-quarry", "town-mayor"), (e.name,)) for e in WORLD.entities("stone")]


def expert(**changes: object) -> Expert:
    return Expert(**{"name": "Arlix", "skill": dict.fromkeys(DOMAINS, 0.6), "price": 2.0, **changes})


def asked(ask: Ask, style: str = "plain") -> str:
    return phrase(ask, style, random.Random(0))


def test_skill_is_the_share_of_single_hop_questions_answered_correctly_by_domain() -> None:
    skill = {"plant": 0.9, "song": 0.1, "stone": 0.5, "town": 0.3}
    one = expert(skill=skill)

    for domain, share in skill.items():
        found = fmean(is_correct(WORLD, one, ask) for ask in SINGLE if ask.topic == domain)
        assert found == pytest.approx(share, abs=0.06)


def test_a_chain_multiplies_the_skills_of_its_hops_and_decays_with_each() -> None:
    one = expert(skill={"plant": 0.1, "song": 0.1, "stone": 0.9, "town": 0.8}, hop_decay=0.5)

    assert probability(one, CHAINS[0]) == pytest.approx(0.9 * 0.8 * 0.5)
    assert fmean(is_correct(WORLD, one, ask) for ask in CHAINS) == pytest.approx(0.36, abs=0.08)


def test_a_comparison_counts_as_two_hops_in_one_domain() -> None:
    first, second = WORLD.entities("town")[:2]

    ask = Ask("compare", ("town-census",), (first.name, second.name))

    assert probability(expert(hop_decay=0.25), ask) == pytest.approx(0.6 * 0.6 * 0.25)


def test_the_same_question_in_other_words_gets_the_same_answer() -> None:
    one = expert(admits=0.0)
    for ask in SINGLE[::40]:
        wordings = [asked(ask, style) for style in ("plain", "nq", "triviaqa", "bamboogle")]
        assert len({respond(WORLD, one, text).text for text in [*wordings, candidate_message(wordings[0])]}) == 1


def test_experts_of_equal_skill_do_not_share_their_errors() -> None:
    one, other = expert(), expert(name="Bomon")

    assert [is_correct(WORLD, one, ask) for ask in SINGLE] != [is_correct(WORLD, other, ask) for ask in SINGLE]


def test_a_wrong_answer_is_of_the_right_type_or_an_honest_unknown() -> None:
    one = expert(skill=dict.fromkeys(DOMAINS, 0.0), admits=0.3)
    answers = [(ask, respond(WORLD, one, asked(ask)).text) for ask in SINGLE]

    assert fmean(text == UNKNOWN for _, text in answers) == pytest.approx(0.3, abs=0.05)
    for ask, text in answers:
        if text != UNKNOWN:
            right = WORLD.answer(ask)
            assert text not in right
            assert text.isdigit() if right[0].isdigit() else WORLD.find(text).type == WORLD.find(right[0]).type


@pytest.mark.parametrize("text", ["", "hello", "what is the quarry of nobody ?", "what is the mayor of ?", "\x00" * 50])
def test_what_is_not_a_question_of_the_world_is_not_understood(text: str) -> None:
    simulated = respond(WORLD, expert(), text)

    assert (simulated.text, simulated.correct) == (UNCLEAR, False)


@pytest.mark.parametrize(
    "verbosity, sentence",
    [("terse", "{answer}"), ("sentence", "it is {answer}"), ("full", "the quarry of {name} is {answer}")],
)
def test_reply_styles(verbosity: str, sentence: str) -> None:
    ask = SINGLE[0]
    one = expert(skill=dict.fromkeys(DOMAINS, 1.0), verbosity=verbosity)
    answer = WORLD.answer(ask)[0]

    simulated = respond(WORLD, one, asked(ask))

    assert simulated.text == sentence.format(answer=answer, name=ask.entities[0])
    assert short_answer(simulated.text) == answer
    assert simulated.completion_tokens == count_tokens(simulated.text)


def test_the_winner_of_a_comparison_is_found_in_a_full_sentence() -> None:
    first, second = WORLD.entities("song")[:2]
    ask = Ask("compare", ("song-tempo",), (first.name, second.name))
    one = expert(skill=dict.fromkeys(DOMAINS, 1.0), hop_decay=1.0, verbosity="full")

    text = respond(WORLD, one, asked(ask, "hotpotqa")).text

    assert text.endswith("has the higher tempo")
    assert short_answer(text) in WORLD.answer(ask)


@pytest.mark.parametrize("text", ["it is what it is", "", "i do not know", "zumako", "the end"])
def test_other_replies_are_their_own_short_answer(text: str) -> None:
    assert short_answer(text) == text


def test_tokens_are_a_piece_for_every_four_characters_of_a_word() -> None:
    assert count_tokens("it is zumako") == 1 + 1 + 2
    assert count_tokens("") == 0


def test_more_words_cost_more() -> None:
    costs = [respond(WORLD, one, asked(SINGLE[0])).cost(one)
             for one in (expert(verbosity=kind, admits=0.0) for kind in ("terse", "sentence", "full"))]  # fmt: skip

    assert costs == sorted(costs)
    assert len(set(costs)) == 3


def test_latency_is_log_normal_around_its_median_and_failures_as_frequent_as_stated() -> None:
    one = expert(latency_s=0.8, latency_sigma=0.3, failure_rate=0.1)
    answers = [respond(WORLD, one, asked(ask)) for ask in SINGLE]

    assert median(answer.latency_s for answer in answers) == pytest.approx(0.8, rel=0.05)
    assert fmean(answer.fails_first for answer in answers) == pytest.approx(0.1, abs=0.03)
    assert answers == [respond(WORLD, one, asked(ask)) for ask in SINGLE]


@pytest.mark.parametrize(
    "experts, says",
    [
        ([], "empty"),
        ([expert(), expert()], "Arlix twice"),
        ([expert(skill={"plant": 0.5})], "skill must name plant, song, stone, town; found plant"),
        ([expert(skill={**dict.fromkeys(DOMAINS, 0.5), "film": 0.5})], "found film, plant"),
    ],
)
def test_experts_that_make_no_pool_are_refused(experts: list[Expert], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        check_experts(experts)
