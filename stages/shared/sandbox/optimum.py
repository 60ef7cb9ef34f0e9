"""The best that routing can do in the sandbox, computed from the parameters (no call is made).

Two kinds of value stand side by side:

expected
    From the experts' parameters: the probability that an answer is right before its one draw (`experts.probability`).
    What a policy can reach that knows every skill exactly, but not which answers came out right.
realised
    From the answers that the experts do give (`experts.is_correct`), as anything measured over HTTP sees them.

and three ways of asking:

direct
    The whole question to one expert.
decomposed
    Each single-hop part to one expert, later parts about the true intermediate value. It is right when every part is:
    for a chain that is exact, for a comparison it leaves out two wrong numbers that happen to order rightly.
oracle
    The better of the two for each question, with the best expert for every call. Realised, it is the cheapest plan
    whose every answer is right ("cheapest-correct"); where no plan is right it asks nobody, and costs nothing.

Costs are in millionths of a dollar: completion tokens x USD per 1M (paper, section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from stages.shared.errors import DataError
from stages.shared.params import Expert
from stages.shared.questions import Question
from stages.shared.sandbox.experts import Simulated, probability, respond
from stages.shared.sandbox.language import understand
from stages.shared.sandbox.world import Ask, World, split_ask


@dataclass(frozen=True)
class Value:
    """Mean over questions."""

    em: float
    """Expected exact match."""
    em_realised: float
    """Exact match of the answers as they come out."""
    cost: float
    """Of the realised answers; of the oracle, over the questions that it answers."""


@dataclass(frozen=True)
class Optimum:
    """What can be had on a set of questions, and what can be had without looking at them."""

    n: int
    oracle: Value
    fixed: dict[str, Value]
    """Every expert asked everything, directly."""
    fixed_decomposed: dict[str, Value]
    """Every expert asked everything, part by part."""
    random: Value
    """A uniformly drawn expert, directly: the mean over experts."""

    @property
    def best_fixed(self) -> str:
        """The expert of the highest expected direct exact match; the first of equals."""
        return max(self.fixed, key=lambda name: self.fixed[name].em)


@dataclass(frozen=True)
class PlannedCall:
    """One call of a plan."""

    expert: str
    query: str
    reply: str
    cost: float


@dataclass(frozen=True)
class Plan:
    """The cheapest plan whose every answer is right: one direct call, or one a part."""

    calls: tuple[PlannedCall, ...]

    @property
    def cost(self) -> float:
        """Millionths of a dollar."""
        return sum(call.cost for call in self.calls)


class Market:
    """The experts of one world, each answer worked out once."""

    def __init__(self, world: World, experts: Sequence[Expert]) -> None:
        self.world = world
        self.experts = tuple(experts)
        self._known: dict[tuple[str, str], Simulated] = {}

    def answer(self, expert: Expert, query: str) -> Simulated:
        """What the expert answers."""
        key = (expert.name, query)
        if key not in self._known:
            self._known[key] = respond(self.world, expert, query)
        return self._known[key]

    def best_probability(self, ask: Ask) -> float:
        """Expected exact match of the best routing of one ask, direct or decomposed, by the parameters alone."""
        direct = max(probability(expert, ask) for expert in self.experts)
        parts = split_ask(self.world, ask)
        return max(direct, math.prod(max(probability(expert, part) for expert in self.experts) for part in parts))

    def cheapest_correct(self, question: Question) -> Plan | None:
        """The cheapest plan whose every answer is right, or None where there is none."""
        direct = self._cheapest_call(question.question)
        parts = [self._cheapest_call(part.question) for part in question.parts]
        found = [call for call in parts if call is not None]
        plans = [Plan((direct,))] if direct is not None else []
        if found and len(found) == len(parts):
            plans.append(Plan(tuple(found)))
        return min(plans, key=lambda plan: plan.cost, default=None)

    def _cheapest_call(self, query: str) -> PlannedCall | None:
        answers = [(expert, self.answer(expert, query)) for expert in self.experts]
        right = [(expert, item) for expert, item in answers if item.correct]
        calls = [PlannedCall(expert.name, query, item.text, item.cost(expert)) for expert, item in right]
        return min(calls, key=lambda call: call.cost, default=None)


def optimum(world: World, experts: Sequence[Expert], questions: Sequence[Question]) -> Optimum:
    """The optimum over questions of this world. Raises DataError for none, or one that is not of this world."""
    if not questions:
        raise DataError("no questions to compute the optimum of; check ingest.sizes")
    market = Market(world, experts)
    asks = [(question, meaning(world, question)) for question in questions]
    fixed = {expert.name: _mean([_direct(market, expert, item, ask) for item, ask in asks]) for expert in experts}
    split = {expert.name: _mean([_decomposed(market, expert, item, ask) for item, ask in asks]) for expert in experts}
    return Optimum(len(asks), _oracle(market, asks), fixed, split, _mean(list(fixed.values())))


def meaning(world: World, question: Question) -> Ask:
    """What a question of this world asks. Raises DataError for any other."""
    ask = understand(world, question.question)
    if ask is None:
        raise DataError(
            f"{question.dataset}: {question.question!r} is not a question of the sandbox world "
            f"(seed {world.params.seed}); run the ingest stage again"
        )
    return ask


def _oracle(market: Market, asks: Sequence[tuple[Question, Ask]]) -> Value:
    expected = fmean(market.best_probability(ask) for _, ask in asks)
    plans = [plan for item, _ in asks if (plan := market.cheapest_correct(item)) is not None]
    return Value(expected, len(plans) / len(asks), fmean(plan.cost for plan in plans) if plans else 0.0)


def _direct(market: Market, expert: Expert, question: Question, ask: Ask) -> Value:
    answer = market.answer(expert, question.question)
    return Value(probability(expert, ask), float(answer.correct), answer.cost(expert))


def _decomposed(market: Market, expert: Expert, question: Question, ask: Ask) -> Value:
    queries = [part.question for part in question.parts] or [question.question]
    answers = [market.answer(expert, query) for query in queries]
    expected = math.prod(probability(expert, part) for part in split_ask(market.world, ask))
    return Value(expected, float(all(item.correct for item in answers)), sum(item.cost(expert) for item in answers))


def _mean(values: Sequence[Value]) -> Value:
    return Value(fmean(v.em for v in values), fmean(v.em_realised for v in values), fmean(v.cost for v in values))
