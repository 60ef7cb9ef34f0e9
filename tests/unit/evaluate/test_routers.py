"""The single-call baselines choose by their rule, and learn from profiling records only."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from stages.evaluate.records import Record, read_records
from stages.evaluate.routers import bert
from stages.evaluate.routers.acar import majority, sigma
from stages.evaluate.routers.avengers import stretched
from stages.evaluate.routers.blender import support
from stages.evaluate.routers.cascading import CascadingRouter, improvement, walk
from stages.evaluate.routers.catalogue import FITS, LOOK, SLOW
from stages.evaluate.routers.chance import RandomRouter
from stages.evaluate.routers.consistency import agree
from stages.evaluate.routers.encoder import Remembering, minilm
from stages.evaluate.routers.fixed import FixedRouter, largest
from stages.evaluate.routers.frugalgpt import FrugalRouter
from stages.evaluate.routers.history import History, make_history
from stages.evaluate.routers.hybrid import slack
from stages.evaluate.routers.knn import nearest
from stages.evaluate.routers.llmrank import PATTERNS, features
from stages.evaluate.routers.protocol import Asked
from stages.evaluate.routers.routerdc import to_candidates
from stages.evaluate.routers.routoo import spend
from stages.shared.errors import ConfigurationError, DataError
from stages.shared.params import EvaluateParams, RecordsMethod, load_params, parse_params
from stages.shared.pool.candidate import Candidate

ROOT = Path(__file__).resolve().parents[3]


def candidate(name: str, price: float) -> Candidate:
    return Candidate(name, name, "http://127.0.0.1:1/v1", price, 0.1)


def asked(*texts: str, **more: Any) -> Asked:
    return Asked(texts, letters(texts), **more)


def letters(texts: Sequence[str]) -> np.ndarray:
    """A toy encoder: which of two words a text holds."""
    vectors = np.array([[("quarry" in text) + 0.01, ("composer" in text) + 0.01] for text in texts])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


RECORDS = [
    Record(f"what is the {word} of {index} ?", name, float(name == knows), 1.0 if name == "Arlix" else 2.0, "it is x")
    for word, knows, count in (("quarry", "Arlix", 15), ("composer", "Bomon", 16))
    for index in range(count)
    for name in ("Arlix", "Bomon")
]
"""Arlix, the cheaper, knows quarries, Bomon composers, of which there are more."""
PARAMS = EvaluateParams(neighbours=4)
QUESTIONS = ("the quarry of x ?", "the composer of y ?")
TRADES = {"Arlix": 5.0, "Bomon": 1.0, "Cyqun": 2.0}
QUICK = sorted(set(FITS) - LOOK - SLOW)


def history(records: Sequence[Record] = RECORDS, names: Sequence[str] = ("Arlix", "Bomon")) -> History:
    return make_history(records, names, letters, {"Arlix": "best at quarry", "Bomon": "best at composer"})


def taken(method: RecordsMethod, known: History, *texts: str, thrift: float = 0.0, **more: Any) -> list[str]:
    return [choice.taken for choice in FITS[method](known, PARAMS).decide(asked(*texts, **more), thrift)]


def panel() -> History:
    """Three candidates, the dearest of which is always right; the cheap ones reply `gold` where they are."""
    rows = [(f"what is the {('quarry', 'composer')[index % 2]} of {index} ?", index) for index in range(24)]
    right = {"Arlix": lambda index: True, "Bomon": lambda index: index % 2 == 0, "Cyqun": lambda index: index % 2 == 0}
    records = [
        Record(text, name, float(right[name](index)), cost, "gold" if right[name](index) else f"wrong {name}")
        for text, index in rows
        for name, cost in TRADES.items()
    ]
    return history(records, tuple(TRADES))


def test_a_fixed_candidate_gets_every_question() -> None:
    assert [choice.called for choice in FixedRouter("Arlix").decide(asked("a", "b"))] == [("Arlix",), ("Arlix",)]


def test_the_largest_is_the_most_expensive() -> None:
    assert largest([candidate("Arlix", 0.6), candidate("Fitus", 1.2), candidate("Bomon", 0.4)]).candidate == "Fitus"


def test_random_is_uniform_repeatable_and_blind_to_the_order_of_questions() -> None:
    router = RandomRouter(("a", "b", "c", "d"), seed=7)
    texts = [f"question {index}" for index in range(2000)]
    choices = router.decide(asked(*texts))
    assert router.decide(asked(*texts[::-1])) == choices[::-1]
    assert all(abs(count / 2000 - 0.25) < 0.04 for count in Counter(choice.taken for choice in choices).values())
    assert RandomRouter(("a", "b", "c", "d"), seed=8).decide(asked(*texts)) != choices


def test_the_catalogue_has_every_method_that_the_parameters_may_name() -> None:
    assert tuple(FITS) == get_args(RecordsMethod)


@pytest.mark.parametrize("method", QUICK)
def test_a_method_sends_each_question_to_who_knows(method: RecordsMethod) -> None:
    assert taken(method, history(), *QUESTIONS) == ["Arlix", "Bomon"]


@pytest.mark.parametrize("method", sorted(set(QUICK) - {"routerdc"}))
def test_with_nothing_but_thrift_the_cheapest_is_asked(method: RecordsMethod) -> None:
    assert taken(method, history(), *QUESTIONS, thrift=1.0) == ["Arlix", "Arlix"]


@pytest.mark.parametrize("method", QUICK)
def test_the_same_seed_gives_the_same_choices(method: RecordsMethod) -> None:
    texts = [f"the {word} {index}" for index in range(20) for word in ("quarry", "composer", "")]
    assert taken(method, history(), *texts) == taken(method, history(), *texts)


@pytest.mark.parametrize("method", QUICK)
def test_the_expected_cost_is_the_mean_of_the_records(method: RecordsMethod) -> None:
    choices = FITS[method](history(), PARAMS).decide(asked(*QUESTIONS))
    assert [choice.cost for choice in choices] == [1.0, 2.0]


def test_questions_that_are_all_alike_leave_avengers_no_empty_cluster() -> None:
    choices = FITS["avengers-pro"](history(), PARAMS).decide(asked("what else ?"))
    assert len(choices) == 1


def test_the_nearest_are_those_that_sorting_everything_would_give() -> None:
    near = np.random.default_rng(0).integers(0, 6, size=(40, 30)) / 5
    for count in (1, 7, 30):
        assert (nearest(near, count) == np.argsort(-near, axis=1, kind="stable")[:, :count]).all()
    assert nearest(np.empty((0, 3)), 2).shape == (0, 2)


def test_knn_takes_the_cheaper_where_both_did_the_same() -> None:
    tied = [replace(item, score=1.0) for item in RECORDS]
    assert taken("knn", history(tied, ("Bomon", "Arlix")), QUESTIONS[0]) == ["Arlix"]


def test_frugalgpt_takes_a_reply_that_it_trusts_and_asks_on_otherwise() -> None:
    known = panel()
    replies = {(0, "Bomon"): "gold", (1, "Bomon"): "wrong Bomon"}
    router = FITS["frugalgpt"](known, PARAMS)
    choices = router.decide(asked(*QUESTIONS, reply=lambda place, name: replies.get((place, name), "gold")), thrift=0.3)
    assert [choice.called for choice in choices] == [("Bomon",), ("Bomon", "Arlix")]
    assert [choice.cost for choice in choices] == [1.0, 6.0]


def test_frugalgpt_tries_every_list_of_three_and_never_does_worse_than_the_best_alone() -> None:
    router = FITS["frugalgpt"](panel(), PARAMS)
    assert isinstance(router, FrugalRouter)
    assert {item.order for item in router.strategies} >= {(0,), (2,), (0, 2), (0, 1, 2), (2, 1, 0)}
    assert max(item.reward for item in router.strategies) == 1.0


def test_cascade_routing_asks_on_only_as_long_as_another_reply_is_worth_its_price() -> None:
    router = FITS["cascade-routing"](panel(), PARAMS)
    assert isinstance(router, CascadingRouter)
    told = asked(*QUESTIONS, reply=lambda place, name: "gold" if place == 0 else f"wrong {name}")
    curious = replace(router, weight=0.0, spread=np.full(3, 0.5))
    frugal, lavish = router.decide(told, thrift=0.97), curious.decide(told)
    assert [len(choice.called) for choice in frugal] == [1, 1]
    assert [len(choice.called) for choice in lavish] == [3, 3]
    assert all(choice.taken in choice.called for choice in (*frugal, *lavish))


def test_the_gain_of_another_reply_by_hand() -> None:
    """E[max(0, N(0, 1))] is 1 / sqrt(2 pi); far below what is had, nothing is gained."""
    gains = improvement(np.array([[0.5, -9.0]]), np.array([1.0, 1.0]), np.array([[0.5]]))
    assert gains[0] == pytest.approx([0.3989, 0.0], abs=1e-4)


def test_a_walk_keeps_the_reply_that_is_trusted_most() -> None:
    trusts = np.array([[0.2, 0.9, 0.4]])
    found = walk(np.full((1, 3), 0.5), np.full(3, 0.5), np.zeros(3), lambda rows, place: trusts[rows, place])
    assert (found[0].called, found[0].taken) == ((0, 1, 2), 1)
    dear = walk(np.full((1, 3), 0.5), np.full(3, 0.5), np.full(3, 9.0), lambda rows, place: trusts[rows, place])
    assert dear[0].called == (0,), "someone has to be asked"


def test_the_consistency_cascade_stops_at_two_that_agree_and_else_takes_the_strongest() -> None:
    told = {(0, "Bomon"): "it is gold", (0, "Cyqun"): "Gold.", (1, "Bomon"): "tin", (1, "Cyqun"): "zinc"}
    choices = FITS["consistency-cascade"](panel(), PARAMS).decide(
        asked(*QUESTIONS, reply=lambda place, name: told[place, name])
    )
    assert [(choice.called, choice.taken) for choice in choices] == [
        (("Bomon", "Cyqun"), "Bomon"), (("Bomon", "Cyqun", "Arlix"), "Arlix"),
    ]  # fmt: skip
    assert not agree("", "")


def test_acar_asks_more_candidates_the_more_its_probes_disagree() -> None:
    """The probes are the three cheapest; where two agree the two strongest are asked, where none do all three."""
    names = ("p", "q", "r", "strong", "strongest")
    scores = {"p": 0.1, "q": 0.2, "r": 0.3, "strong": 0.5, "strongest": 0.6}
    rows = [Record("what ?", name, scores[name], float(place), "x") for place, name in enumerate(names, 1)]
    told = [("red", "it is red", "red"), ("red", "red", "tin"), ("red", "tin", "zinc")]
    replies = {(row, name): text for row, texts in enumerate(told) for name, text in zip(names, texts, strict=False)}
    router = FITS["acar"](history(rows, names), PARAMS)
    choices = router.decide(asked("x", "y", "z", reply=lambda row, name: replies.get((row, name), "zinc")))
    assert [choice.called for choice in choices] == [
        ("p", "q", "r"), ("p", "q", "r", "strongest", "strong"), ("p", "q", "r", "strongest", "strong"),
    ]  # fmt: skip
    assert [choice.taken for choice in choices] == ["p", "strongest", "strongest"]
    assert [choice.cost for choice in choices] == [6.0, 15.0, 15.0]


def test_the_variance_of_three_probes_is_that_of_the_paper() -> None:
    answers = (("tin", "tin", "it is tin"), ("tin", "zinc", "tin"), ("tin", "zinc", "gold"))
    assert [sigma(texts) for texts in answers] == [0.0, 0.5, 1.0]
    assert majority(("x", "it is y", "y")) == 1
    assert majority(("x", "y")) == 0


def test_acar_needs_three_candidates_to_probe() -> None:
    with pytest.raises(DataError, match="acar needs 3 candidates to probe, and there are 2"):
        FITS["acar"](history(), PARAMS)


def test_llm_blender_asks_everyone_and_takes_the_reply_that_ranks_first() -> None:
    told = {(0, "Arlix"): "gold", (0, "Bomon"): "wrong Bomon", (0, "Cyqun"): "wrong Cyqun"}
    choices = FITS["llm-blender"](panel(), PARAMS).decide(asked(QUESTIONS[0], reply=lambda row, name: told[row, name]))
    assert (choices[0].called, choices[0].taken, choices[0].cost) == (("Bomon", "Cyqun", "Arlix"), "Arlix", 8.0)
    assert support(("tin", "it is tin", "zinc")) == [0.5, 0.5, 0.0]


def test_llm_blender_learns_from_replies_of_which_one_is_better() -> None:
    with pytest.raises(DataError, match="no question tells two replies apart"):
        FITS["llm-blender"](history([replace(item, score=1.0) for item in RECORDS]), PARAMS)


def test_llmrank_counts_what_can_be_read_in_a_question() -> None:
    found = dict(zip(PATTERNS, features(["how many of the 3 are not older than Bo, in 1999 ?"])[0], strict=True))
    for name, count in (("amount asked", 1), ("digits", 2), ("negation", 1), ("names", 1), ("person asked", 0)):
        assert found[name] == pytest.approx(np.log1p(count)), name


def test_routoo_buys_the_best_scores_that_a_budget_allows() -> None:
    scores, costs = np.array([[0.2, 0.9], [0.5, 0.6], [0.4, 0.1]]), np.array([1.0, 4.0])
    assert spend(scores, costs, 4.0).tolist() == [1, 1, 0]
    assert spend(scores, costs, 2.0).tolist() == [1, 0, 0], "what is left goes where it gains most"
    assert spend(scores, costs, 1.0).tolist() == [0, 0, 0]
    assert spend(scores, np.ones(2), 1.0).tolist() == [1, 1, 0], "one price for all leaves nothing to weigh"


def test_bert_tunes_an_encoder_of_its_own_on_the_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bert, "STEPS", 15)
    before = minilm(QUESTIONS)
    blind = replace(history(), vectors=np.ones((31, 2)))
    router = FITS["bert"](blind, PARAMS)
    told = Asked(QUESTIONS, np.ones((2, 2)))
    assert [choice.taken for choice in router.decide(told)] == ["Arlix", "Bomon"]
    assert [choice.taken for choice in router.decide(told, thrift=1.0)] == ["Arlix", "Arlix"]
    assert np.allclose(minilm(QUESTIONS), before), "what the other routers read is untouched"


@pytest.mark.parametrize("method", ["bert", "llmrank"])
def test_a_method_that_reads_texts_says_so_where_there_are_embeddings_alone(method: RecordsMethod) -> None:
    with pytest.raises(DataError, match=f"{method} reads the questions, and these records hold embeddings"):
        FITS[method](replace(history(), worded=False), PARAMS)


@pytest.mark.parametrize("method", sorted(LOOK))
def test_a_method_that_looks_at_replies_says_so_where_there_are_none(method: RecordsMethod) -> None:
    with pytest.raises(DataError, match="hold scores only"):
        FITS[method](replace(panel(), replies=None), PARAMS)
    with pytest.raises(DataError, match="there are none"):
        FITS[method](panel(), PARAMS).decide(asked(*QUESTIONS))


def test_a_history_leaves_out_candidates_that_are_not_in_the_pool_and_calls_that_failed() -> None:
    extra = [replace(item, candidate="Guvex") for item in RECORDS if item.candidate == "Arlix"]
    failed = [Record("what is the quarry of 99 ?", "Bomon", 0.0, 0.0, failed=True)]
    known = history([*RECORDS, *extra, *failed])
    assert set(known.candidates) == {"Arlix", "Bomon"}
    assert known.scores.shape == (31, 2)


def test_a_history_without_a_single_complete_question_says_so() -> None:
    with pytest.raises(DataError, match="run the profile stage again"):
        history(RECORDS[:1])


@pytest.mark.parametrize("field", ["score", "cost"])
def test_a_number_that_is_none_is_refused_by_the_candidate_that_has_it(field: str) -> None:
    with pytest.raises(DataError, match=f"a {field} that is no number, of Bomon"):
        history([*RECORDS[:-1], replace(RECORDS[-1], **{field: float("nan")})])


def test_routerdc_draws_every_candidate_that_is_as_good_and_none_from_one_that_is_right() -> None:
    """Of six that are right and four that are wrong, no place in the table is drawn more than another."""
    torch.manual_seed(7)
    similarity = torch.zeros(4000, 10, requires_grad=True)
    to_candidates(similarity, torch.tensor([[1.0] * 6 + [0.0] * 4]).expand(4000, 10)).backward()
    pull = similarity.grad.sum(dim=0)
    assert (pull[:6] < 0).all()
    assert (pull[6:] > 0).all()
    assert float(pull[:6].std() / pull[:6].mean().abs()) < 0.05
    alike = torch.zeros(2, 4, requires_grad=True)
    to_candidates(alike, torch.tensor([[1.0, 0.9, 0.8, 0.7], [0.0, 0.0, 0.0, 0.0]])).backward()
    assert not alike.grad.any()


def test_too_few_questions_are_refused_with_what_to_raise() -> None:
    with pytest.raises(DataError, match="graphrouter needs records of at least 20 questions, found 4"):
        FITS["graphrouter"](history(RECORDS[:8]), PARAMS)


def test_one_price_for_all_leaves_hybrid_llm_nothing_to_weigh() -> None:
    with pytest.raises(DataError, match="no candidate costs less than the strongest"):
        FITS["hybrid-llm"](history([replace(item, cost=1.0) for item in RECORDS]), PARAMS)


def test_preferences_are_what_routellm_learns_from() -> None:
    with pytest.raises(DataError, match="no question tells two candidates apart"):
        FITS["routellm-mf"](history([replace(item, score=1.0) for item in RECORDS]), PARAMS)


def test_the_slack_of_hybrid_llm_splits_the_questions_as_evenly_as_it_can() -> None:
    assert slack(np.array([-0.8, -0.8, -0.2, 0.1])) == pytest.approx(0.2)


def test_avengers_stretches_each_cluster_from_its_worst_to_its_best() -> None:
    assert stretched(np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]])).tolist() == [[0.0, 0.5, 1.0], [0.0, 0.0, 0.0]]


def test_an_unknown_method_is_refused_with_the_closest_one() -> None:
    raw = load_params(ROOT / "params.yaml").model_dump()
    for wrong, said in (("graph-router", "did you mean graphrouter"), ("xyz", "there are: knn, mlp")):
        with pytest.raises(ConfigurationError, match=said):
            parse_params(raw | {"evaluate": {"methods": [wrong]}}, "params.yaml")
    with pytest.raises(ConfigurationError, match="knn is there twice"):
        parse_params(raw | {"evaluate": {"methods": ["knn", "knn"]}}, "params.yaml")


def test_a_text_is_encoded_once_however_often_it_is_asked_for() -> None:
    seen: list[str] = []

    def encode(texts: Sequence[str]) -> np.ndarray:
        seen.extend(texts)
        return letters(texts)

    remembering = Remembering(encode)
    first = remembering(["quarry", "composer", "quarry"])
    assert (remembering(["composer"]) == first[1]).all()
    assert (first[0] == first[2]).all()
    assert seen == ["quarry", "composer"]


def test_of_many_texts_the_newest_vectors_are_remembered() -> None:
    seen: list[str] = []
    remembering = Remembering(lambda texts: [seen.extend(texts), letters(texts)][1], most=2)
    assert len(remembering(["one", "two", "three"])) == 3, "a list longer than that is encoded all the same"
    remembering(["three", "two", "one"])
    assert seen == ["one", "two", "three", "one"]


def test_the_encoder_works_offline_and_finds_the_paraphrase_nearest() -> None:
    one, same, other = minilm(["who composed the song ?", "the composer of the song", "the price of stone"])
    assert one @ same > one @ other
    assert np.linalg.norm(one) == pytest.approx(1.0, abs=1e-5)


def test_records_are_read_from_the_profile(tmp_path: Path) -> None:
    rows = [
        {"question": "q ?", "candidate": "Arlix", "outcome": "answered", "contains": 1.0, "cost": 2.0, "reply": "x"},
        {"question": "q ?", "candidate": "Bomon", "outcome": "timed-out", "contains": None, "cost": 0.0, "reply": ""},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "records.parquet")
    assert read_records(tmp_path / "records.parquet") == [
        Record("q ?", "Arlix", 1.0, 2.0, "x"), Record("q ?", "Bomon", 0.0, 0.0, failed=True),
    ]  # fmt: skip


@pytest.mark.parametrize("content", [None, b"no table"])
def test_records_that_cannot_be_read_point_to_the_profile_stage(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "records.parquet").write_bytes(content)
    with pytest.raises(DataError, match="run the profile stage"):
        read_records(tmp_path / "records.parquet")


def test_what_a_router_is_fitted_on_has_no_way_to_the_test_questions() -> None:
    for path in [*(ROOT / "stages/evaluate/routers").glob("*.py"), ROOT / "stages/evaluate/records.py"]:
        names = [node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)]
        assert "read_questions" not in names, path
