"""The sandbox's optimum: what perfect routing reaches, computed from the parameters."""

from __future__ import annotations

import pytest

from stages.shared.errors import DataError
from stages.shared.params import Expert, WorldParams
from stages.shared.questions import Question, SubQuestion
from stages.shared.sandbox.lexicon import DOMAINS
from stages.shared.sandbox.optimum import Market, optimum
from stages.shared.sandbox.world import Ask, World, split_ask

WORLD = World.generate(WorldParams())


def expert(name: str, price: float = 1.0, **skill: float) -> Expert:
    return Expert(name=name, skill={**dict.fromkeys(DOMAINS, 0.0), **skill}, price=price, hop_decay=0.5)


def single(number: int = 0) -> Question:
    name = WORLD.entities("stone", "test")[number].name
    return Question(f"what is the quarry of {name} ?", ("x",), "nq", "test", "stone")


def double() -> Question:
    name = WORLD.entities("stone", "test")[0].name
    ask = Ask("chain", ("stone-quarry", "town-mayor"), (name,))
    first, second = split_ask(WORLD, ask)
    town = second.entities[0]
    parts = (
        SubQuestion(f"what is the quarry of {name} ?", WORLD.answer(first), "stone"),
        SubQuestion(f"what is the mayor of {town} ?", WORLD.answer(second), "town"),
    )
    return Question(f"what is the mayor of the quarry of {name} ?", WORLD.answer(ask), "hotpotqa", "test", "", 2, parts)


def test_expected_values_follow_from_the_parameters() -> None:
    experts = [expert("A", stone=0.9, town=0.2), expert("B", stone=0.3, town=0.8)]

    found = optimum(WORLD, experts, [single(), double()])

    assert found.n == 2
    assert found.fixed["A"].em == pytest.approx((0.9 + 0.9 * 0.2 * 0.5) / 2)
    assert found.fixed_decomposed["B"].em == pytest.approx((0.3 + 0.3 * 0.8) / 2)
    assert found.random.em == pytest.approx((found.fixed["A"].em + found.fixed["B"].em) / 2)
    assert found.oracle.em == pytest.approx((0.9 + 0.9 * 0.8) / 2)
    assert found.best_fixed == "A"


def test_realised_values_are_those_of_the_answers_given() -> None:
    experts = [expert("A", stone=1.0), expert("B", town=1.0)]

    found = optimum(WORLD, experts, [single(), double()])

    assert found.oracle.em_realised == 1.0
    assert found.fixed["A"].em_realised == 0.5
    assert found.fixed["B"].em_realised == 0.0


def test_the_cheapest_correct_plan_is_direct_only_where_that_is_right_and_cheaper() -> None:
    allround = Expert(name="C", skill=dict.fromkeys(DOMAINS, 1.0), price=9.0, hop_decay=1.0)
    specialists = [expert("A", stone=1.0), expert("B", town=1.0)]

    def plan(*experts: Expert) -> list[str]:
        return [call.expert for call in Market(WORLD, experts).cheapest_correct(double()).calls]

    assert plan(*specialists) == ["A", "B"]
    assert plan(*specialists, allround) == ["A", "B"]
    assert plan(allround) == ["C"]
    assert Market(WORLD, specialists[:1]).cheapest_correct(double()) is None


def test_a_plan_costs_what_its_calls_cost() -> None:
    plan = Market(WORLD, [expert("A", 3.0, stone=1.0)]).cheapest_correct(single())

    assert plan.cost == 3.0 * 2


def test_no_questions_and_foreign_questions_are_refused() -> None:
    with pytest.raises(DataError, match="no questions"):
        optimum(WORLD, [expert("A")], [])
    with pytest.raises(DataError, match="'who was Ada \\?' is not a question of the sandbox world"):
        optimum(WORLD, [expert("A")], [Question("who was Ada ?", ("x",), "nq", "test")])
