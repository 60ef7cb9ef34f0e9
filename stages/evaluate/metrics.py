"""metrics/evaluate.json: every method on every set, with intervals, and how the router behaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType

import numpy as np

from stages.evaluate import behaviour
from stages.evaluate.attempt import PoolName
from stages.evaluate.calibration import Calibration
from stages.evaluate.frontier import Point
from stages.evaluate.reading import Reading
from stages.evaluate.sheet import Measured, Sheet
from stages.evaluate.statistics import Flips, Interval, Resamples, Values, flips, holm
from stages.evaluate.tradeoff import Scale, Taken, Tradeoff, taken, tradeoff

AVERAGE = "average"
ROUTER = "router"
BEFORE_PPO = "warm-start"
RENAMED, BEFORE_PPO_RENAMED = "renamed", "warm-start-renamed"
"""Both with every candidate under a name that no training question showed."""
FIXED = "fixed:"
FIELDS = ("em", "f1", "cost", "cost_total", "own_cost", "own_tokens", "own_read", "calls")
"""What is averaged of a result."""


@dataclass(frozen=True)
class Cell:
    """One method on one set. Costs are millionths of a dollar a question, rates are between 0 and 1."""

    em: float
    em_low: float
    em_high: float
    f1: float
    f1_low: float
    f1_high: float
    cost: float
    """Completion tokens x price of every call (the paper's cost)."""
    cost_low: float
    cost_high: float
    cost_total: float
    """Prompt tokens of the candidates and the policy's own tokens included."""
    own_cost: float
    """Of `cost_total`, that of the policy's own tokens, by `evaluate.router_price` and `router_prompt_price`."""
    own_tokens: float
    """Tokens that the policy wrote a question."""
    own_read: float
    """Tokens that the policy read a question."""
    calls: float
    n: int
    """Questions, every one of the test set."""


Methods = dict[str, dict[str, Cell]]


@dataclass(frozen=True)
class ReplyCell:
    """The second mode of one method on one set: the reply that it takes, marked as it stands.

    Where it takes none, as Prompt LLM where no candidate is named, its own answer stands in its place.
    """

    holds: float
    """Share of replies that hold a gold answer."""
    holds_low: float
    holds_high: float
    em: float
    em_low: float
    em_high: float
    f1: float
    n: int


Replies = dict[str, dict[str, ReplyCell]]


@dataclass(frozen=True)
class Difference:
    """Average EM of the router minus that of another method, paired by question."""

    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison(Difference):
    """The router with another method, question by question."""

    won: int
    """Questions that only the router answered right."""
    lost: int
    """Questions that only the other one answered right."""
    p: float
    """McNemar's exact test of `won` and `lost`."""
    p_holm: float
    """The same, corrected by Holm for all methods that the router is compared with."""


@dataclass(frozen=True)
class Unseen:
    """The router and the baselines with the unseen candidates added, without retraining."""

    methods: Methods
    share: dict[str, float]
    versus_seen: Difference
    """Router with the unseen candidates minus router without."""
    failed: dict[str, str]
    """Method -> why it has no result."""


@dataclass(frozen=True)
class Behaviour:
    """The router beyond its EM."""

    synthetic: bool
    format_rate: float
    calls_single_hop: float | None
    calls_multi_hop: float | None
    share: dict[str, float]
    share_by_topic: dict[str, dict[str, float]]
    share_by_set: dict[str, dict[str, float]]
    calls_by_hops: dict[str, dict[str, float]]
    """Hops -> number of calls -> share of the questions of so many hops."""
    entropy: float
    """Of `share`, bits."""
    best_baseline: str
    """The method with the highest average EM apart from the router, its controls and the oracle."""
    versus: dict[str, Comparison]
    regret_em: Difference
    """Oracle minus router."""
    regret_cost: float
    """Router minus oracle, millionths of a dollar a question."""
    reading: Reading | None
    """None where the questions have no topics."""
    renamed: Difference | None
    """What PPO added where every candidate has a name that training never showed; None with too few such names."""
    unseen: Unseen | None


@dataclass(frozen=True)
class Evaluation:
    """What metrics/evaluate.json holds."""

    methods: Methods
    failed: dict[str, str]
    """Method -> why it has no result with the seen pool."""
    tradeoffs: dict[str, Tradeoff]
    zero_router: float
    """AIQ of random mixtures of the fixed candidates: what a router has to beat."""
    highest_cost: float
    """AIQ and hypervolume run over costs from 0 to here: that of the dearest fixed candidate."""
    replies: Replies
    """The second mode, seen pool: methods that take a reply, by set; `methods` is the paper's, where the base policy
    answers from it."""
    calibration: dict[str, Calibration]
    """Method, or `prompt` for the table that the router reads -> what its stated chances are worth, seen pool."""
    router: Behaviour
    seed: int
    confidence: float
    resamples: int

    def to_json(self) -> dict[str, object]:
        """Plain values for `write_json`."""
        return asdict(self)


@dataclass(frozen=True)
class Tallied:
    """What is kept of one method with the seen pool once its sheet is let go."""

    cells: dict[str, Cell]
    replies: dict[str, ReplyCell] | None
    """None where it takes no replies."""
    took: Taken
    gap: Difference
    """The router minus this method."""
    flips: Flips


def method_cells(sheet: Sheet, resamples: Resamples) -> dict[str, Cell]:
    """A method's cell for each set and for `average`, the unweighted mean of the sets."""
    columns = {field: sheet.values(field) for field in FIELDS}
    cells = {
        name: _cell({field: resamples.mean(name, values[name]) for field, values in columns.items()}, n)
        for name, n in sheet.sizes.items()
    }
    whole = {field: resamples.average(values) for field, values in columns.items()}
    return cells | {AVERAGE: _cell(whole, len(sheet))}


def reply_cells(sheet: Sheet, resamples: Resamples) -> dict[str, ReplyCell] | None:
    """The second mode, of a method that takes single replies; None of any other."""
    marks = {field: sheet.numbers(f"reply_{field}") for field in ("holds", "em", "f1")}
    none = np.isnan(marks["em"])
    if none.all():
        return None
    own = {"holds": sheet.numbers("em"), "em": sheet.numbers("em"), "f1": sheet.numbers("f1")}
    columns = {field: sheet.split(np.where(none, own[field], marks[field])) for field in marks}
    found = {
        name: _reply_cell({field: resamples.mean(name, values[name]) for field, values in columns.items()}, n)
        for name, n in sheet.sizes.items()
    }
    whole = {field: resamples.average(values) for field, values in columns.items()}
    return found | {AVERAGE: _reply_cell(whole, len(sheet))}


def _reply_cell(fields: Mapping[str, Interval], n: int) -> ReplyCell:
    holds, em = fields["holds"], fields["em"]
    return ReplyCell(holds.value, holds.low, holds.high, em.value, em.low, em.high, fields["f1"].value, n)


def evaluate(
    seen: Measured, every: Measured | None, candidates: Mapping[PoolName, Sequence[str]], resamples: Resamples, *,
    synthetic: bool, seed: int, count: int, reading: Reading | None = None,
    failed: Mapping[PoolName, Mapping[str, str]] = MappingProxyType({}),
    calibrations: Mapping[str, Calibration] = MappingProxyType({}),
) -> Evaluation:  # fmt: skip
    """All metrics. `every` holds what was played with the unseen candidates added, None where there are none.

    `failed`: pool -> method -> why it has no result; such a method appears nowhere else. Methods are read one by one.
    """
    tallied = _tally(seen, resamples)
    methods = {name: found.cells for name, found in tallied.items()}
    scale = _scale(methods)
    router = _behaviour(
        seen, every, candidates, resamples, tallied, synthetic=synthetic, reading=reading, failed=failed.get("all", {})
    )
    return Evaluation(
        methods=methods, failed=dict(failed.get("seen", {})),
        tradeoffs={name: tradeoff(found.took, point(found.cells), scale) for name, found in tallied.items()},
        zero_router=scale.zero_router, highest_cost=scale.highest_cost,
        replies={name: found.replies for name, found in tallied.items() if found.replies is not None},
        calibration=dict(calibrations), router=router,
        seed=seed, confidence=resamples.confidence, resamples=count,
    )  # fmt: skip


def _tally(seen: Measured, resamples: Resamples) -> dict[str, Tallied]:
    ours, oracle = seen.values(ROUTER, "em"), seen.sheet("oracle")

    def one(sheet: Sheet) -> Tallied:
        """Of one method."""
        gap = resamples.difference(ours, theirs := sheet.values("em"))
        return Tallied(
            method_cells(sheet, resamples), reply_cells(sheet, resamples), taken(sheet, oracle), _difference(gap),
            flips(ours, theirs),
        )  # fmt: skip

    return {method: one(seen.sheet(method)) for method in seen.methods}


def _behaviour(
    seen: Measured, every: Measured | None, candidates: Mapping[PoolName, Sequence[str]], resamples: Resamples,
    tallied: Mapping[str, Tallied], *, synthetic: bool, reading: Reading | None, failed: Mapping[str, str],
) -> Behaviour:  # fmt: skip
    methods = {name: found.cells for name, found in tallied.items()}
    sheet, names = seen.sheet(ROUTER), candidates["seen"]
    share, ours = behaviour.shares(sheet.called(), names), sheet.values("em")
    return Behaviour(
        synthetic=synthetic,
        format_rate=behaviour.format_rate(sheet),
        calls_single_hop=behaviour.mean_calls(sheet, single_hop=True),
        calls_multi_hop=behaviour.mean_calls(sheet, single_hop=False),
        share=share,
        share_by_topic=behaviour.shares_by_topic(sheet, names),
        share_by_set=behaviour.shares_by_set(sheet, names),
        calls_by_hops=behaviour.calls_by_hops(sheet),
        entropy=behaviour.entropy(share),
        best_baseline=best_baseline(methods),
        versus=_versus(tallied),
        regret_em=_difference(resamples.difference(seen.values("oracle", "em"), ours)),
        regret_cost=methods[ROUTER][AVERAGE].cost - methods["oracle"][AVERAGE].cost,
        reading=reading,
        renamed=_renamed(seen, resamples),
        unseen=None if every is None else _unseen(every, ours, candidates["all"], resamples, failed),
    )


def point(cells: Mapping[str, Cell]) -> Point:
    """(cost, EM) of a method, averaged over the sets."""
    return cells[AVERAGE].cost, cells[AVERAGE].em


def _scale(methods: Methods) -> Scale:
    fixed = {name.removeprefix(FIXED): point(cells) for name, cells in methods.items() if name.startswith(FIXED)}
    return Scale(max(cost for cost, _ in fixed.values()), fixed, point(methods["oracle"]))


def best_baseline(methods: Methods) -> str:
    """The strongest method that is neither the router, nor one of its controls, nor the oracle."""
    rivals = [name for name in methods if not is_control(name)]
    return max(rivals, key=lambda name: (methods[name][AVERAGE].em, -methods[name][AVERAGE].cost))


def is_control(method: str) -> bool:
    """Whether a method is the router, a variant of it, or the bound: nothing that a user would deploy instead."""
    own = (ROUTER, "oracle", BEFORE_PPO, "one-call", RENAMED, BEFORE_PPO_RENAMED)
    return method in own or method.startswith("forced:")


def _renamed(seen: Measured, resamples: Resamples) -> Difference | None:
    if RENAMED not in seen.methods:
        return None
    after, before = (seen.values(method, "em") for method in (RENAMED, BEFORE_PPO_RENAMED))
    return _difference(resamples.difference(after, before))


def _unseen(
    every: Measured, seen_em: Values, candidates: Sequence[str], resamples: Resamples, failed: Mapping[str, str]
) -> Unseen:
    router = every.sheet(ROUTER)
    return Unseen(
        methods={method: method_cells(every.sheet(method), resamples) for method in every.methods},
        share=behaviour.shares(router.called(), candidates),
        versus_seen=_difference(resamples.difference(router.values("em"), seen_em)),
        failed=dict(failed),
    )


def _versus(tallied: Mapping[str, Tallied]) -> dict[str, Comparison]:
    others = {name: found for name, found in tallied.items() if name != ROUTER}
    corrected = holm([found.flips.p for found in others.values()])
    return {
        name: Comparison(
            found.gap.difference,
            found.gap.low,
            found.gap.high,
            found.flips.won,
            found.flips.lost,
            found.flips.p,
            p_holm,
        )
        for (name, found), p_holm in zip(others.items(), corrected, strict=True)
    }


def _difference(interval: Interval) -> Difference:
    return Difference(interval.value, interval.low, interval.high)


def _cell(fields: Mapping[str, Interval], n: int) -> Cell:
    em, f1, cost = fields["em"], fields["f1"], fields["cost"]
    return Cell(
        em=em.value, em_low=em.low, em_high=em.high, f1=f1.value, f1_low=f1.low, f1_high=f1.high,
        cost=cost.value, cost_low=cost.low, cost_high=cost.high, cost_total=fields["cost_total"].value,
        own_cost=fields["own_cost"].value, own_tokens=fields["own_tokens"].value, own_read=fields["own_read"].value,
        calls=fields["calls"].value, n=n,
    )  # fmt: skip
