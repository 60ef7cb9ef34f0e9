"""report.html: one file, nothing from elsewhere, inert to what candidates and questions say."""

from __future__ import annotations

import base64
import csv
import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from stages.evaluate.attempt import Result
from stages.evaluate.metrics import ReplyCell
from stages.evaluate.plots import write_plots
from stages.evaluate.report.charts import Spot
from stages.evaluate.report.charts import scatter as charts_scatter
from stages.evaluate.report.curves import panels, read_curves
from stages.evaluate.report.examples import Example, examples
from stages.evaluate.report.page import Material, render
from stages.evaluate.report.published import ORDER, PAPER, PRICED, beside_costs
from stages.evaluate.report.reliability import reliabilities
from stages.evaluate.report.transcript import Piece, pieces
from stages.evaluate.report.view import scatter, verdict
from stages.evaluate.sheet import Measured
from stages.shared.params import Params
from stages.shared.questions import Question

HOSTILE = (
    "<think> x </think> <search> Arlix : q </search> <information> <script>alert(1)</script>"
    "<img src=x onerror=alert(2)> </details></section> \u202egnirts\u202c {{ 7*7 }} \x00\x1b[31m \u2028 </information>"
    "<answer> \"'><svg onload=alert(3)> </answer>"
)


class Page(HTMLParser):
    """Elements, attributes and the content of script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag if tag in self.raw else ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.raw[self._inside].append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


@pytest.fixture(scope="module")
def material(sample: Any, params: Params) -> Material:
    shown = drawn(sample.results, sample.questions)
    return Material(params, sample.evaluation, shown, len(sample.questions), sample.descriptors, sample.curves)


def drawn(results: Sequence[Result], questions: Sequence[Question]) -> list[Example]:
    return examples(Measured.of(results, questions, "seen"), "router", "warm-start", seed=7)


@pytest.fixture(scope="module")
def router(sample: Any) -> dict[str, Result]:
    """Question -> the router's episode with the seen pool."""
    return {item.question.id: item for item in sample.results if (item.method, item.pool) == ("router", "seen")}


@pytest.fixture(scope="module")
def before(sample: Any) -> dict[str, Result]:
    """The same of the policy before PPO."""
    return {item.question.id: item for item in sample.results if (item.method, item.pool) == ("warm-start", "seen")}


@pytest.fixture(scope="module")
def page(material: Material) -> str:
    return render(material)


@pytest.fixture(scope="module")
def hostile(material: Material, router: dict[str, Result]) -> str:
    def poisoned(number: int, result: Result) -> Result:
        question = replace(result.question, question=f"{HOSTILE} {number}", answers=(HOSTILE,))
        return replace(result, question=question, prediction=HOSTILE, transcript=HOSTILE, faults=(HOSTILE,))

    results = [poisoned(*pair) for pair in enumerate(router.values())]
    return render(replace(material, examples=drawn(results, [item.question for item in results])))


def test_dvc_is_left_what_it_draws(material: Material, tmp_path: Path) -> None:
    write_plots(tmp_path, material.evaluation)
    with (tmp_path / "methods.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    average = material.evaluation.methods["knn"]["average"]
    assert {row["method"] for row in rows} == set(material.evaluation.methods)
    assert next(row["em"] for row in rows if row["method"] == "knn") == str(average.em)
    assert (tmp_path / "sets.csv").read_text().splitlines()[-1].startswith("average,")
    assert (tmp_path / "shares.csv").read_text().startswith("candidate,share\nArlix,")


def test_it_names_no_address_outside_of_itself(page: str) -> None:
    shown = re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL)
    assert not re.findall(r"https?://|//[a-z]|url\(|@import", shown)
    for _, attributes in Page(page).elements:
        assert not {"src", "href", "srcset", "action", "xlink:href"} & set(attributes)


def test_only_its_own_style_and_script_may_act(page: str) -> None:
    parsed = Page(page)
    policy = next(a["content"] or "" for _, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256("".join(parsed.raw[kind]).encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_hostile_text_adds_no_element_and_no_handler(page: str, hostile: str) -> None:
    tags = {tag for tag, _ in Page(hostile).elements}
    assert tags == {tag for tag, _ in Page(page).elements}
    assert sum(tag == "script" for tag, _ in Page(hostile).elements) == 1
    assert not [name for _, attributes in Page(hostile).elements for name in attributes if name.startswith("on")]
    assert not [name for _, attributes in Page(hostile).elements for name in attributes if name == "style"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in hostile
    assert "{{ 7*7 }}" in hostile


def test_invisible_characters_are_shown_instead_of_obeyed(hostile: str) -> None:
    assert "[U+202E]gnirts[U+202C]" in hostile
    assert not set(hostile) & set("\u202e\u202c\x00\x1b\u2028")


def test_the_second_mode_stands_apart_and_is_labelled(page: str, material: Material) -> None:
    assert "Second mode" not in page, "this evaluation took no replies"
    cell = ReplyCell(0.625, 0.5, 0.75, 0.25, 0.2, 0.3, 0.4, 84)
    told = render(replace(material, evaluation=replace(material.evaluation, replies={"knn": {"average": cell}})))
    section = told[told.index("Second mode: the reply itself") :].split("</section>")[0]
    assert "KNN Router" in section
    assert re.findall(r">([\d.–]+(?: %)?)</td>", section)[1:] == ["62.5 %", "50.0–75.0", "25.0 %", "40.0 %"]


def test_a_synthetic_sandbox_says_so(page: str, material: Material) -> None:
    assert "Synthetic sandbox." in page
    real = replace(material.evaluation, router=replace(material.evaluation.router, synthetic=False))
    assert "Synthetic sandbox." not in render(replace(material, evaluation=real))


def test_it_shows_every_method_and_every_set(page: str) -> None:
    for text in ("Router", "Oracle", "Direct", "Prompt LLM", "Largest LLM", "KNN Router", "Random", "Before PPO",
                 "2wikimultihopqa", "bamboogle", "With the unseen candidates added", "How it learned"):  # fmt: skip
        assert text in page


def test_a_method_that_failed_is_told_in_the_table_with_its_reason_and_without_a_figure(material: Material) -> None:
    failed = replace(material.evaluation, failed={"graphrouter": "records of <b>4</b> questions"})
    page = render(replace(material, evaluation=failed))
    assert 'GraphRouter failed and has no result: <bdi class="foreign">records of &lt;b&gt;4&lt;/b&gt;' in page
    row = page[page.index('<tbody>\n<tr class="') :].split("GraphRouter")[1].split("</tr>")[0]
    assert "failed, no result: <bdi" in row
    assert "records of &lt;b&gt;4&lt;/b&gt; questions" in row
    assert not re.findall(r"<td>[\d.]", row)
    assert page.count("GraphRouter") == 2


def test_the_papers_figures_stand_above_ours_and_another_setting_is_marked(page: str, material: Material) -> None:
    assert "<strong>Another setting</strong>: generated questions and simulated candidates." in page
    assert ">ours*<" in page
    same = replace(
        material,
        params=material.params.model_copy(update={"profile_name": "paper-qwen"}),
        evaluation=replace(material.evaluation, router=replace(material.evaluation.router, synthetic=False)),
    )
    assert "Another setting" not in render(same)


def test_the_papers_costs_stand_beside_ours_where_a_candidate_has_the_papers_name(material: Material) -> None:
    methods = material.evaluation.methods
    ours = beside_costs({**methods, "fixed:Gemma-2-27B-Instruct": methods["fixed:Arlix"]})
    assert [pair.method for pair in ours] == ["router", "fixed:Gemma-2-27B-Instruct"]
    assert ours[1].paper["nq"] == (0.282, 42.7)
    assert ours[1].ours["nq"] == (methods["fixed:Arlix"]["nq"].em, methods["fixed:Arlix"]["nq"].cost)
    assert {name: PAPER["router"][ORDER.index(name)] for name in PRICED} == {
        n: em for n, (em, _) in ours[0].paper.items()
    }


def test_the_papers_averages_are_the_means_of_its_sets() -> None:
    for figures in PAPER.values():
        assert sum(figures[:-1]) / 7 == pytest.approx(figures[-1], abs=6e-4)


def test_episodes_can_be_filtered_by_flipped_and_expensive(
    material: Material, router: dict[str, Result], before: dict[str, Result]
) -> None:
    shown = material.examples
    assert {item.flipped for item in shown} == {True, False}
    assert all(item.flipped == (before[item.id].em != float(item.right)) for item in shown)
    dear = sorted(item.cost for item in router.values())[-len(router) // 10 :]
    assert {item.cost for item in shown if item.expensive} <= set(dear)
    assert len({item.question for item in shown}) == len(shown)
    page = render(material)
    assert page.count('data-kind="flipped') == sum(item.flipped for item in shown)


def test_the_frontier_is_drawn_from_nobody_to_the_best_and_beside_it_the_zero_router(material: Material) -> None:
    every, fixed = scatter(material.evaluation.methods).curves
    assert every.points[0] == fixed.points[0] == (0.0, 100.0)
    assert every.points[-1][0] == fixed.points[-1][0] == 100.0
    assert every.points[-1][1] < fixed.points[-1][1], "y counts downwards"


def test_in_a_crowd_the_router_keeps_its_label_and_others_give_way() -> None:
    crowd = [Spot("Router", "router", 1.0, 0.5, 0.4, 0.6), *(Spot("A long name", "baseline", 1.0, 0.5, 0.4, 0.6),) * 20]
    points = charts_scatter(crowd, {}).points
    assert points[0].label == "Router"
    assert 0 < sum(bool(point.label) for point in points[1:]) < 20
    assert all("A long name" in point.title for point in points[1:])


def test_routing_is_shown_by_set_and_calls_by_hops(page: str, material: Material) -> None:
    router = material.evaluation.router
    assert set(router.share_by_set) == set(material.evaluation.methods["router"]) - {"average"}
    assert all(sum(share.values()) == pytest.approx(1.0) for share in router.share_by_set.values())
    assert router.calls_by_hops == {"1": {"1": 1.0}, "2": {"2": 1.0}}
    assert "By hops of the question" in page


def test_stated_chances_stand_beside_what_came_of_them(page: str, material: Material) -> None:
    table, knn = reliabilities(material.evaluation.calibration)
    assert (table.label, knn.label) == ("The prompt's table", "KNN Router")
    assert [(dot.x, dot.y) for dot in knn.dots] == [(25.0, 80.0), (95.0, 10.0)]
    assert knn.dots[0].radius < knn.dots[1].radius
    assert "stated 95 %, right 90 % of 30" in page
    assert "What a stated chance is worth" not in render(
        replace(material, evaluation=replace(material.evaluation, calibration={}))
    )


def test_an_episode_and_the_ledger_are_named_so_that_a_number_can_be_traced(
    material: Material, router: dict[str, Result]
) -> None:
    page = render(replace(material, ledger="ab12" * 16))
    assert "ab12" * 16 in page
    assert {item.id for item in material.examples} <= set(router)
    assert all(f'<span class="id">{item.id}</span>' in page for item in material.examples)


def test_it_does_without_curves_and_without_unseen_candidates(material: Material) -> None:
    alone = replace(material.evaluation, router=replace(material.evaluation.router, unseen=None))
    page = render(replace(material, evaluation=alone, curves={}))
    assert "How it learned" not in page
    assert "unseen candidates added" not in page


@pytest.mark.parametrize(("low", "claims"), [(-0.02, False), (0.005, True)])
def test_the_verdict_does_not_claim_a_lead_that_the_interval_does_not_show(
    material: Material, low: float, claims: bool
) -> None:
    router = material.evaluation.router
    gap = replace(router.versus[router.best_baseline], difference=0.01, low=low, high=0.04)
    close = replace(material.evaluation, router=replace(router, versus={**router.versus, router.best_baseline: gap}))
    assert ("cannot be told apart" in verdict(close)) is not claims


def test_a_transcript_falls_into_blocks_and_loose_text() -> None:
    found = pieces("<think> a </think> stray <answer> b <b> </answer>")
    assert found == [Piece("think", "a"), Piece("loose", "stray"), Piece("answer", "b <b>")]


def test_curves_keep_training_and_validation_apart_and_leave_out_what_was_not_measured(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    path.write_text(
        "step,phase,reward,entropy\n0,validation,0.5,\n1,train,-0.1,0.3\n2,train,0.1,0.2\n2,validation,0.7,\n"
    )
    assert read_curves(path) == {
        "reward": {"validation": [(0.0, 0.5), (2.0, 0.7)], "train": [(1.0, -0.1), (2.0, 0.1)]},
        "entropy": {"train": [(1.0, 0.3), (2.0, 0.2)]},
    }
    assert read_curves(tmp_path / "absent.csv") == {}


def test_a_chart_of_training_tells_the_change_in_validation_where_there_is_one() -> None:
    em = {"train": [(1.0, 0.1), (2.0, 0.2)], "validation": [(0.0, 0.5), (2.0, 0.75)]}
    entropy = {"train": [(1.0, 0.3), (2.0, 0.2)]}
    first, second = panels({"em": em, "entropy": entropy, "kl": {"train": [(1.0, 0.0)]}})
    assert (first.title, first.change, first.first_step, first.last_step) == ("Exact match", "50 % → 75 %", "0", "2")
    assert first.validation == "M0.00 50.00 L100.00 25.00"
    assert first.train == "M50.00 90.00 L100.00 80.00"
    assert (second.title, second.change, second.validation) == ("Policy entropy", "0.3 → 0.2", "")
