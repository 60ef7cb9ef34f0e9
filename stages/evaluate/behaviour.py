"""How the router behaves: format, calls, where it routes, and how far it stays behind the oracle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from stages.evaluate.attempt import Result

SINGLE_HOP = frozenset({"nq", "triviaqa", "popqa"})
"""The benchmarks whose questions need one fact; the others need several."""


def format_rate(results: Sequence[Result]) -> float:
    """Share of well-formed episodes."""
    return float(np.mean([not result.faults for result in results]))


def mean_calls(results: Sequence[Result], single_hop: bool) -> float | None:
    """Calls a question on the single-hop sets, or on the multi-hop sets; None where there is no such set."""
    calls = [result.calls for result in results if (result.question.dataset in SINGLE_HOP) == single_hop]
    return float(np.mean(calls)) if calls else None


def shares(results: Sequence[Result], candidates: Sequence[str]) -> dict[str, float]:
    """Share of each candidate among all calls; 0 for each where there was no call."""
    counts = Counter(name for result in results for name in result.called)
    total = max(1, counts.total())
    return {name: counts[name] / total for name in candidates}


def entropy(share: dict[str, float]) -> float:
    """Of the routing shares, bits: 0 when one candidate gets every call, log2(candidates) when all get the same."""
    positive = np.array([value for value in share.values() if value > 0])
    return float(-(positive * np.log2(positive)).sum()) + 0.0


def shares_by_topic(results: Sequence[Result], candidates: Sequence[str]) -> dict[str, dict[str, float]]:
    """Routing shares for each topic of single-hop questions, and for `several hops`."""
    groups = grouped(results, lambda item: item.question.topic or "several hops")
    return {topic: shares(group, candidates) for topic, group in sorted(groups, key=lambda item: _last(item[0]))}


def shares_by_set(results: Sequence[Result], candidates: Sequence[str]) -> dict[str, dict[str, float]]:
    """Routing shares for each test set."""
    return {name: shares(group, candidates) for name, group in grouped(results, lambda item: item.question.dataset)}


def calls_by_hops(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Hops of a question -> number of calls -> share of the questions of so many hops; both as words, for JSON."""
    found = {}
    for hops, group in grouped(results, lambda item: str(item.question.hops)):
        counts = Counter(result.calls for result in group)
        found[hops] = {str(calls): counts[calls] / len(group) for calls in sorted(counts)}
    return dict(sorted(found.items()))


def grouped(results: Sequence[Result], key: Callable[[Result], str]) -> Iterable[tuple[str, list[Result]]]:
    """Results by a key, in the order in which the keys are met first."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    return groups.items()


def _last(topic: str) -> tuple[bool, str]:
    return topic == "several hops", topic
