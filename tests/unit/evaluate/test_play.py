"""Methods at play, through the real driver: a scripted policy that reads its prompt, a pool that counts its calls."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.evaluate.attempt import Attempt, Result
from stages.evaluate.contest import Contest, chosen
from stages.evaluate.episodes import SCHEMA, write_episodes
from stages.evaluate.heat import hold
from stages.evaluate.marking import Marker, load_marker
from stages.evaluate.measure import Call, Line, Measurement, Table, make_lines
from stages.evaluate.metrics import reply_cells
from stages.evaluate.own import Own, Tariff
from stages.evaluate.player import Player, shown_topic
from stages.evaluate.records import Record
from stages.evaluate.replies import RememberingPool
from stages.evaluate.routers.protocol import Asked, Choice
from stages.evaluate.sheet import Measured
from stages.evaluate.statistics import Resamples
from stages.evaluate.unseen.cases import Case
from stages.evaluate.unseen.fitted import NO_RECORDS, fit_all
from stages.evaluate.unseen.shots import Shots
from stages.evaluate.unseen.trial import play_case
from stages.shared.episode.types import Generation
from stages.shared.errors import ConfigurationError, TransientError
from stages.shared.params import EpisodeParams, EvaluateParams
from stages.shared.pool.candidate import Candidate, Descriptor, Outcome, Reply, TopicSkill
from stages.shared.progress import Progress
from stages.shared.questions import Question, SubQuestion
from stages.shared.sandbox.lexicon import HELD_OUT_NAMES
from tests.unit.evaluate.characters import Characters

PARAMS = EpisodeParams(
    max_calls=3, prompt_tokens=4000, response_tokens=4000, turn_tokens=1000, reply_tokens=200, prompt="compact"
)
QUESTIONS = (
    Question("what is the quarry of zu ?", ("town one",), "nq", "test", "stone"),
    Question("what is the anthem of the quarry of zu ?", ("song two",), "hotpotqa", "test", "", 2, (
        SubQuestion("what is the quarry of zu ?", ("town one",), "stone"),
        SubQuestion("what is the anthem of town one ?", ("song two",), "town"),
    )),
)  # fmt: skip
KNOWS = {
    "Arlix": {"what is the quarry of zu ?": "it is town one"},
    "Bomon": {"what is the anthem of town one ?": "it is song two"},
    "Guvex": {question.question: f"it is {question.answers[0]}" for question in QUESTIONS},
}
TARIFF = Tariff(prompt_price=0.1, price=1.0)
PRICES = {"Arlix": 1.0, "Bomon": 2.0, "Guvex": 0.5}
DESCRIPTORS = [
    Descriptor(name, price, 0.5, {"stone": TopicSkill(0.9, 0.9, 9)}, seen=name != "Guvex")
    for name, price in PRICES.items()
]
CANDIDATES = {
    name: Candidate(name, name, "http://127.0.0.1:1/v1", price, 0.1, seen=name != "Guvex")
    for name, price in PRICES.items()
}


class FakePool:
    """Candidates that know what `KNOWS` says; the first `failures` calls of each question fail."""

    def __init__(self, failures: int = 0) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()
        self._failures = failures

    @property
    def candidates(self) -> Mapping[str, Candidate]:
        return CANDIDATES

    async def ask(self, name: str, query: str) -> Reply:
        self.asked[name, query] += 1
        await asyncio.sleep(0)
        if self.asked[name, query] <= self._failures:
            return Reply("", Outcome.TIMED_OUT)
        return Reply(KNOWS[name].get(query, "i do not know"), Outcome.ANSWERED, prompt_tokens=10, completion_tokens=3)


async def decomposer(context: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> Generation:
    """A policy that asks Arlix for the quarry, Bomon for the anthem, and copies the last reply."""
    text = "".join(map(chr, context))
    question = re.findall(r"question : (.*)", text)[0]
    told = re.findall(r"<information> (?:it is )?(.*?) </information>", text)
    if text.endswith("<answer>"):
        written = f" {told[-1] if told else 'no idea'} </answer>"
    elif not told:
        written = "<think> stone </think> <search> Arlix : what is the quarry of zu ? </search>"
    elif "anthem" in question and len(told) == 1:
        written = f"<think> town </think> <search> Bomon : what is the anthem of {told[0]} ? </search>"
    else:
        written = f"<think> done </think> <answer> {told[-1]} </answer>"
    return Generation(tuple(map(ord, written)), None, "stop")


@pytest.fixture(scope="module")
def marker(tmp_path_factory: pytest.TempPathFactory) -> Marker:
    return load_marker(tmp_path_factory.mktemp("metric"))


@pytest.fixture
def lines() -> list[Line]:
    return make_lines(DESCRIPTORS, CANDIDATES)


def player(pool: Any) -> Player:
    return Player(decomposer, Characters(), PARAMS, pool)


def ones(texts: Sequence[str]) -> np.ndarray:
    return np.ones((len(texts), 1))


def contest(lines: list[Line], marker: Marker, **settings: Any) -> Contest:
    records = [Record("what is the quarry of ra ?", name, float(name == "Arlix"), 1.0) for name in PRICES]
    return Contest(lines, records, EvaluateParams(**{"methods": ("knn",)} | settings), ones, marker)


async def play(
    lines: list[Line], marker: Marker, root: Path, pool: FakePool, failing: Sequence[str] = (), **settings: Any
) -> list[Any]:
    who = player(RememberingPool(pool))
    held, found = contest(lines, marker, **settings), list[Result]()
    with Progress("evaluate", total=held.size(QUESTIONS), unit="episodes", root=root) as progress:
        measurement = Measurement(who, who, (), TARIFF, in_flight=8, progress=progress)
        standing = await hold(held, measurement, QUESTIONS, found.extend)
        assert progress.snapshot.done == progress.snapshot.total
    assert {method for method, _ in standing.failures} == set(failing)
    return found


def test_metric_script_gives_exact_match_and_f1_by_question_offline(marker: Marker) -> None:
    assert marker.marks([("The Town, one!", ("town one",)), ("town", ("town one", "x")), ("", ("a",))]) == [
        (1.0, 1.0), (0.0, pytest.approx(2 / 3)), (0.0, 0.0),
    ]  # fmt: skip


async def test_direct_can_only_answer_and_calls_nobody(lines: list[Line]) -> None:
    pool = FakePool()
    episode = await player(pool).answer_alone(QUESTIONS[0], lines[0].roster)
    assert (episode.answer, episode.calls, len(pool.asked)) == ("no idea", (), 0)


async def test_a_single_call_passes_the_question_on_unchanged_and_the_policy_answers_from_the_reply(
    lines: list[Line],
) -> None:
    episode = await player(FakePool()).answer_with(QUESTIONS[0], "Arlix", lines[0].roster)
    assert [(call.name, call.query) for call in episode.calls] == [("Arlix", QUESTIONS[0].question)]
    assert episode.turns[0].text.startswith("<think> topic stone , 10 90 Arlix </think> <search> Arlix : ")
    assert (episode.answer, episode.faults) == ("town one", ())


def test_a_call_written_for_the_policy_names_a_topic_that_the_prompt_shows(lines: list[Line]) -> None:
    entry = lines[0].roster.entries[0]
    assert shown_topic(QUESTIONS[0], entry) == "stone"
    assert shown_topic(QUESTIONS[1], entry) == "stone"
    unmeasured = replace(entry, descriptor=replace(entry.descriptor, skill={}))
    assert shown_topic(QUESTIONS[1], unmeasured) == "town"


async def test_a_policy_that_would_call_again_after_its_single_call_must_answer(lines: list[Line]) -> None:
    episode = await player(FakePool()).answer_with(QUESTIONS[1], "Bomon", lines[0].roster)
    assert len(episode.calls) == 1
    assert episode.answer == "i do not know"


async def test_every_method_answers_every_question_in_both_pools(
    lines: list[Line], marker: Marker, tmp_path: Path
) -> None:
    results = await play(lines, marker, tmp_path, FakePool())
    seen = Measured.of(results, QUESTIONS, "seen")
    every = seen.beside("all")
    shared = {"router", "warm-start", "direct", "prompt-llm", "oracle", "largest-llm", "random", "knn"}
    fixed = {"fixed:Arlix", "fixed:Bomon"}
    assert set(seen.methods) == shared | fixed | {"forced:Arlix", "one-call", "renamed", "warm-start-renamed"}
    assert set(every.methods) == shared | fixed | {"fixed:Guvex"}
    path = tmp_path / "episodes.parquet"
    write_episodes(path, results)
    import pyarrow.parquet as pq

    assert pq.read_schema(path).equals(SCHEMA)
    assert pq.read_table(path).num_rows == len(results)


async def test_what_each_method_scores_follows_from_what_the_candidates_know(
    lines: list[Line], marker: Marker, tmp_path: Path
) -> None:
    results = await play(lines, marker, tmp_path, FakePool())
    scores = {(item.method, item.pool, item.question.dataset): (item.em, item.calls, item.cost) for item in results}
    assert scores["router", "seen", "nq"] == (1.0, 1, 3.0)
    assert scores["router", "seen", "hotpotqa"] == (1.0, 2, 9.0)
    assert scores["fixed:Arlix", "seen", "nq"] == (1.0, 1, 3.0)
    assert scores["fixed:Arlix", "seen", "hotpotqa"] == (0.0, 1, 3.0)
    assert scores["largest-llm", "seen", "nq"] == scores["fixed:Bomon", "seen", "nq"] == (0.0, 1, 6.0)
    assert scores["knn", "seen", "nq"] == scores["fixed:Arlix", "seen", "nq"]
    assert scores["prompt-llm", "seen", "hotpotqa"] == scores["fixed:Arlix", "seen", "hotpotqa"]
    assert scores["forced:Arlix", "seen", "hotpotqa"] == (0.0, 2, 6.0)
    assert scores["one-call", "seen", "nq"] == (1.0, 1, 3.0)
    assert scores["renamed", "seen", "nq"] == (0.0, 0, 0.0), "it calls names that it knows, and the prompt shows others"
    assert scores["one-call", "seen", "hotpotqa"][:2] == (0.0, 1)
    assert scores["oracle", "seen", "hotpotqa"] == (1.0, 2, 9.0)
    assert scores["oracle", "all", "hotpotqa"] == (1.0, 1, 1.5)
    assert scores["direct", "seen", "nq"] == (0.0, 0, 0.0)


@pytest.mark.parametrize(("setting", "played"), [("best", {"Arlix"}), ("all", {"Arlix", "Bomon"}), ("none", set())])
async def test_the_policy_is_forced_onto_the_candidates_that_the_parameters_name(
    lines: list[Line], marker: Marker, tmp_path: Path, setting: str, played: set[str]
) -> None:
    results = await play(lines, marker, tmp_path, FakePool(), forced=setting)
    assert {item.method for item in results if item.method.startswith("forced:")} == {f"forced:{n}" for n in played}


async def reader(context: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> Generation:
    """A policy that asks whom the prompt shows first, by the name that it shows."""
    text = "".join(map(chr, context))
    told = re.findall(r"<information> (?:it is )?(.*?) </information>", text)
    name = re.findall(r"stone : \d+ \d+ (\w+)", text)[0]
    call = f"<think> stone </think> <search> {name} : what is the quarry of zu ? </search>"
    written = f"<think> done </think> <answer> {told[-1]} </answer>" if told else call
    return Generation(tuple(map(ord, written)), None, "stop")


async def test_a_policy_that_reads_names_routes_among_names_that_it_never_saw(
    lines: list[Line], tmp_path: Path
) -> None:
    who = Player(reader, Characters(), PARAMS, FakePool())
    with Progress("evaluate", total=2, unit="episodes", root=tmp_path) as progress:
        measurement = Measurement(who, who, QUESTIONS, TARIFF, in_flight=8, progress=progress)
        (first, _), again = await measurement.renamed(who, lines[0], 7), await measurement.renamed(who, lines[0], 7)
    assert (first.prediction, first.called) == ("town one", ("Arlix",)), "billed as who it is"
    (shown,) = re.findall(r"<search> (\w+) :", first.transcript)
    assert shown in HELD_OUT_NAMES
    assert again[0].transcript == first.transcript


async def test_the_reply_that_a_method_takes_is_marked_by_itself_too(
    lines: list[Line], marker: Marker, tmp_path: Path
) -> None:
    """`it is town one` holds the answer and is not it: the base policy draws it out, a bare exact match does not."""
    results = await play(lines, marker, tmp_path, FakePool())
    found = {(item.method, item.question.dataset): item for item in results if item.pool == "seen"}
    marks = found["fixed:Arlix", "nq"].reply_marks
    assert found["fixed:Arlix", "nq"].reply == "it is town one"
    assert marks is not None
    assert (marks.em, marks.f1, marks.holds) == (0.0, pytest.approx(2 / 3), 1.0)
    assert found["knn", "nq"].reply_marks == marks
    assert [found[method, "nq"].reply_marks for method in ("router", "direct", "oracle", "one-call")] == [None] * 4
    measured, resamples = Measured.of(results, QUESTIONS, "seen"), Resamples({"nq": 1, "hotpotqa": 1}, 50, 0.95, 7)
    every = {method: reply_cells(measured.sheet(method), resamples) for method in measured.methods}
    cells = {method: found for method, found in every.items() if found is not None}
    assert {"knn", "fixed:Arlix", "prompt-llm", "largest-llm", "random"} <= set(cells)
    assert not {"router", "direct", "oracle"} & set(cells)
    assert (cells["knn"]["nq"].holds, cells["knn"]["hotpotqa"].holds, cells["knn"]["average"].holds) == (1.0, 0.0, 0.5)


async def test_the_total_cost_holds_what_the_policy_itself_read_and_wrote(
    lines: list[Line], marker: Marker, tmp_path: Path
) -> None:
    results = await play(lines, marker, tmp_path, FakePool())
    found = {(item.method, item.question.dataset): item for item in results if item.pool == "seen"}
    router, fixed, prompted = (found[name, "nq"] for name in ("router", "fixed:Arlix", "prompt-llm"))
    call = "<think> stone </think> <search> Arlix : what is the quarry of zu ? </search>"
    answer = "<think> done </think> <answer> town one </answer>"
    assert router.own_tokens == len(call + answer)
    assert router.cost_total == pytest.approx(router.cost + 10 * 0.1 + router.own_tokens * 1.0 + router.own_read * 0.1)
    assert fixed.own_tokens == len(answer)
    assert fixed.own_read > router.own_read
    assert prompted.own_tokens == len(call + answer)
    assert found["oracle", "nq"].own_cost == 0.0


async def test_a_method_that_fails_is_lost_alone_and_is_not_a_zero(
    lines: list[Line], marker: Marker, tmp_path: Path
) -> None:
    methods = ("graphrouter", "knn", "consistency-cascade")
    results = await play(lines, marker, tmp_path, FakePool(), methods[::2], methods=methods)
    seen = {item.method for item in results if item.pool == "seen"}
    assert {"knn", "router"} <= seen
    assert not {"graphrouter", "consistency-cascade"} & seen


async def test_without_a_complete_record_the_fitted_methods_alone_are_lost(
    lines: list[Line], marker: Marker, tmp_path: Path
) -> None:
    who = player(RememberingPool(FakePool()))
    holed = replace(contest(lines, marker), records=[Record("what is the quarry of ra ?", "Arlix", 1.0, 1.0)])
    results: list[Result] = []
    with Progress("evaluate", total=holed.size(QUESTIONS), unit="episodes", root=tmp_path) as progress:
        measurement = Measurement(who, who, (), TARIFF, in_flight=8, progress=progress)
        standing = await hold(holed, measurement, QUESTIONS, results.extend)
    assert set(standing.failures) == {("knn", "seen"), ("knn", "all")}
    assert "run the profile stage again" in standing.failures["knn", "seen"]
    assert {"router", "oracle", "random"} <= {item.method for item in results}


async def test_a_case_of_other_candidates_is_played_by_all_that_can_without_fitting_or_asking_again(
    lines: list[Line], marker: Marker, tmp_path: Path
) -> None:
    pool = FakePool()
    who, held = player(RememberingPool(pool)), contest(lines, marker, methods=("knn", "mlp"))
    fitted = fit_all(held.records, DESCRIPTORS[:2], Shots({}, {}), held.params, ones)
    asked = Asked(tuple(question.question for question in QUESTIONS), np.ones((len(QUESTIONS), 1)))
    with Progress("unseen", total=None, unit="episodes", root=tmp_path) as progress:
        measurement = Measurement(who, who, QUESTIONS, TARIFF, in_flight=8, progress=progress)
        table, alone = await measurement.table(lines), await measurement.direct(lines[0])
        paid = pool.asked.total()
        more = Case("added", tuple(DESCRIPTORS), ("Guvex",), knowledge="profile")
        less = Case("removed", (DESCRIPTORS[0],), removed=("Bomon",))
        played = [await play_case(held, measurement, table, alone, fitted, case, asked) for case in (more, less)]
    assert pool.asked.total() == paid
    with_guvex, without_bomon = (each.measured for each in played)
    assert with_guvex.sheet("oracle").called() == {"Guvex": 2}
    assert with_guvex.sheet("router").called() == {"Arlix": 2, "Bomon": 1}
    assert {"knn", "fixed:Guvex", "prompt-llm", "random", "largest-llm"} <= set(with_guvex.methods)
    assert "mlp" not in with_guvex.methods
    assert "mlp" in played[0].outcome.cannot
    assert "mlp" in without_bomon.methods
    assert all("Bomon" not in without_bomon.sheet(name).called() for name in without_bomon.methods)


async def test_the_starred_methods_play_a_case_with_its_own_candidates(
    lines: list[Line], marker: Marker, tmp_path: Path
) -> None:
    methods = ("knn-multi", "prompt-llm-multi")
    who, held = player(RememberingPool(FakePool())), contest(lines, marker, methods=methods)
    fitted = fit_all(held.records, DESCRIPTORS[:2], Shots({}, {}), held.params, ones)
    asked = Asked(tuple(question.question for question in QUESTIONS), np.ones((len(QUESTIONS), 1)))
    cases = [
        Case("added", tuple(DESCRIPTORS), ("Guvex",), knowledge="descriptor"),
        Case("added", tuple(DESCRIPTORS), ("Guvex",), knowledge="profile"),
        Case("removed", (DESCRIPTORS[1],), removed=("Arlix",)),
    ]
    with Progress("unseen", total=None, unit="episodes", root=tmp_path) as progress:
        measurement = Measurement(who, who, QUESTIONS, TARIFF, in_flight=8, progress=progress)
        table, alone = await measurement.table(lines), await measurement.direct(lines[0])
        played = [await play_case(held, measurement, table, alone, fitted, case, asked) for case in cases]
    assert [set(methods) & set(each.measured.methods) for each in played] == [
        {"prompt-llm-multi"}, set(methods), set(methods),
    ]  # fmt: skip
    assert played[0].outcome.cannot == {"knn-multi": NO_RECORDS}
    for method in methods:
        assert set(played[2].measured.sheet(method).called()) <= {"Bomon"}


def test_a_reply_that_was_looked_at_is_paid_for() -> None:
    def attempt(name: str, cost: float) -> Call:
        own = Own(5, 5, 0.1)
        return Call(Attempt(QUESTIONS[0], name, cost, 2 * cost, (name,), own, own, (), name, 0.25), name)

    table = Table({(QUESTIONS[0].id, name): attempt(name, cost) for name, cost in PRICES.items()}, {})
    found = chosen(table, QUESTIONS[0], Choice(("Arlix", "Bomon"), "Arlix", 9.9))
    assert (found.prediction, found.called, found.cost, found.cost_calls) == ("Arlix", ("Arlix", "Bomon"), 3.0, 6.0)
    assert (found.own_cost, found.latency_s) == (0.1, 0.5)


async def test_no_question_is_put_to_a_candidate_twice(lines: list[Line], marker: Marker, tmp_path: Path) -> None:
    pool = FakePool()
    await play(lines, marker, tmp_path, pool)
    assert set(pool.asked.values()) == {1}


async def test_a_call_that_failed_is_tried_again_in_a_new_episode(lines: list[Line]) -> None:
    episode = await player(RememberingPool(FakePool(failures=2))).play(QUESTIONS[0], lines[0].roster)
    assert episode.answer == "town one"


async def test_a_candidate_that_stays_away_stops_the_stage_by_name(lines: list[Line]) -> None:
    with pytest.raises(TransientError, match=r"Arlix \(timed-out\)"):
        await player(RememberingPool(FakePool(failures=99))).play(QUESTIONS[0], lines[0].roster)


def test_the_unseen_are_shown_in_the_second_line_only(lines: list[Line]) -> None:
    assert [(line.pool, line.names) for line in lines] == [
        ("seen", ("Arlix", "Bomon")), ("all", ("Arlix", "Bomon", "Guvex")),
    ]  # fmt: skip
    assert [line.pool for line in make_lines(DESCRIPTORS[:2], CANDIDATES)] == ["seen"]


def test_a_profile_of_another_pool_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="the profile measured Bomon, Guvex, which the pool lacks"):
        make_lines(DESCRIPTORS, {"Arlix": CANDIDATES["Arlix"]})
