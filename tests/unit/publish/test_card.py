"""The card says what the metrics say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from stages.publish.card import Evidence, render_card
from stages.shared.errors import DataError

CELL = {"em": 0.5, "em_low": 0.4, "em_high": 0.6, "f1": 0.55, "cost": 12.5, "calls": 1.25, "n": 600}
METHODS = {
    "router": {"nq": {**CELL, "em": 0.625, "n": 100}, "average": CELL},
    "random": {"average": {**CELL, "em": 0.125}},
    "oracle": {"average": {**CELL, "em": 0.875}},
}
EVIDENCE = Evidence(
    profile="sandbox", synthetic=True, policy="tiny", parameters=1_234_567, prompt="models\nquestion : {question}",
    metrics={"evaluate": {"methods": METHODS}},
)  # fmt: skip


def test_the_sandboxs_numbers_are_labelled_synthetic() -> None:
    text = render_card(EVIDENCE)
    assert "**Synthetic.**" in text
    assert "synthetic" in ModelCard(text).data.tags


def test_numbers_of_real_models_are_not() -> None:
    assert "ynthetic" not in render_card(replace(EVIDENCE, synthetic=False))


def test_the_tables_hold_the_metrics_best_method_first() -> None:
    text = render_card(EVIDENCE)
    assert "| nq | 0.625 [0.400, 0.600] | 0.550 | 12.5 | 1.25 | 100 |" in text
    assert text.index("| oracle |") < text.index("| router |") < text.index("| random |")
    assert "# pointsman-sandbox\n" in text
    assert "1,234,567 parameters" in text
    assert "question : {question}" in text


def test_the_metadata_is_read_by_the_hubs_own_parser() -> None:
    results = ModelCard(render_card(EVIDENCE)).data.eval_results
    values = {(result.dataset_type, result.metric_type): result.metric_value for result in results}
    assert values["synthetic/nq", "exact_match"] == 0.625
    assert values["synthetic/average", "f1"] == 0.55


def test_the_same_evidence_gives_the_same_card() -> None:
    assert render_card(EVIDENCE) == render_card(EVIDENCE)


@pytest.mark.parametrize("value", ["high", None])
def test_what_is_no_number_is_named(value: object) -> None:
    methods = {"router": {"average": {**CELL, "em": value}}}
    with pytest.raises(DataError, match=r"average: .*not the numbers of a method"):
        render_card(replace(EVIDENCE, metrics={**EVIDENCE.metrics, "evaluate": {"methods": methods}}))


def test_a_missing_number_is_named() -> None:
    methods = {"router": {"average": {key: value for key, value in CELL.items() if key != "em_low"}}}
    with pytest.raises(DataError, match="em_low"):
        render_card(replace(EVIDENCE, metrics={"evaluate": {"methods": methods}}))
