"""Two runs, question by question: what got better or worse, how sure that is, and which questions flipped."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stages.evaluate.diff.changes import Change, changes
from stages.evaluate.diff.run import Episode, Episodes, Run
from stages.evaluate.statistics import Resamples, Values, flips, holm
from stages.shared.errors import ConfigurationError
from stages.shared.scoring import exact_match

ROUTER, FIXED = "router", "fixed:"
Key = tuple[str, str]


@dataclass(frozen=True)
class Gap:
    """One method or set in both runs, on the same questions. Costs in millionths of a dollar a question."""

    n: int
    before: float
    """EM, of several sets their unweighted mean."""
    after: float
    difference: float
    low: float
    high: float
    won: int
    """Questions that only the later run answers right."""
    lost: int
    p: float
    """McNemar's exact test."""
    p_holm: float
    """Corrected by Holm over the rows of the same table."""
    cost_before: float
    cost_after: float
    cost_difference: float
    cost_low: float
    cost_high: float


@dataclass(frozen=True)
class CandidateChange:
    """A candidate's share of the router's calls, and what it is worth by itself."""

    share_before: float
    share_after: float
    alone: Gap | None
    """Every question sent to it; None where one run did not try that."""


@dataclass(frozen=True)
class Flip:
    """A question that one run answers right and the other does not."""

    won: bool
    """Whether the later run is the right one."""
    before: Episode
    after: Episode


@dataclass(frozen=True)
class Diff:
    """Everything that `pointsman diff` says."""

    before: str
    after: str
    method: str
    confidence: float
    forced: tuple[str, ...]
    """Why the two should not be compared; empty for a comparison that holds."""
    changes: tuple[Change, ...]
    methods: Mapping[str, Gap]
    sets: Mapping[str, Gap]
    """Of `method`, by test set."""
    candidates: Mapping[str, CandidateChange]
    only_before: tuple[str, ...]
    """Methods that the later run lacks."""
    only_after: tuple[str, ...]
    flips: tuple[Flip, ...]
    repriced: str = ""
    """At whose prices both runs stand, and what is left out for it; "" for their own."""


@dataclass(frozen=True)
class Sureness:
    """How intervals are made."""

    confidence: float = 0.95
    resamples: int = 2000
    seed: int = 7


def compare(before: Run, after: Run, method: str = ROUTER, force: bool = False, how: Sureness | None = None) -> Diff:
    """Compare two runs.

    Raises ConfigurationError when a run lacks the method, and when questions, n, scorer or prices differ, unless
    `force`: then the questions that both runs have are compared, and the reasons stand in `forced`.
    """
    for run in (before, after):
        if method not in run.methods:
            near = difflib.get_close_matches(method, run.methods, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigurationError(
                f"{run.name} has no method {method!r}; {hint}it has: {', '.join(sorted(run.methods))}"
            )
    found = changes(before, after)
    reasons = obstacles(before, after, found)
    if reasons and not force:
        listed = "".join(f"\n  {reason}" for reason in reasons)
        raise ConfigurationError(
            f"{before.name} and {after.name} cannot be compared:{listed}\n"
            "evaluate both alike, or compare what they share with --force"
        )
    common = [name for name in before.methods if name in after.methods]
    keys = _common(before, after, common)
    if not keys:
        raise ConfigurationError(f"{before.name} and {after.name} have no question in common: nothing to compare")
    how = how or Sureness()
    pairs = {name: _pair(before.methods[name], after.methods[name], keys) for name in common}
    methods = _gaps(pairs, how)
    ours = pairs[method]
    return Diff(
        before=before.name, after=after.name, method=method, confidence=how.confidence, forced=tuple(reasons),
        changes=tuple(found), methods=methods, sets=_gaps(_by_set(ours), how),
        candidates=_candidates(ours, methods),
        only_before=tuple(name for name in before.methods if name not in after.methods),
        only_after=tuple(name for name in after.methods if name not in before.methods),
        flips=tuple(Flip(new.em > old.em, old, new) for old, new in ours if (old.em == 1.0) != (new.em == 1.0)),
    )  # fmt: skip


def obstacles(before: Run, after: Run, found: Sequence[Change]) -> list[str]:
    """Why two runs cannot be compared, one line a reason."""
    reasons = []
    for run in (before, after):
        sizes = {name: len(episodes) for name, episodes in run.methods.items()}
        if len(set(sizes.values())) > 1:
            short = min(sizes, key=lambda name: sizes[name])
            reasons.append(f"n: {run.name} has {sizes[short]} questions of {short}, {max(sizes.values())} of others")
    old, new = (_questions(run) for run in (before, after))
    if old != new:
        reasons.append(
            f"questions: {len(old - new)} of {len(old)} are only in {before.name}, {len(new - old)} of {len(new)} only "
            f"in {after.name}"
        )
    answers = [key for key in old & new if _answers(before, key) != _answers(after, key)]
    if answers:
        reasons.append(f"questions: the gold answers of {len(answers)} differ")
    for run in (before, after):
        wrong = _marked_otherwise(run)
        if wrong:
            reasons.append(f"scorer: {wrong} marks of {run.name} are not those that exact match gives now")
    prices = [change for change in found if change.part == "price"]
    reasons += [f"price: {change.key} is {change.before} and {change.after}" for change in prices]
    return reasons


def _questions(run: Run) -> set[Key]:
    return {key for episodes in run.methods.values() for key in episodes}


def _answers(run: Run, key: Key) -> set[tuple[str, ...]]:
    return {episodes[key].answers for episodes in run.methods.values() if key in episodes}


def _marked_otherwise(run: Run) -> int:
    episodes = (episode for group in run.methods.values() for episode in group.values())
    return sum(exact_match(episode.prediction, episode.answers) != episode.em for episode in episodes)


def _common(before: Run, after: Run, methods: Iterable[str]) -> list[Key]:
    """Questions that every method of both runs has: all of them, in runs that may be compared."""
    shared = [set(run.methods[name]) for run in (before, after) for name in methods]
    return sorted(set.intersection(*shared))


Pairs = list[tuple[Episode, Episode]]


def _pair(before: Episodes, after: Episodes, keys: Sequence[Key]) -> Pairs:
    return [(before[key], after[key]) for key in keys]


def _by_set(pairs: Pairs) -> dict[str, Pairs]:
    found: dict[str, Pairs] = {}
    for old, new in pairs:
        found.setdefault(old.dataset, []).append((old, new))
    return found


def _gaps(rows: Mapping[str, Pairs], how: Sureness) -> dict[str, Gap]:
    found = {name: _gap(pairs, how) for name, pairs in rows.items()}
    corrected = holm([gap.p for gap in found.values()])
    return {name: replace(gap, p_holm=p) for (name, gap), p in zip(found.items(), corrected, strict=True)}


def _gap(pairs: Pairs, how: Sureness) -> Gap:
    groups = _by_set(pairs)
    draws = Resamples({name: len(group) for name, group in groups.items()}, how.resamples, how.confidence, how.seed)
    (old, new), (old_cost, new_cost) = (_values(groups, field) for field in ("em", "cost"))
    em, cost, counted = draws.difference(new, old), draws.difference(new_cost, old_cost), flips(new, old)
    return Gap(
        n=len(pairs), before=_average(old), after=_average(new), difference=em.value, low=em.low, high=em.high,
        won=counted.won, lost=counted.lost, p=counted.p, p_holm=counted.p, cost_before=_average(old_cost),
        cost_after=_average(new_cost), cost_difference=cost.value, cost_low=cost.low, cost_high=cost.high,
    )  # fmt: skip


def _values(groups: Mapping[str, Pairs], field: str) -> tuple[Values, Values]:
    old, new = (
        {name: np.array([getattr(pair[side], field) for pair in group]) for name, group in groups.items()}
        for side in (0, 1)
    )
    return old, new


def _average(values: Values) -> float:
    return float(np.mean([column.mean() for column in values.values()]))


def _candidates(pairs: Pairs, methods: Mapping[str, Gap]) -> dict[str, CandidateChange]:
    old, new = (Counter(name for pair in pairs for name in pair[side].called) for side in (0, 1))
    names = sorted({*old, *new} | {name.removeprefix(FIXED) for name in methods if name.startswith(FIXED)})
    return {
        name: CandidateChange(
            old[name] / max(1, old.total()), new[name] / max(1, new.total()), methods.get(f"{FIXED}{name}")
        )
        for name in names
    }
