"""The model card: what a release is and how well it does, made from its own metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.shared.errors import DataError
from stages.shared.files import read_text

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TEMPLATE = Path(__file__).with_name("card.md.j2")
ROUTER, AVERAGE = "router", "average"


@dataclass(frozen=True)
class Evidence:
    """What a card is made from."""

    profile: str
    synthetic: bool
    policy: str
    parameters: int
    prompt: str
    metrics: Mapping[str, Mapping[str, Any]]
    """The metrics files, by stage."""


@dataclass(frozen=True)
class Row:
    """One line of a results table: shares of 1, cost in millionths of a dollar a question."""

    name: str
    em: float
    em_low: float
    em_high: float
    f1: float
    cost: float
    calls: float
    n: int


def render_card(evidence: Evidence) -> str:
    """The README.md of a release, with Hugging Face metadata. Raises DataError when the metrics lack the router's."""
    from huggingface_hub import ModelCard, ModelCardData

    methods = evidence.metrics["evaluate"].get("methods", {})
    if AVERAGE not in methods.get(ROUTER, {}):
        raise DataError("metrics/evaluate.json has no average of the method router; run the evaluate stage again")
    sets = [row(name, values) for name, values in methods[ROUTER].items()]
    title = f"pointsman-{evidence.profile}"
    data = ModelCardData(
        model_name=title,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["pointsman", "router", *(["synthetic"] if evidence.synthetic else [])],
        eval_results=[result for each in sets for result in _results(each, evidence)],
    )
    rivals = [row(name, values[AVERAGE]) for name, values in methods.items() if AVERAGE in values]
    card = ModelCard.from_template(
        data,
        template_str=read_text(TEMPLATE),
        title=title,
        evidence=evidence,
        sets=sets,
        methods=sorted(rivals, key=lambda each: (-each.em, each.cost, each.name)),
    )
    return str(card).rstrip() + "\n"


def row(name: str, values: Mapping[str, Any]) -> Row:
    """One entry of metrics/evaluate.json. Raises DataError naming a missing number."""
    try:
        numbers = {key: float(values[key]) for key in ("em", "em_low", "em_high", "f1", "cost", "calls")}
        return Row(name=name, n=int(values["n"]), **numbers)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"metrics/evaluate.json: {name}: {error!r}, not the numbers of a method; run the evaluate stage again"
        ) from error


def _results(each: Row, evidence: Evidence) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    kind = "synthetic" if evidence.synthetic else "benchmark"
    return [
        EvalResult(
            task_type="question-answering", dataset_type=f"{kind}/{each.name}", dataset_name=f"{each.name} ({kind})",
            metric_type=metric, metric_name=name, metric_value=round(value, 4),
        )
        for metric, name, value in (("exact_match", "Exact match", each.em), ("f1", "F1", each.f1))
    ]  # fmt: skip
