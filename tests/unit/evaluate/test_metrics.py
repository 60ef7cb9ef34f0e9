"""metrics/evaluate.json: what it holds, how the average is defined, and that no question is ever dropped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow.parquet as pq
import pytest

from stages.evaluate.attempt import Result
from stages.evaluate.behaviour import entropy
from stages.evaluate.episodes import write_episodes
from stages.evaluate.headline import headline
from stages.evaluate.metrics import best_baseline, evaluate, method_cells
from stages.evaluate.sheet import Measured
from stages.evaluate.statistics import Resamples
from stages.shared.errors import IntegrityError
from stages.shared.files import write_json
from stages.shared.params import DATASETS
from stages.shared.questions import Question

Make = Callable[..., Result]


def test_what_dvc_compares_is_few_figures_without_their_noise(sample: Any) -> None:
    found = headline(sample.evaluation)
    average = sample.evaluation.methods["router"]["average"]
    assert (found["router"]["em"], found["em"]["router"]) == (round(average.em, 4), round(average.em, 4))
    assert set(found["em_by_set"]) == set(DATASETS)
    assert set(found["em"]) == set(found["cost"]) == set(sample.evaluation.methods)
    assert sum(found["share"].values()) == pytest.approx(1, abs=0.001)
    assert sum(len(row) for row in found.values()) < 100


def test_the_file_has_every_method_on_every_set_and_the_average(sample: Any, tmp_path: Any) -> None:
    write_json(tmp_path / "evaluate.json", sample.evaluation.to_json())
    written = json.loads((tmp_path / "evaluate.json").read_text())
    assert {"router", "oracle", "direct", "prompt-llm", "largest-llm", "knn", "random", "fixed:Arlix"} <= set(
        written["methods"]
    )
    for cells in written["methods"].values():
        assert set(cells) == {*DATASETS, "average"}
        for cell in cells.values():
            assert {"em", "em_low", "em_high", "f1", "cost", "cost_total", "calls", "n"} <= set(cell)
            assert cell["em_low"] <= cell["em"] <= cell["em_high"]
    assert {
        "format_rate",
        "calls_single_hop",
        "calls_multi_hop",
        "share",
        "entropy",
        "versus",
        "unseen",
        "synthetic",
    } <= set(written["router"])
    assert written["router"]["synthetic"] is True
    assert set(written["router"]["versus"]) == set(written["methods"]) - {"router"}
    assert set(written["router"]["unseen"]["methods"]["router"]) == {*DATASETS, "average"}


def test_sets_of_one_question_have_figures_and_wide_intervals(make_result: Make) -> None:
    """Resampling one question sees no spread: Wilson's interval stands in, and nothing becomes no number."""
    questions = [make_question("nq", 0), make_question("hotpotqa", 1)]
    right = {"router": (1.0, 0.0), "oracle": (1.0, 1.0), "warm-start": (0.0, 0.0), "fixed:Arlix": (0.0, 0.0)}
    results = [
        make_result(item, method, em=em)
        for method, marks in right.items() for item, em in zip(questions, marks, strict=True)
    ]  # fmt: skip
    seen = Measured.of(results, questions, "seen")
    found = evaluate(
        seen, None, {"seen": ["Arlix"], "all": ["Arlix"]}, Resamples(seen.sizes, 200, 0.95, 7), synthetic=True, seed=7,
        count=200,
    )  # fmt: skip
    json.dumps(found.to_json(), allow_nan=False)
    cells = found.methods["router"]
    assert [(cells[name].em, cells[name].n) for name in ("nq", "hotpotqa", "average")] == [(1.0, 1), (0.0, 1), (0.5, 2)]
    assert cells["nq"].em_low < 0.3
    assert found.router.versus["fixed:Arlix"].p_holm == 1.0


def make_question(dataset: str, number: int) -> Question:
    return Question(f"question {number} ?", ("x",), dataset, "test", "stone", 1 + (dataset != "nq"))


def test_every_mean_can_be_had_again_from_the_ledger_of_episodes(sample: Any, tmp_path: Path) -> None:
    write_episodes(tmp_path / "episodes.parquet", sample.results)
    rows = pq.read_table(tmp_path / "episodes.parquet").to_pylist()
    for method, cells in sample.evaluation.methods.items():
        mine = [row for row in rows if (row["method"], row["pool"]) == (method, "seen")]
        for dataset in DATASETS:
            group = [row for row in mine if row["dataset"] == dataset]
            assert len({row["question_id"] for row in group}) == len(group) == cells[dataset].n
            for field in ("em", "f1", "cost", "cost_total", "own_tokens", "calls"):
                assert fmean(row[field] for row in group) == pytest.approx(getattr(cells[dataset], field)), field


def test_the_average_is_the_unweighted_mean_of_the_sets(questions: tuple[Question, ...], make_result: Make) -> None:
    few = [question for question in questions if question.dataset == "nq"][:2]
    many = [question for question in questions if question.dataset == "musique"]
    results = [make_result(q, "router", em=1.0, cost=10.0) for q in few]
    results += [make_result(q, "router", em=0.0, cost=1.0) for q in many]
    measured = Measured.of(results, [*few, *many], "seen")
    cells = method_cells(measured.sheet("router"), Resamples(measured.sizes, 100, 0.95, 7))
    assert (cells["average"].em, cells["average"].cost, cells["average"].n) == (0.5, 5.5, 14)


def test_a_dropped_question_stops_the_stage(questions: tuple[Question, ...], make_result: Make) -> None:
    results = [make_result(question, "router") for question in questions[:-1]]
    with pytest.raises(
        IntegrityError, match=r"router has 11 results for the 12 bamboogle questions.*missing: " + questions[-1].id
    ):
        Measured.of(results, questions, "seen").sheet("router")


def test_a_question_that_counts_twice_stops_the_stage(questions: tuple[Question, ...], make_result: Make) -> None:
    results = [make_result(question, "router") for question in (*questions, questions[0])]
    with pytest.raises(IntegrityError, match="13 results for the 12 nq questions"):
        Measured.of(results, questions, "seen").sheet("router")


def test_results_are_compared_question_by_question_whatever_their_order(
    questions: tuple[Question, ...], make_result: Make
) -> None:
    results = [make_result(q, "router", em=float(i % 2)) for i, q in enumerate(questions)]
    ordered = Measured.of(results, questions, "seen").values("router", "em")
    shuffled = Measured.of(results[::-1], questions, "seen").values("router", "em")
    assert all((ordered[name] == shuffled[name]).all() for name in ordered)


def test_the_router_makes_more_calls_where_several_hops_are_needed(sample: Any) -> None:
    assert (sample.evaluation.router.calls_single_hop, sample.evaluation.router.calls_multi_hop) == (1.0, 2.0)


def test_the_best_baseline_is_none_of_the_routers_own_controls_nor_the_bound(sample: Any) -> None:
    assert best_baseline(sample.evaluation.methods) not in ("router", "oracle", "warm-start", "forced:Arlix")


def test_the_router_is_compared_by_flips_and_corrected_for_all_methods(sample: Any) -> None:
    versus = sample.evaluation.router.versus
    weakest = versus["direct"]
    assert weakest.won > weakest.lost
    assert all(gap.p <= gap.p_holm <= 1.0 for gap in versus.values())
    assert min(gap.p_holm for gap in versus.values()) == pytest.approx(
        min(1.0, len(versus) * min(gap.p for gap in versus.values()))
    )


def test_entropy_is_zero_for_one_candidate_and_one_bit_for_two_equal_ones() -> None:
    assert entropy({"Arlix": 1.0, "Bomon": 0.0}) == 0.0
    assert entropy({"Arlix": 0.5, "Bomon": 0.5}) == 1.0
