"""How the router behaves: format, calls, where it routes, and how far it stays behind the oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from stages.evaluate.sheet import Sheet

SINGLE_HOP = frozenset({"nq", "triviaqa", "popqa"})
"""The benchmarks whose questions need one fact; the others need several."""
SEVERAL = "several hops"
"""The topic of a question that has none."""


def format_rate(sheet: Sheet) -> float:
    """Share of well-formed episodes."""
    return float(np.mean(~sheet.faulty))


def mean_calls(sheet: Sheet, single_hop: bool) -> float | None:
    """Calls a question on the single-hop sets, or on the multi-hop sets; None where there is no such set."""
    calls = [column for name, column in sheet.values("calls").items() if (name in SINGLE_HOP) == single_hop]
    return float(np.mean(np.concatenate(calls))) if calls else None


def shares(calls: Mapping[str, int], candidates: Sequence[str]) -> dict[str, float]:
    """Share of each candidate among all calls; 0 for each where there was no call."""
    total = max(1, sum(calls.values()))
    return {name: calls.get(name, 0) / total for name in candidates}


def entropy(share: Mapping[str, float]) -> float:
    """Of the routing shares, bits: 0 when one candidate gets every call, log2(candidates) when all get the same."""
    positive = np.array([value for value in share.values() if value > 0])
    return float(-(positive * np.log2(positive)).sum()) + 0.0


def shares_by_topic(sheet: Sheet, candidates: Sequence[str]) -> dict[str, dict[str, float]]:
    """Routing shares for each topic of single-hop questions, and for `several hops`."""
    found = {topic or SEVERAL: shares(sheet.called(rows), candidates) for topic, rows in sheet.groups("topic")}
    return {topic: found[topic] for topic in sorted(found, key=lambda topic: (topic == SEVERAL, topic))}


def shares_by_set(sheet: Sheet, candidates: Sequence[str]) -> dict[str, dict[str, float]]:
    """Routing shares for each test set."""
    return {name: shares(sheet.called(rows), candidates) for name, rows in sheet.groups("dataset")}


def calls_by_hops(sheet: Sheet) -> dict[str, dict[str, float]]:
    """Hops of a question -> number of calls -> share of the questions of so many hops; both as words, for JSON."""
    made, found = sheet.numbers("calls"), {}
    for hops, rows in sheet.groups("hops"):
        numbers, counts = np.unique(made[rows], return_counts=True)
        found[str(hops)] = {
            f"{number:.0f}": int(count) / int(rows.sum()) for number, count in zip(numbers, counts, strict=True)
        }
    return dict(sorted(found.items()))
