"""Two evaluations compared: what is said, how sure it is, and when it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from stages.evaluate.attempt import Result
from stages.evaluate.diff.__main__ import main
from stages.evaluate.diff.changes import changes
from stages.evaluate.diff.compare import Diff, compare
from stages.evaluate.diff.page import render
from stages.evaluate.diff.run import read_run
from stages.evaluate.diff.text import apart, markdown
from stages.evaluate.episodes import write_episodes
from stages.shared.artifacts import write_manifest
from stages.shared.errors import ConfigurationError, IntegrityError
from stages.shared.questions import Question

Make = Callable[..., Result]
PARAMS: dict[str, Any] = {
    "pool": {"experts": [{"name": "Arlix", "price": 1.0}, {"name": "Bomon", "price": 2.0}]},
    "evaluate": {"resamples": 200, "router_price": 0.1},
}
HOSTILE = "</td><script>alert(1)</script> | [x](javascript:1) \x1b[31m \u202e"


class Folder:
    """Writes runs of two methods: `router`, right on the first so many questions of each set, and `fixed:Arlix`."""

    def __init__(self, root: Path, questions: Sequence[Question], make: Make) -> None:
        self.root, self.questions, self.make = root, questions, make

    def run(self, name: str, right: int, params: dict[str, Any] = PARAMS, **change: Any) -> Path:
        """A run whose router is right on the questions 0 to `right` - 1 of each set."""
        per_set = {question.id: index % 12 for index, question in enumerate(self.questions)}
        results = [
            self.make(question, method, em=float(per_set[question.id] < (right if method == "router" else 3)), **change)
            for method in ("router", "fixed:Arlix")
            for question in self.questions
        ]
        return self.write(name, results, params)

    def write(self, name: str, results: Sequence[Result], params: dict[str, Any] = PARAMS) -> Path:
        """A run of these results."""
        folder = self.root / name
        (folder / "artifacts" / "evaluate").mkdir(parents=True)
        write_episodes(folder / "artifacts" / "evaluate" / "episodes.parquet", results)
        write_manifest(folder / "artifacts" / "evaluate", "pointsman/evaluate/1")
        (folder / "params.yaml").write_text(yaml.safe_dump(params))
        return folder


@pytest.fixture
def folder(tmp_path: Path, questions: tuple[Question, ...], make_result: Make) -> Folder:
    return Folder(tmp_path, questions, make_result)


def diff_of(before: Path, after: Path, **options: Any) -> Diff:
    return compare(read_run(before, "old"), read_run(after, "new"), **options)


def test_a_run_compared_with_itself_differs_in_nothing(folder: Folder) -> None:
    run = folder.run("a", 6)
    found = diff_of(run, run)
    gap = found.methods["router"]
    assert (gap.n, gap.before, gap.difference, gap.low, gap.high, gap.p) == (84, 0.5, 0.0, 0.0, 0.0, 1.0)
    assert (found.changes, found.flips, found.forced) == ((), (), ())


def test_what_got_better_is_told_with_its_interval_its_flips_and_its_cost(folder: Folder) -> None:
    found = diff_of(folder.run("a", 6, cost=2.0), folder.run("b", 9, cost=3.0))
    gap = found.methods["router"]
    assert (gap.before, gap.after, gap.difference) == (0.5, 0.75, 0.25)
    assert 0 < gap.low < 0.25 < gap.high
    assert (gap.won, gap.lost) == (21, 0)
    assert gap.p == pytest.approx(2 * 0.5**21)
    assert gap.p_holm == pytest.approx(2 * gap.p)
    assert (gap.cost_before, gap.cost_after, gap.cost_low, gap.cost_high) == pytest.approx((2.0, 3.0, 1.0, 1.0))
    assert found.methods["fixed:Arlix"].difference == 0.0


def test_sets_and_candidates_have_rows_of_their_own(folder: Folder) -> None:
    found = diff_of(folder.run("a", 6), folder.run("b", 9, called=("Arlix", "Bomon")))
    assert {name: gap.n for name, gap in found.sets.items()} == dict.fromkeys(found.sets, 12)
    assert found.sets["nq"].won == 3
    arlix, bomon = found.candidates["Arlix"], found.candidates["Bomon"]
    assert (arlix.share_before, arlix.share_after, bomon.share_after) == (1.0, 0.5, 0.5)
    assert arlix.alone is not None
    assert bomon.alone is None


def test_flips_carry_both_episodes(folder: Folder) -> None:
    found = diff_of(folder.run("a", 6), folder.run("b", 5))
    assert len(found.flips) == 7
    flip = found.flips[0]
    assert (flip.won, flip.before.prediction, flip.after.prediction) == (False, flip.before.answers[0], "wrong")


def test_what_differs_in_long_lists_and_texts_is_what_is_told() -> None:
    methods = [f"method-{number}" for number in range(20)]
    assert apart(methods, [*methods[1:], "knn"]) == ("…, method-0", "…, knn")
    assert apart(methods, methods[::-1])[0] != apart(methods, methods[::-1])[1], "another order"
    images = [f"registry.example/pointsman@sha256:{'0' * 63}{end}" for end in "12"]
    assert [told[-2:] for told in apart(*images)] == ["01", "02"]
    assert apart(0.1, 0.2) == ("0.1", "0.2")
    assert apart(["a"], ["a", "b"]) == ("\\['a'\\]", "\\['a', 'b'\\]")


def test_a_price_is_a_reason_to_refuse_and_a_parameter_is_not(folder: Folder) -> None:
    dearer = {**PARAMS, "pool": {"experts": [{"name": "Bomon", "price": 2.5}, {"name": "Arlix", "price": 1.0}]}}
    old, new = folder.run("a", 6), folder.run("b", 6, dearer)
    with pytest.raises(ConfigurationError, match=r"price: pool.experts\[Bomon\].price is 2.0 and 2.5"):
        diff_of(old, new)
    forced = diff_of(old, new, force=True)
    assert forced.forced == ("price: pool.experts[Bomon].price is 2.0 and 2.5",)
    reseeded = folder.run("c", 6, {**PARAMS, "evaluate": {**PARAMS["evaluate"], "seed": 8}})
    assert [(item.part, item.key) for item in diff_of(old, reseeded).changes] == [("parameter", "evaluate.seed")]


def test_a_candidate_that_came_is_a_change_of_the_pool(folder: Folder) -> None:
    more = {**PARAMS, "pool": {"experts": [*PARAMS["pool"]["experts"], {"name": "Cyqun", "price": 9.0}]}}
    found = changes(read_run(folder.run("a", 6), "a"), read_run(folder.run("b", 6, more), "b"))
    assert [(item.part, item.key, item.before) for item in found] == [("pool", "pool.experts[Cyqun].price", "(absent)")]


def test_a_method_that_a_run_lacks_is_told_with_the_closest_one(folder: Folder) -> None:
    run = folder.run("a", 6)
    with pytest.raises(ConfigurationError, match=r"old has no method 'routter'; did you mean router\? it has: "):
        diff_of(run, run, method="routter")


def test_another_image_is_told_as_an_image(folder: Folder) -> None:
    old, new = (
        folder.run(name, 6, {**PARAMS, "stage": {"images": {"cpu": image}, "runtime": runtime}})
        for name, image, runtime in (("a", "x@sha256:1", "podman"), ("b", "x@sha256:2", "docker"))
    )
    found = diff_of(old, new)
    assert [(item.part, item.key) for item in found.changes] == [
        ("image", "stage.images.cpu"), ("parameter", "stage.runtime"),
    ]  # fmt: skip
    assert "| image | stage.images.cpu | x@sha256:1 | x@sha256:2 |" in markdown(found, 0)


def test_question_sets_are_compared_by_the_surest_knowledge_that_both_runs_kept(folder: Folder) -> None:
    old, new = folder.run("a", 6), folder.run("b", 6)
    for run, digest in ((old, "12ab"), (new, "34cd")):
        lock = {"stages": {"ingest": {"outs": [{"path": "artifacts/ingest", "md5": digest}]}}}
        (run / "dvc.lock").write_text(yaml.safe_dump(lock))
        (run / "metrics").mkdir()
        (run / "metrics" / "ingest.json").write_text('{"n": 84}')
    found = diff_of(old, new).changes
    assert [(item.part, item.before, item.after) for item in found] == [("data", "12ab", "34cd")]
    (new / "dvc.lock").unlink()
    assert diff_of(old, new).changes == ()


def test_other_questions_are_refused_and_forced_onto_what_both_have(folder: Folder) -> None:
    old = folder.run("a", 6)
    folder.questions = folder.questions[6:]
    new = folder.run("b", 6)
    with pytest.raises(ConfigurationError, match="questions: 6 of 84 are only in old, 0 of 78 only in new"):
        diff_of(old, new)
    assert diff_of(old, new, force=True).methods["router"].n == 78


def test_runs_without_a_common_question_are_refused_even_by_force(folder: Folder) -> None:
    old = folder.run("a", 6)
    folder.questions = [replace(question, question=question.question + " else") for question in folder.questions]
    with pytest.raises(ConfigurationError, match="no question in common"):
        diff_of(old, folder.run("b", 6), force=True)


def test_other_gold_answers_are_refused(folder: Folder) -> None:
    old = folder.run("a", 6)
    folder.questions = [replace(question, answers=(*question.answers, "more")) for question in folder.questions]
    with pytest.raises(ConfigurationError, match="the gold answers of 84 differ"):
        diff_of(old, folder.run("b", 6))


def test_a_dropped_question_is_refused_by_the_method_that_lacks_it(folder: Folder) -> None:
    old = folder.run("a", 6)
    ledger = pq.read_table(old / "artifacts/evaluate/episodes.parquet")
    short = folder.root / "short" / "artifacts" / "evaluate"
    short.mkdir(parents=True)
    pq.write_table(ledger.slice(1), short / "episodes.parquet")
    write_manifest(short, "pointsman/evaluate/1")
    (folder.root / "short" / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    with pytest.raises(ConfigurationError, match="n: new has 83 questions of router, 84 of others"):
        diff_of(old, folder.root / "short")


def test_marks_of_another_scorer_are_refused(folder: Folder, questions: Sequence[Question], make_result: Make) -> None:
    lenient = [replace(make_result(question, "router", em=0.0), em=1.0) for question in questions]
    with pytest.raises(ConfigurationError, match="scorer: 84 marks of new are not those that exact match gives now"):
        diff_of(folder.run("a", 6), folder.write("b", lenient))


@pytest.mark.parametrize(
    ("column", "value", "said"), [("em", float("nan"), "em is nan"), ("cost", -1.0, "cost is -1.0"),
                                  ("prediction", None, "no prediction"), ("question_id", "same", "the same question")]
)  # fmt: skip
def test_a_corrupted_row_is_named(folder: Folder, column: str, value: Any, said: str) -> None:
    path = folder.run("a", 6) / "artifacts" / "evaluate"
    rows = pq.read_table(path / "episodes.parquet")
    values = rows.to_pylist()
    for place in (4, 5):
        values[place][column] = value
    pq.write_table(pa.Table.from_pylist(values, schema=rows.schema), path / "episodes.parquet")
    write_manifest(path, "pointsman/evaluate/1")
    with pytest.raises(IntegrityError, match=rf"row {5 if said.startswith('the') else 4} of the seen pool.*{said}"):
        read_run(folder.root / "a", "a")


def test_a_changed_file_is_not_what_its_manifest_says(folder: Folder) -> None:
    path = folder.run("a", 6)
    with (path / "artifacts/evaluate/episodes.parquet").open("ab") as handle:
        handle.write(b"x")
    with pytest.raises(IntegrityError, match="content changed"):
        read_run(path, "a")


def test_a_folder_without_a_run_says_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no params.yaml there; give a git revision, or a folder"):
        read_run(tmp_path, "a")


def test_hostile_text_adds_nothing_to_the_page_nor_to_markdown(
    folder: Folder, questions: Sequence[Question], make_result: Make
) -> None:
    def poisoned(em: float) -> list[Result]:
        asked = [replace(question, question=HOSTILE + question.question, answers=(HOSTILE,)) for question in questions]
        return [
            replace(make_result(question, "router", em=em, transcript=HOSTILE), prediction=HOSTILE if em else "x")
            for question in asked
        ]

    found = diff_of(folder.write("a", poisoned(1.0)), folder.write("b", poisoned(0.0)))
    tags: list[str] = []

    class Page(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)

    page = render(found)
    Page().feed(page)
    assert "script" not in tags
    assert "\u202e" not in page + markdown(found, 9)
    assert "\x1b" not in markdown(found, 9)
    assert "[x](" not in markdown(found, 9)
    assert "<script>" not in markdown(found, 9).replace("\\<script", "")


def test_the_command_prints_markdown_json_and_a_page(
    folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(folder.run("a", 6)), str(folder.run("b", 9))]
    assert main([*runs, "--flips", "2", "--html", str(tmp_path / "diff.html")]) == 0
    said = capsys.readouterr().out
    assert "answers 50.0% → 75.0%" in said
    assert said.count("### won") == 2
    assert (tmp_path / "diff.html").read_text().count("<details") == 21
    assert main([*runs, "--html", str(tmp_path / "diff.html" / "x")]) == 2
    assert main([*runs, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["methods"]["router"]["won"] == 21


def test_a_refusal_is_exit_code_2_and_a_corrupted_run_1(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(folder.run("a", 6)), str(folder.run("b", 9))]
    assert main([*runs, "--method", "nobody"]) == 2
    assert "it has: fixed:Arlix, router" in capsys.readouterr().err
    Path(runs[1], "artifacts/evaluate/manifest.json").unlink()
    assert main(runs) == 1
