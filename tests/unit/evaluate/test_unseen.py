"""Candidates that come and go: which cases there are, who can take part in them, and what is made of the results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.evaluate.attempt import Result
from stages.evaluate.records import Record
from stages.evaluate.routers.estimating import Enlarged
from stages.evaluate.routers.history import make_history
from stages.evaluate.routers.protocol import Asked
from stages.evaluate.sheet import Measured
from stages.evaluate.statistics import Resamples
from stages.evaluate.unseen.__main__ import first_of_each, main
from stages.evaluate.unseen.cases import Case, Knowledge, plan_cases
from stages.evaluate.unseen.fitted import (
    ALONE_ALL_THE_SAME,
    NO_RECORDS,
    RETRAIN,
    TOGETHER,
    Fitted,
    Outcome,
    fit_all,
)
from stages.evaluate.unseen.joining import BY_DESCRIPTION, BY_RECORDS
from stages.evaluate.unseen.shots import Shots, draw_shots
from stages.evaluate.unseen.text import markdown
from stages.evaluate.unseen.trial import Played, Trial, score_cases
from stages.shared.errors import ConfigurationError, DataError
from stages.shared.params import DATASETS, EvaluateParams
from stages.shared.pool.candidate import Descriptor, TopicSkill
from stages.shared.questions import Question

Make = Callable[..., Result]
SEEN, NEW = ("Arlix", "Bomon", "Cyqun"), ("Guvex", "Halix")
TOPICS = ("stone", "song")
FEW = {"Guvex": {"stone": TopicSkill(1.0, 1.0, 4)}}


def encode(texts: Sequence[str]) -> np.ndarray:
    """Stones lie one way, songs the other."""
    return np.array([[float("stone" in text), float("song" in text)] for text in texts])


def right(name: str, text: str) -> bool:
    """Arlix and Guvex know stones, Bomon and Halix songs, Cyqun nothing."""
    return name in (("Arlix", "Guvex") if "stone" in text else ("Bomon", "Halix"))


TEXTS = [f"which {topic} {number} ?" for number in range(9) for topic in TOPICS]
SUMMARIES = {"Arlix": "knows every stone", "Bomon": "sings every song", "Guvex": "stone by stone", "Halix": "song"}
PRICES = {"Arlix": 5.0, "Bomon": 5.0, "Cyqun": 1.0, "Guvex": 2.0, "Halix": 9.0}
RECORDS = [
    Record(text, name, float(right(name, text)), PRICES[name]) for text in TEXTS for name in (*SEEN, *NEW)
]  # fmt: skip


DESCRIPTORS = [
    Descriptor(name, PRICES[name], 0.5, {topic: TopicSkill(0.9, 0.9, 40) for topic in TOPICS}, name in SEEN,
               SUMMARIES.get(name, ""))
    for name in (*SEEN, *NEW)
]  # fmt: skip
PARAMS = EvaluateParams(
    methods=("knn", "correctness", "mlp", "routoo", "hybrid-llm", "frugalgpt", "consistency-cascade", "graphrouter"),
    neighbours=3,
)
"""Graphrouter wants more records."""


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    few = {name: tuple(item for item in RECORDS if item.candidate == name)[:8] for name in NEW}
    return fit_all(RECORDS, DESCRIPTORS[:3], Shots(few, {}), PARAMS, encode)


def case(kind: str, knowledge: str | None = None, new: tuple[str, ...] = (), removed: tuple[str, ...] = ()) -> Case:
    shown = tuple(item for item in DESCRIPTORS if item.name in (*SEEN, *new) and item.name not in removed)
    return Case(kind, shown, new, removed, knowledge)  # type: ignore[arg-type]


def asked(*texts: str) -> Asked:
    return Asked(texts, encode(texts), lambda place, name: f"{name} says so")


def test_the_cases_leave_each_out_once_and_add_the_unseen_at_every_level_of_knowledge() -> None:
    cases = plan_cases(DESCRIPTORS, FEW, 1, 7)
    assert [str(each) for each in cases] == [
        "the candidates of training",
        *(f"with {new} ({how})" for new in ("Guvex", "Halix", "Guvex, Halix") for how in ("descriptor", "few-shot",
                                                                                          "profile")),
        "without Arlix", "without Bomon", "without Cyqun",
    ]  # fmt: skip
    shown = [each.descriptors[-1].skill for each in cases if each.new == ("Guvex",)]
    assert shown == [{}, FEW["Guvex"], DESCRIPTORS[3].skill]


def test_of_very_many_choices_some_are_drawn_the_same_for_the_same_seed() -> None:
    many = [Descriptor(f"C{number}", 1.0, 0.5) for number in range(9)]
    drawn = [each.removed for each in plan_cases(many, {}, 4, 7)[1:]]
    assert len(set(drawn)) == 12
    assert drawn == [each.removed for each in plan_cases(many, {}, 4, 7)[1:]]


@pytest.mark.parametrize("count", [0, -1, 3])
def test_to_leave_out_nobody_or_everybody_is_refused(count: int) -> None:
    with pytest.raises(ConfigurationError, match=f"--leave-out {count} of 3 candidates"):
        plan_cases(DESCRIPTORS, FEW, count, 7)


@pytest.mark.parametrize(("method", "knowledge"), [("knn", "few-shot"), ("knn", "profile"), ("correctness", "profile")])
def test_who_estimates_one_candidate_at_a_time_weighs_a_new_one_by_its_records(
    fitted: Fitted, method: Any, knowledge: str
) -> None:
    found = fitted.decide(case("added", knowledge, new=("Guvex",)), asked("a stone ?", "a song ?"))
    assert [choice.taken for choice in found.choices[method]] == ["Guvex", "Bomon"], "it is right, and cheaper"


def test_without_records_or_without_being_fitted_again_a_method_says_that_it_cannot(fitted: Fitted) -> None:
    question = asked("a stone ?")
    bare, few = (fitted.decide(case("added", how, new=("Guvex",)), question) for how in ("descriptor", "few-shot"))
    less = fitted.decide(case("removed", removed=("Arlix",)), question)
    must = dict.fromkeys(("mlp", "routoo", "hybrid-llm", "frugalgpt"), RETRAIN)
    assert bare.cannot == {**dict.fromkeys(("knn", "correctness", "consistency-cascade"), NO_RECORDS), **must}
    assert few.cannot == must
    assert less.cannot == {"hybrid-llm": TOGETHER}
    assert set(less.choices) == {"knn", "correctness", "mlp", "routoo", "frugalgpt"}
    assert all("Arlix" not in choice.called for made in less.choices.values() for choice in made)


MANY = [f"which {topic} {number} ?" for number in range(20) for topic in TOPICS]
TOLD = [Descriptor(name, PRICES[name], 0.5, {}, name in SEEN, f"it knows every {topic}")
        for name, topic in (("Arlix", "stone"), ("Bomon", "song"), ("Cyqun", "one"), ("Guvex", "stone"))]  # fmt: skip
"""Guvex is described as Arlix is, and costs less."""


@pytest.fixture(scope="module")
def growing() -> Fitted:
    """Every method that takes a new candidate in, on enough records for all of them."""
    rows = [Record(text, name, float(right(name, text)), PRICES[name], "gold" if right(name, text) else f"no {name}")
            for text in MANY for name in (*SEEN, *NEW)]  # fmt: skip
    few = {"Guvex": tuple(item for item in rows if item.candidate == "Guvex")[:8]}
    methods = (*BY_RECORDS, *BY_DESCRIPTION)
    return fit_all(rows, TOLD[:3], Shots(few, {}), EvaluateParams(methods=methods, neighbours=3), encode)


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
@pytest.mark.parametrize("method", sorted(BY_DESCRIPTION))
@pytest.mark.parametrize("knowledge", ["descriptor", "few-shot", "profile"])
def test_who_reads_descriptions_estimates_a_new_candidate_as_the_one_that_is_described_like_it(
    growing: Fitted, method: Any, knowledge: Any
) -> None:
    """Nothing that was learned hangs on a candidate's place, and the estimates of two that are alike lie together."""
    router = growing.ready(Case("added", tuple(TOLD), ("Guvex",), knowledge=knowledge), method)
    assert isinstance(router, Enlarged)
    stone, song = router.estimate(asked("a stone ?", "a song ?"))
    places = [router.candidates.index(name) for name in ("Arlix", "Bomon", "Guvex")]
    assert stone[places[2]] > 0.5 > stone[places[1]]
    assert song[places[1]] > 0.5 > song[places[2]]
    if knowledge == "profile" or method == "irt-router":
        assert np.allclose(stone[places[0]], stone[places[2]], atol=0.05)
    assert [choice.taken for choice in router.decide(asked("a song ?"))] == ["Bomon"]
    assert router.costs[places[2]] == pytest.approx(PRICES["Guvex"]), "by its price where it has no records"


@pytest.mark.parametrize("method", sorted(BY_RECORDS))
def test_who_needs_no_more_than_its_records_takes_a_new_candidate_in(growing: Fitted, method: Any) -> None:
    replies = {"Arlix": ("gold", "no Arlix"), "Bomon": ("no Bomon", "gold"), "Guvex": ("gold", "no Guvex"),
               "Cyqun": ("no Cyqun", "no Cyqun")}  # fmt: skip
    told = Asked(("a stone ?", "a song ?"), encode(("stone", "song")), lambda place, name: replies[name][place])
    levels: tuple[Knowledge, ...] = ("profile",) if method == "correctness" else ("few-shot", "profile")
    for knowledge in levels:  # eight answers leave a regression less sure than forty do
        found = growing.decide(Case("added", tuple(TOLD), ("Guvex",), knowledge=knowledge), told)
        stone, song = found.choices[method]
        assert "Guvex" in stone.called, knowledge
        assert method in ("acar", "consistency-cascade") or (stone.taken, song.taken) == ("Guvex", "Bomon")


def test_the_means_of_those_that_join_are_those_of_their_own_records(growing: Fitted) -> None:
    own = make_history(growing.shots.records["Guvex"], ["Guvex"], encode)
    both = growing.history.averaged([own])
    assert both.candidates == ("Cyqun", "Guvex", "Arlix", "Bomon")
    assert (both.mean_costs.tolist(), both.scores.tolist()) == ([1.0, 2.0, 5.0, 5.0], [[0.0, 0.5, 0.5, 0.5]])


def test_a_method_for_which_too_few_are_left_has_failed(fitted: Fitted) -> None:
    less = fitted.decide(case("removed", removed=("Arlix",)), asked("a stone ?"))
    assert "needs two candidates beside the strongest" in less.failed["consistency-cascade"]


def test_what_the_starred_knn_router_needs_is_fitted_and_takes_no_part_of_its_own() -> None:
    params = EvaluateParams(methods=("knn-multi", "rag"), neighbours=3)
    fitted = fit_all(RECORDS, DESCRIPTORS[:3], Shots({}, {}), params, encode)
    found = fitted.decide(case("base"), asked("a stone ?"))
    assert (found.choices, found.cannot) == ({}, {"rag": ALONE_ALL_THE_SAME})
    less = fitted.ready(case("removed", removed=("Arlix",)), "knn")
    assert not isinstance(less, str)
    assert less.decide(asked("a stone ?"))[0].taken == "Cyqun"


def test_a_method_that_could_not_be_fitted_has_failed_which_is_not_the_same(fitted: Fitted) -> None:
    for each in (case("base"), case("removed", removed=("Cyqun",))):
        assert "graphrouter" in fitted.decide(each, asked("a stone ?")).failed


def write_records(path: Path, hops: int = 1) -> Path:
    rows = [
        {"question": item.question, "candidate": item.candidate, "outcome": "answered", "contains": item.score,
         "cost": item.cost, "reply": "", "topic": TOPICS["song" in item.question], "hops": hops}
        for item in RECORDS
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_a_few_shots_are_the_same_questions_for_every_candidate_and_tell_its_skill(tmp_path: Path) -> None:
    found = draw_shots(write_records(tmp_path / "records.parquet"), NEW, 8, 7)
    texts = {tuple(record.question for record in rows) for rows in found.records.values()}
    assert len(texts) == 1
    assert len(set(next(iter(texts)))) == 8
    assert {topic: skill.em for topic, skill in found.skills["Guvex"].items()} == {"stone": 1.0, "song": 0.0}
    assert sum(skill.n for skill in found.skills["Guvex"].values()) == 8
    assert draw_shots(tmp_path / "records.parquet", [], 8, 7) == Shots({}, {})


def test_more_shots_than_there_are_questions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="18 single-hop questions were answered by Guvex, Halix, --shots wants 19"):
        draw_shots(write_records(tmp_path / "records.parquet"), NEW, 19, 7)
    with pytest.raises(DataError, match="0 single-hop questions"):
        draw_shots(write_records(tmp_path / "chains.parquet", hops=2), NEW, 1, 7)


@pytest.fixture
def trial(questions: tuple[Question, ...], make_result: Make) -> Trial:
    """Half right with the candidates of training; with Guvex three quarters, and half of the calls to it."""

    def of_case(each: Case, wrong: int, called: Sequence[str]) -> Played:
        results = [
            make_result(item, method, "all", float(method == "oracle" or place % 12 >= wrong), called)
            for method in ("router", "oracle")
            for place, item in enumerate(questions)
        ]
        return Played(each, Measured.of(results, questions, "all"), Outcome({}, {"mlp": RETRAIN}, {"knn": "<b>no"}))

    both = [of_case(case("base"), 6, ("Arlix",)), of_case(case("added", "few-shot", ("Guvex",)), 3, ("Arlix", "Guvex"))]
    resamples = Resamples(dict.fromkeys(DATASETS, 12), 200, 0.95, 7)
    return Trial(True, len(questions), 16, 7, 0.95, score_cases(both, resamples))


def test_regret_change_and_share_follow_from_the_results(trial: Trial) -> None:
    before, after = (each.methods["router"] for each in trial.cases)
    assert (before.em, before.regret.difference, before.share_new, before.change.difference) == (0.5, 0.5, None, 0.0)
    assert (after.em, after.regret.difference, after.share_new) == (0.75, 0.25, 0.5)
    assert after.change.low < after.change.difference == 0.25 < after.change.high
    assert after.regret.low < 0.25 < after.regret.high


def test_it_is_told_in_words_and_in_json(trial: Trial) -> None:
    told = markdown(trial)
    assert "## With Guvex \\(few-shot\\)" in told or "## With Guvex (few-shot)" in told
    assert "MLP Router: cannot: it would have to be fitted again" in told
    assert "KNN Router failed: \\<b\\>no" in told
    assert "Synthetic" in told
    assert json.loads(json.dumps(trial.to_json(), allow_nan=False))["cases"][1]["new"] == ["Guvex"]


def test_the_first_questions_of_every_set_are_taken(questions: tuple[Question, ...]) -> None:
    taken = first_of_each(questions, 2)
    assert [sum(item.dataset == name for item in taken) for name in DATASETS] == [2] * 7
    assert first_of_each(questions, None) == questions


def test_without_parameters_or_artifacts_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([]) == 2
    assert "params.yaml: no such file" in capsys.readouterr().err
