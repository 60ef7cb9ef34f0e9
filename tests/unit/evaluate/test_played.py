"""Methods that a policy plays: alone, with a search, and with its question split, through the real driver."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from stages.evaluate.attempt import Attempt, Result
from stages.evaluate.contest import Contest
from stages.evaluate.heat import hold
from stages.evaluate.marking import load_marker
from stages.evaluate.measure import Measurement, make_lines
from stages.evaluate.own import Tariff
from stages.evaluate.player import Player
from stages.evaluate.records import Record
from stages.evaluate.routers.corpus import Corpus, facts, load_corpus, read_passages
from stages.evaluate.routers.cot import thought
from stages.evaluate.routers.ground import Ground
from stages.evaluate.routers.history import make_history
from stages.evaluate.routers.knn import fit_knn
from stages.evaluate.routers.multi import listed_parts, with_name
from stages.evaluate.routers.played import PLAYS
from stages.evaluate.routers.searching import SearchPool, search_roster
from stages.evaluate.school import Teach
from stages.shared.episode.types import Generation
from stages.shared.errors import ConfigurationError, DataError
from stages.shared.params import EpisodeParams, EvaluateParams, WorldParams
from stages.shared.params.evaluate import PlayedMethod
from stages.shared.pool.candidate import Candidate, Descriptor, Outcome, Reply, TopicSkill
from stages.shared.progress import Progress
from stages.shared.questions import Question
from stages.shared.sandbox.world import World
from tests.unit.evaluate.characters import Characters

Style = Literal["compact", "prose"]
STYLES: tuple[Style, ...] = ("compact", "prose")
QUARRY, ANTHEM = "what is the quarry of zu ?", "what is the anthem of town one ?"
HARD = Question("what is the anthem of the quarry of zu ?", ("song two",), "hotpotqa", "test", "", 2)
EASY = Question(QUARRY, ("town one",), "nq", "test", "stone")
KNOWS = {"Arlix": {QUARRY: "it is town one"}, "Bomon": {ANTHEM: "it is song two"}}
PASSAGES = ("the quarry of zu is town one", "the anthem of town one is song two", "the moss of ra is plant three")
TARIFF = Tariff(prompt_price=0.0, price=1.0)
NAMES = ("Arlix", "Bomon")
RECORDS = [
    Record(f"what is the {word} of {index} ?", name, float(name == knows), 1.0)
    for word, knows in (("quarry", "Arlix"), ("anthem", "Bomon"))
    for index in range(9)
    for name in NAMES
]


class FakePool:
    """Two candidates that know one thing each."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()

    @property
    def candidates(self) -> Mapping[str, Candidate]:
        return {name: Candidate(name, name, "http://127.0.0.1:1/v1", 1.0, 0.1) for name in NAMES}

    async def ask(self, name: str, query: str) -> Reply:
        self.asked[name, query] += 1
        return Reply(KNOWS[name].get(query, "i do not know"), Outcome.ANSWERED, 10, 3)


async def policy(context: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> Generation:
    """Splits as it should, but names the wrong candidate in a question of several hops."""
    text = "".join(map(chr, context))
    question = re.findall(r"[qQ]uestion ?: (.*)", text)[0]
    told = re.findall(r"<information> (?:it is |.* is )?(.*?)(?:\n.*)*? </information>", text.split("assistant ")[1])
    several = "of the" in question
    if "Split the question" in text:
        written = f"1. {QUARRY}\n2) {ANTHEM}\n" if several else question
    elif text.endswith("<think>"):
        written = " perhaps <search> Arlix : x </search> then </think>"
    elif text.endswith("<answer>"):
        written = f" {told[-1] if told else 'a guess'} </answer>"
    elif told and (not several or len(told) == 2):
        written = f"<think> done </think> <answer> {told[-1]} </answer>"
    else:
        part = f"what is the anthem of {told[0]} ?" if told else QUARRY if several else question
        right = NAMES["anthem" in part]
        name = right if not several else NAMES[right == "Arlix"]
        written = f"<think> stone </think> <search> {name} : {part} </search>"
    return Generation(tuple(map(ord, written)), None, "stop")


def letters(texts: Sequence[str]) -> np.ndarray:
    vectors = np.array([[("quarry" in text) + 0.01, ("anthem" in text) + 0.01] for text in texts])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def player(style: Style, pool: FakePool) -> Player:
    params = EpisodeParams(
        max_calls=3, prompt_tokens=9000, response_tokens=9000, turn_tokens=1000, reply_tokens=200, prompt=style
    )
    return Player(policy, Characters(), params, pool)


def untaught(teach: Teach) -> Player:
    """Nobody is to be tuned here."""
    raise AssertionError(teach)


def ground(style: Style, pool: FakePool, records: Sequence[Record] = RECORDS) -> Ground:
    who = player(style, pool)
    descriptors = [Descriptor(name, 1.0, 0.5, {"stone": TopicSkill(0.9, 0.9, 9)}) for name in NAMES]
    line, params = make_lines(descriptors, pool.candidates)[0], EvaluateParams(neighbours=3)
    return Ground(
        who, who, TARIFF, line, params, letters,
        lambda: fit_knn(make_history(records, NAMES, letters), params), lambda: Corpus(PASSAGES), untaught,
    )  # fmt: skip


async def attempt(method: PlayedMethod, question: Question, style: Style, pool: FakePool | None = None) -> Attempt:
    return await PLAYS[method](ground(style, pool or FakePool()))(question)


@pytest.mark.parametrize("style", ["compact", "prose"])
@pytest.mark.parametrize("method", ["knn-multi", "prompt-llm-multi"])
async def test_each_part_of_a_question_goes_to_whom_the_router_chooses_for_it(
    method: PlayedMethod, style: Style
) -> None:
    pool = FakePool()
    found = await attempt(method, HARD, style, pool)
    assert (found.called, found.prediction) == (("Arlix", "Bomon"), "song two")
    assert set(pool.asked) == {("Arlix", QUARRY), ("Bomon", ANTHEM)}
    assert found.cost == 6.0


async def test_to_choose_for_a_part_is_paid_for_by_the_policy_that_is_asked_and_free_by_knn() -> None:
    prompted, near = [await attempt(method, HARD, "compact") for method in ("prompt-llm-multi", "knn-multi")]
    calls = [f"<think> stone </think> <search> {name} : {part} </search>" for name, part in
             (("Arlix", QUARRY), ("Bomon", ANTHEM))]  # fmt: skip
    assert prompted.own.written - near.own.written == sum(map(len, calls))


async def test_a_call_that_is_written_for_the_policy_is_not_paid_for_as_if_it_wrote_it() -> None:
    found = await attempt("knn-multi", HARD, "prose")
    answer, split = "<think> done </think> <answer> song two </answer>", f"1. {QUARRY}\n2) {ANTHEM}\n"
    assert found.own.written == len(answer) + len(split)


def test_a_list_of_parts_loses_its_bullets_and_what_is_too_much() -> None:
    assert listed_parts("1. a ?\n\n - b ?\n(3) 1999 c ?\n4: d<|im_end|>", 3) == ["a ?", "b ?", "1999 c ?"]
    assert listed_parts("<search> Arlix : x </search>", 3) == ["(search) Arlix : x (/search)"]


def test_only_the_name_in_the_call_is_replaced() -> None:
    turn = "<think> 1 95 Bo </think> <search> Bo : who is Bo ? </search>"
    assert with_name(turn, "Bo", "Cy") == "<think> 1 95 Bo </think> <search> Cy : who is Bo ? </search>"


async def test_cot_thinks_without_calling_and_then_answers() -> None:
    pool = FakePool()
    found = await attempt("cot", EASY, "compact", pool)
    assert (found.called, found.cost, found.prediction, len(pool.asked)) == ((), 0.0, "a guess", 0)
    assert found.transcript.startswith("<think> perhaps (search) Arlix : x (/search) then </think> <answer> a guess")


async def test_a_thought_that_grows_when_it_is_written_again_is_cut_to_its_half_of_the_turn() -> None:
    async def rambling(context: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> Generation:
        """Writes as much as it may."""
        return Generation((ord("x"),) * max_tokens, None, "length")

    who = player("compact", FakePool())
    found = await thought(replace(who, generate=rambling), [1], 50)
    assert len(found) == 50
    assert who.tokenizer.decode(list(found)).endswith("x </think> <answer>")
    assert len(await thought(replace(who, generate=rambling), [1], 4)) == len(" </think> <answer>")


@pytest.mark.parametrize("style", ["compact", "prose"])
async def test_rag_answers_from_the_passages_that_fit_the_question_and_pays_nobody(style: Style) -> None:
    pool = FakePool()
    found = await attempt("rag", EASY, style, pool)
    assert (found.prediction, found.called, found.cost, len(pool.asked)) == ("town one", ("search",), 0.0, 0)
    assert "<information> the quarry of zu is town one" in found.transcript


@pytest.mark.parametrize("style", ["compact", "prose"])
async def test_search_r1_searches_in_rounds(style: Style) -> None:
    found = await attempt("search-r1", HARD, style)
    searches = 2 if style == "compact" else 0
    assert found.called == ("search",) * searches
    assert (found.prediction == "song two") == (style == "compact"), "this policy knows no candidate called Search"


def test_in_prose_the_search_is_shown_as_what_it_is_and_a_table_stays() -> None:
    roster = ground("prose", FakePool()).line.roster
    assert [entry.shown for entry in search_roster(roster, "prose").entries] == ["Search"]
    assert [entry.shown for entry in search_roster(roster, "compact").entries] == ["Arlix", "Bomon"]
    assert {entry.name for entry in search_roster(roster, "compact").entries} == {"search"}


async def test_a_search_that_finds_nothing_says_nothing() -> None:
    reply = await SearchPool(Corpus(PASSAGES), "prose").ask("search", "unheard")
    assert (reply.text, reply.outcome) == ("", Outcome.ANSWERED)


async def test_a_small_policy_is_shown_the_best_passage_alone() -> None:
    replies = [await SearchPool(Corpus(PASSAGES), style).ask("search", "quarry zu town moss") for style in STYLES]
    assert [reply.text.splitlines()[0] for reply in replies] == [PASSAGES[0]] * 2
    assert [len(reply.text.splitlines()) for reply in replies] == [1, 3]


def test_the_sandbox_has_a_corpus_of_its_facts() -> None:
    world = WorldParams(entities=8)
    found = set(facts(World.generate(world)))
    entity = World.generate(world).entities("stone")[0]
    assert {f"the quarry of {name} is " in text for name in entity.names for text in found} == {True, False}
    top = load_corpus(None, world).search(f"what is the moss of {entity.name} ?", 1)
    assert top[0].startswith(f"the moss of {entity.name} is ")


def test_a_corpus_is_read_from_a_folder_and_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"title": "Zu", "text": "a stone"}\n{"contents": "a town"}\n')
    (tmp_path / "b.txt").write_text("a song\n\na plant\n")
    assert read_passages(tmp_path) == ["Zu: a stone", "a town", "a song", "a plant"]
    (tmp_path / "c.jsonl").write_text('{"text": "x"}\n[1]\n')
    with pytest.raises(DataError, match=r"c.jsonl, line 2: no JSON object with `text`"):
        read_passages(tmp_path)
    with pytest.raises(DataError, match="no passages; it wants"):
        load_corpus(str(tmp_path / "nowhere"), None)
    with pytest.raises(ConfigurationError, match="name a folder of passages"):
        load_corpus(None, None)


async def test_in_a_contest_the_played_stand_beside_the_others_and_one_that_cannot_is_lost_alone(
    tmp_path: Path,
) -> None:
    pool = FakePool()
    descriptors = [
        Descriptor(name, 1.0, 0.5, {"stone": TopicSkill(0.9, 0.9, 9)}, seen=name == "Arlix") for name in NAMES
    ]
    settings = EvaluateParams(methods=("knn", "knn-multi", "cot", "rag"), forced="none")
    contest = Contest(make_lines(descriptors, pool.candidates), RECORDS, settings, letters, load_marker(tmp_path))
    who = player("compact", pool)
    with Progress("evaluate", total=contest.size((HARD, EASY)), unit="episodes", root=tmp_path) as progress:
        measurement, results = Measurement(who, who, (), TARIFF, in_flight=4, progress=progress), list[Result]()
        standing = await hold(contest, measurement, (HARD, EASY), results.extend)
    found = {(item.method, item.pool) for item in results if item.method in {*PLAYS, "knn"}}
    assert found == {("knn", "seen"), ("knn", "all"), ("knn-multi", "seen"), ("knn-multi", "all"), ("cot", "seen")}
    assert set(standing.failures) == {("rag", "seen")}
    assert "nothing to search" in standing.failures["rag", "seen"]
