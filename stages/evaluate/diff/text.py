"""A diff as Markdown, for a terminal, a review or a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stages.evaluate.diff.compare import Diff, Flip, Gap
from stages.evaluate.report.transcript import visible

LONGEST = 60
"""Characters of a changed value."""
GAP_HEADINGS = (
    "n", "EM before", "after", "change, points", "won", "lost", "p (Holm)", "cost before", "after", "change",
)  # fmt: skip
CANDIDATE_HEADINGS = ("candidate", "share before", "after", "alone, EM before", "after", "change, points")


def markdown(diff: Diff, shown_flips: int) -> str:
    """The whole diff; of the questions that flipped, so many."""
    blocks = [
        f"# {plain(diff.before)} → {plain(diff.after)}",
        *(_forced(diff)),
        *([f"> {plain(diff.repriced)}"] if diff.repriced else []),
        headline(diff),
        *_changes(diff),
        "## Methods\n\n" + table(("method", *GAP_HEADINGS), gap_rows(diff.methods)),
        *_missing(diff),
        f"## `{diff.method}` by test set\n\n" + table(("set", *GAP_HEADINGS), gap_rows(diff.sets)),
        f"## `{diff.method}` by candidate\n\n" + table(CANDIDATE_HEADINGS, _candidates(diff)),
        *_flips(diff, shown_flips),
        f"EM: unweighted mean of the test sets. Changes with {diff.confidence:.0%} intervals (bootstrap, paired by "
        "question). won, lost: questions that only the later, only the earlier run answers right; p: McNemar's exact "
        "test, corrected by Holm for the rows of the table. Cost: millionths of a dollar a question.",
    ]
    return "\n\n".join(blocks) + "\n"


def headline(diff: Diff) -> str:
    """What became of the method, in a sentence that claims no more than the interval shows."""
    gap = diff.methods[diff.method]
    change = f"{gap.before:.1%} → {gap.after:.1%}, {interval(gap.difference, gap.low, gap.high)} points"
    sure = "" if gap.low > 0 or gap.high < 0 else "; the interval holds 0, so no change is shown"
    cost = f"{gap.cost_before:.2f} → {gap.cost_after:.2f}"
    return f"`{diff.method}` answers {change}{sure}; cost {cost}; {len(diff.flips)} of {gap.n} questions flipped."


def gap_rows(gaps: Mapping[str, Gap]) -> list[tuple[str, ...]]:
    """A row for each, the greatest change first."""
    order = sorted(gaps, key=lambda name: -abs(gaps[name].difference))
    return [(plain(name), *gap_cells(gaps[name])) for name in order]


def gap_cells(gap: Gap) -> tuple[str, ...]:
    """In the order of `GAP_HEADINGS`."""
    return (
        str(gap.n), f"{gap.before:.3f}", f"{gap.after:.3f}", interval(gap.difference, gap.low, gap.high),
        str(gap.won), str(gap.lost), f"{gap.p_holm:.2g}", f"{gap.cost_before:.2f}", f"{gap.cost_after:.2f}",
        f"{gap.cost_difference:+.2f} ({gap.cost_low:+.2f} to {gap.cost_high:+.2f})",
    )  # fmt: skip


def interval(value: float, low: float, high: float) -> str:
    """A difference of shares in points: `+2.1 (-0.4 to +4.6)`."""
    return f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [" | ".join(cells) for cells in (headings, ["---"] * len(headings), *rows)]
    return "\n".join(f"| {line} |" for line in lines)


def plain(text: Any) -> str:
    """Foreign text on one line, in which Markdown and terminals find nothing to obey."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", visible(" ".join(str(text).split())))


def apart(before: Any, after: Any) -> tuple[str, str]:
    """Two values of params.yaml, short, in words that differ: what long lists and texts share is left out as `…`."""
    sides = str(before), str(after)
    if max(map(len, sides)) <= LONGEST:
        return plain(before), plain(after)
    if isinstance(before, list) and isinstance(after, list) and set(map(str, before)) != set(map(str, after)):
        return _only(before, after), _only(after, before)
    same = next((place for place, (one, other) in enumerate(zip(*sides, strict=False)) if one != other), 0)
    start = max(0, same - LONGEST // 4) if same > LONGEST // 2 else 0
    return shortened("…" * bool(start) + sides[0][start:]), shortened("…" * bool(start) + sides[1][start:])


def _only(items: Sequence[Any], others: Sequence[Any]) -> str:
    shared = set(map(str, items)) & set(map(str, others))
    own = [str(item) for item in items if str(item) not in shared]
    return shortened(", ".join([*(["…"] if shared else []), *own]) or "(none)", 2 * LONGEST)


def shortened(text: str, longest: int = LONGEST) -> str:
    """At most about so many characters."""
    return plain(text if len(text) <= longest else text[: longest - 3] + "...")


def _forced(diff: Diff) -> list[str]:
    if not diff.forced:
        return []
    listed = "\n".join(f"> - {plain(reason)}" for reason in diff.forced)
    return [f"> **Forced.** These runs should not be compared; only questions that both have are:\n{listed}"]


def _changes(diff: Diff) -> list[str]:
    if not diff.changes:
        return ["Parameters, pool, prices and data: no difference."]
    rows = [(change.part, plain(change.key), *apart(change.before, change.after)) for change in diff.changes]
    return ["## What was set otherwise\n\n" + table(("part", "key", "before", "after"), rows)]


def _missing(diff: Diff) -> list[str]:
    sides = ((diff.before, diff.only_before), (diff.after, diff.only_after))
    return [f"Only in {plain(name)}: {', '.join(map(plain, methods))}." for name, methods in sides if methods]


def _candidates(diff: Diff) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, item in diff.candidates.items():
        alone = item.alone
        cells = (f"{alone.before:.3f}", f"{alone.after:.3f}", gap_cells(alone)[3]) if alone else ("", "", "")
        rows.append((plain(name), f"{item.share_before:.1%}", f"{item.share_after:.1%}", *cells))
    return rows


def _flips(diff: Diff, shown: int) -> list[str]:
    if not diff.flips or not shown:
        return []
    few = pick(diff.flips, shown)
    title = f"## Questions that flipped ({len(few)} of {len(diff.flips)})"
    return [title, *(_flip(flip) for flip in few)]


def pick(flips: Sequence[Flip], count: int) -> list[Flip]:
    """So many, lost ones and won ones in turn while both last: what broke is read first."""
    lost, won = ([flip for flip in flips if flip.won == side] for side in (False, True))
    turns = max(len(lost), len(won))
    return [flip for turn in range(turns) for side in (lost, won) for flip in side[turn : turn + 1]][:count]


def _flip(flip: Flip) -> str:
    head = f"### {'won' if flip.won else 'lost'}: {plain(flip.before.question)}"
    about = f"{plain(flip.before.dataset)}; expected {plain(' / '.join(flip.before.answers))}"
    rows = [
        ("answer", plain(flip.before.prediction) or "(none)", plain(flip.after.prediction) or "(none)"),
        ("called", *(plain(" → ".join(side.called)) or "(nobody)" for side in (flip.before, flip.after))),
        ("cost", f"{flip.before.cost:.2f}", f"{flip.after.cost:.2f}"),
        ("episode", plain(flip.before.transcript), plain(flip.after.transcript)),
    ]
    return f"{head}\n\n{about}\n\n" + table(("", "before", "after"), rows)
