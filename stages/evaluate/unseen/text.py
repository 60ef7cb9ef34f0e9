"""A trial as Markdown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from stages.evaluate.diff.text import interval, plain, table
from stages.evaluate.methods import describe
from stages.evaluate.unseen.trial import CaseScores, Score, Trial

HEADINGS = ("method", "EM", "interval", "regret, points", "against training's candidates", "calls to new", "cost")
SYNTHETIC = "> **Synthetic**: generated questions, simulated experts; these numbers say nothing about real models."


def markdown(trial: Trial) -> str:
    """Every case as a table; single candidates are left to --json."""
    blocks = ["# Candidates that come and go", *([SYNTHETIC] if trial.synthetic else [])]
    for case in trial.cases:
        blocks += _case(case)
    blocks.append(
        f"EM: unweighted mean of the test sets, {trial.n} questions; {trial.confidence:.0%} bootstrap intervals. "
        "Regret: the oracle over the same candidates minus the method, paired by question. Nothing was trained again. "
        f"few-shot: {trial.shots} single-hop questions of the profile; descriptor: price, latency and summary alone."
    )
    return "\n\n".join(blocks) + "\n"


def _case(case: CaseScores) -> Iterator[str]:
    yield f"## {plain(case.name[0].upper() + case.name[1:])}"
    shown = {name: score for name, score in case.methods.items() if not name.startswith("fixed:")}
    order = sorted(shown, key=lambda name: (-shown[name].em, shown[name].cost))
    yield table(HEADINGS, [_row(name, shown[name], case) for name in order])
    reasons: dict[str, list[str]] = defaultdict(list)
    for method, reason in case.cannot.items():
        reasons[reason].append(describe(method).label)
    yield from (f"{', '.join(names)}: {plain(reason)}." for reason, names in reasons.items())
    yield from (f"{describe(method).label} failed: {plain(reason)}" for method, reason in case.failed.items())


def _row(name: str, score: Score, case: CaseScores) -> tuple[str, ...]:
    regret, change = score.regret, score.change
    return (
        describe(name).label, f"{score.em:.3f}", f"{score.em_low:.3f} to {score.em_high:.3f}",
        interval(regret.difference, regret.low, regret.high),
        "" if case.kind == "base" else interval(change.difference, change.low, change.high),
        "" if score.share_new is None else f"{score.share_new:.0%}", f"{score.cost:.2f}",
    )  # fmt: skip
