"""What a run came to: the metrics files as rows to show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.shared.errors import IntegrityError
from stages.shared.files import read_json

HEADINGS = ("method", "EM", "interval", "F1", "cost", "calls")
LEGEND = (
    "EM: share of questions answered exactly right, the unweighted mean of the test sets; interval: {confidence:.0%} "
    "bootstrap over the questions; cost: millionths of a dollar a question (completion tokens x price); calls: "
    "candidates asked a question."
)
SYNTHETIC = "> **Synthetic**: generated questions, simulated experts; these numbers say nothing about real models."
WAY_OUT = "Nothing is lost: after the cause is gone, run it again, and it goes on from here."
MOST_REASONS = 2
HEADLINE = "headline.json"
"""For `dvc metrics diff`: a few figures of evaluate.json."""


@dataclass(frozen=True)
class Outcome:
    """A stage of a run: why it runs and, once it did, how that ended."""

    stage: str
    reasons: tuple[str, ...]
    result: str = "not run"
    seconds: float = 0.0

    @property
    def why(self) -> str:
        """The first few reasons, in one line."""
        rest = len(self.reasons) - MOST_REASONS
        return "; ".join(self.reasons[:MOST_REASONS]) + (f"; and {rest} more" if rest > 0 else "")


@dataclass(frozen=True)
class Row:
    """A method's average over the test sets, as text."""

    method: str
    em: str
    interval: str
    f1: str
    cost: str
    calls: str

    @property
    def cells(self) -> tuple[str, ...]:
        """In the order of `HEADINGS`."""
        return (self.method, self.em, self.interval, self.f1, self.cost, self.calls)


def read_metrics(root: Path) -> dict[str, Any]:
    """Stage -> its metrics, of the stages that have any. Raises IntegrityError for a file that is not JSON."""
    found = {}
    for path in sorted((root / "metrics").glob("*.json")):
        if path.name == HEADLINE:
            continue
        try:
            found[path.stem] = read_json(path)
        except ValueError as error:
            way_out = f"run: pointsman run --only {path.stem} --force"
            raise IntegrityError(f"{path} is not JSON: {error}; {way_out}") from error
    return found


def rows(metrics: dict[str, Any]) -> list[Row]:
    """The table of methods from metrics/evaluate.json, best exact match first; empty before the first evaluation.

    Raises IntegrityError for a file of another shape.
    """
    try:
        methods = metrics.get("evaluate", {}).get("methods", {})
        averages = {name: sets["average"] for name, sets in methods.items()}
        best = sorted(averages.items(), key=lambda item: item[1]["em"], reverse=True)
        failed = metrics.get("evaluate", {}).get("failed", {})
        return [_row(name, values) for name, values in best] + [Row(name, "failed", "", "", "", "") for name in failed]
    except (AttributeError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"metrics/evaluate.json is not an evaluation ({error!r}); run: pointsman run --only evaluate --force"
        ) from error


def summary(
    outcomes: Sequence[Outcome],
    metrics: dict[str, Any],
    *,
    profile: str,
    revision: str,
    error: str | None = None,
    headline: str = "",
    notes: Sequence[str] = (),
    logs: str = ".pointsman/logs",
) -> str:
    """A run in Markdown: what came of it in the first line, then the failure or the finding, stages and methods.

    `headline` and `notes` say what the stages do not; `logs` is where their whole output is.
    """
    failed = next((outcome.stage for outcome in outcomes if outcome.result == "failed"), None)
    evaluation = metrics.get("evaluate", {})
    fresh = any(outcome.stage == "evaluate" and outcome.result in ("ran", "restored") for outcome in outcomes)
    output = f" Its whole output: `{logs}/{failed}.log`." if failed else ""
    found = () if error else (finding(evaluation) if fresh or not outcomes else "",)
    blocks = [
        f"# {headline or _headline(outcomes, failed)}",
        f"Profile `{profile}`, commit `{revision or 'none'}`.",
        *notes,
        *([f"```\n{error}\n```", WAY_OUT + output] if error else ()),
        *found,
        *([_stages(outcomes)] if outcomes else ()),
        *([] if error else _methods(evaluation, fresh)),
    ]
    return "\n\n".join(block for block in blocks if block)


def compare_methods(before: dict[str, Any], after: dict[str, Any]) -> list[dict[str, str]]:
    """Two evaluations' methods side by side, averaged over the test sets: the router, then the later one's best."""
    earlier = {row.method: row for row in rows({"evaluate": before})}
    found = []
    for row in rows({"evaluate": after}):
        was = earlier.get(row.method)
        change = f"{float(row.em) - float(was.em):+.3f}" if was and {was.em, row.em}.isdisjoint({"failed"}) else ""
        found.append({
            "method": row.method, "EM before": was.em if was else "", "EM": row.em, "change": change,
            "interval": row.interval, "cost before": was.cost if was else "", "cost": row.cost, "calls": row.calls,
        })  # fmt: skip
    return sorted(found, key=lambda row: row["method"] != "router")


def finding(evaluation: dict[str, Any]) -> str:
    """The router in one sentence, with intervals; "" before the first evaluation."""
    router, ours = evaluation.get("router", {}), evaluation.get("methods", {}).get("router", {}).get("average")
    rival = router.get("best_baseline")
    if ours is None or rival is None:
        return ""
    gap = router["versus"][rival]
    lead = f"{100 * gap['difference']:+.1f} points ({100 * gap['low']:+.1f} to {100 * gap['high']:+.1f})"
    doubt = "" if gap["low"] > 0 or gap["high"] < 0 else ": the interval holds 0, so they cannot be told apart"
    return (
        f"The router answers **{ours['em']:.1%}** ({ours['em_low']:.1%} to {ours['em_high']:.1%}) of the questions, "
        f"**{lead}** against `{rival}`, the best baseline{doubt}."
    )


def _headline(outcomes: Sequence[Outcome], failed: str | None) -> str:
    if failed:
        return f"{failed} failed"
    names = ", ".join(outcome.stage for outcome in outcomes)
    return f"Up to date: {names} in {sum(o.seconds for o in outcomes):.0f} s" if names else "Nothing was out of date"


def _stages(outcomes: Sequence[Outcome]) -> str:
    table = [(o.stage, o.result, f"{o.seconds:.0f}" if o.seconds else "", _escaped(o.why)) for o in outcomes]
    return "## Stages\n\n" + markdown(("stage", "result", "seconds", "why it was due"), table)


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_|<>])", r"\\\1", text)


def _methods(evaluation: dict[str, Any], fresh: bool) -> list[str]:
    table = [_emphasised(row) for row in rows({"evaluate": evaluation})]
    if not table:
        return []
    synthetic = [SYNTHETIC] if evaluation.get("router", {}).get("synthetic") else []
    title = "## Methods" if fresh else "## Methods, as evaluated last"
    legend = LEGEND.format(confidence=evaluation.get("confidence", 0.95))
    return [title, *synthetic, markdown(HEADINGS, table), legend, "The whole report: `artifacts/evaluate/report.html`."]


def _emphasised(row: Row) -> tuple[str, ...]:
    return tuple(f"**{cell}**" for cell in row.cells) if row.method == "router" else row.cells


def markdown(headings: Sequence[str], table: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (headings, ["---"] * len(headings), *table)]
    return "\n".join(lines)


def _row(name: str, values: dict[str, Any]) -> Row:
    low, high = values.get("em_low"), values.get("em_high")
    return Row(
        method=name,
        em=_number(values["em"], 3),
        interval="" if low is None or high is None else f"{low:.3f} to {high:.3f}",
        f1=_number(values.get("f1"), 3),
        cost=_number(values.get("cost"), 1),
        calls=_number(values.get("calls"), 2),
    )


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
