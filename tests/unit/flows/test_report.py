"""Metrics files as a table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.report import compare_methods, markdown, read_metrics, rows
from stages.shared.errors import IntegrityError


def write_evaluation(root: Path) -> None:
    def method(em: float) -> dict:
        return {"average": {"em": em, "em_low": em - 0.1, "em_high": em + 0.1, "f1": em, "cost": 3.21, "calls": 1.5}}

    (root / "metrics").mkdir()
    methods = {"random": method(0.25), "router": method(0.75)}
    (root / "metrics" / "evaluate.json").write_text(json.dumps({"methods": methods}))


def test_methods_come_best_first_with_their_interval(tmp_path: Path) -> None:
    write_evaluation(tmp_path)
    table = rows(read_metrics(tmp_path))
    assert [row.method for row in table] == ["router", "random"]
    assert table[0].cells == ("router", "0.750", "0.650 to 0.850", "0.750", "3.2", "1.50")


def test_the_table_of_changes_begins_with_the_router_whatever_did_better() -> None:
    runs: list[dict[str, float]] = [{"oracle": 1.0, "router": 0.5}, {"oracle": 1.0, "router": 0.25, "knn": 0.75}]
    before, after = ({"methods": {name: {"average": {"em": em}} for name, em in each.items()}} for each in runs)
    found = [(row["method"], row["EM before"], row["EM"], row["change"]) for row in compare_methods(before, after)]
    assert found == [
        ("router", "0.500", "0.250", "-0.250"), ("oracle", "1.000", "1.000", "+0.000"), ("knn", "", "0.750", ""),
    ]  # fmt: skip


def test_a_method_that_failed_stands_last_and_has_no_number() -> None:
    methods = {"router": {"average": {"em": 0.0}}}
    table = rows({"evaluate": {"methods": methods, "failed": {"graphrouter": "too few records"}}})
    assert [(row.method, row.em) for row in table] == [("router", "0.000"), ("graphrouter", "failed")]


def test_nothing_evaluated_is_an_empty_table(tmp_path: Path) -> None:
    assert rows(read_metrics(tmp_path)) == []


def test_a_torn_metrics_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "train.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"train\.json is not JSON"):
        read_metrics(tmp_path)


def test_metrics_of_another_shape_are_refused_with_the_way_out() -> None:
    with pytest.raises(IntegrityError, match="pointsman run --only evaluate --force"):
        rows({"evaluate": {"methods": {"router": {"nq": {}}}}})


def test_markdown_has_a_heading_and_a_line_a_row() -> None:
    assert markdown(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
