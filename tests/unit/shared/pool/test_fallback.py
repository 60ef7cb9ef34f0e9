"""Others answer in place of a candidate that is down, where the parameters let them, and everybody can see it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from stages.shared.errors import ConfigurationError, TransientError
from stages.shared.params import ApiPool, Budget, Fallback, PoolLimits, WorldParams
from stages.shared.pool import breaker
from stages.shared.pool.candidate import Candidate, Outcome
from stages.shared.pool.client import HttpPool
from stages.shared.pool.fallback import open_pool, within_reach
from stages.shared.pool.ledger import Ledger, Place, open_ledger
from stages.shared.pool.serving import serve
from tests.unit.shared.pool.provider import Behaviour, Provider, limits, said, slow, status

pytestmark = pytest.mark.usefixtures("hasty")
PRICES = {"A": 1.0, "B": 3.0, "C": 2.0, "D": 0.5}
GRAPH = {"A": ("B", "C"), "C": ("D",)}


def by_model(**behaviours: Behaviour) -> Behaviour:
    """Each model as told; the others answer with their name."""

    async def behave(request: web.Request) -> web.StreamResponse:
        model = (await request.json())["model"]
        return await behaviours.get(model, said(model))(request)

    return behave


def candidates(provider: Provider) -> list[Candidate]:
    return [replace(provider.candidate(name), model=name, price=price) for name, price in PRICES.items()]


def pool(provider: Provider, ledger: Ledger | None = None, **changed: object) -> HttpPool:
    fallback = Fallback(graph=GRAPH)
    return open_pool(candidates(provider), limits(fallback=fallback, **changed), ledger, "serve")


def asked(provider: Provider) -> list[str]:
    return [request["model"] for request in provider.requests]


def written(folder: Path) -> list[dict[str, object]]:
    (path,) = folder.glob("*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_the_cheapest_who_may_answers_at_its_own_price(provider: Provider, tmp_path: Path) -> None:
    provider.script = [by_model(A=status(503))]
    with open_ledger(Place(tmp_path, "serve", "s"), Budget()) as ledger:
        async with pool(provider, ledger) as opened:
            reply = await opened.ask("A", "q")
    assert (reply.text, reply.outcome, asked(provider)) == ("C", Outcome.ANSWERED, ["A"] * 3 + ["C"])
    assert reply.instead is not None
    assert reply.instead.name == "C"
    assert reply.cost(opened.candidates["A"]) == 5 * PRICES["C"]
    assert reply.cost_total(opened.candidates["A"]) == 5 * PRICES["C"] + 20 * 0.5


async def test_a_reroute_is_in_the_ledger_and_in_the_log(
    provider: Provider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    provider.script = [by_model(A=status(503))]
    with open_ledger(Place(tmp_path, "serve", "s"), Budget()) as ledger:
        async with pool(provider, ledger) as opened:
            reply = await opened.ask("A", "q")
        assert "1 calls answered by another candidate" in ledger.told()
        assert ledger.spent == round(reply.cost_total(opened.candidates["A"]) * 10**6)
    rows = written(tmp_path)
    (row,) = [row for row in rows if "rerouted" in row]
    assert (row["rerouted"], row["to"], row["why"]) == ("A", "C", "unreachable")
    assert [row["candidate"] for row in rows if "begin" in row] == ["A"] * 3 + ["C"]
    assert "A: unreachable; C answered in its place" in caplog.text


async def test_the_way_leads_around_all_that_are_down(provider: Provider) -> None:
    provider.script = [by_model(A=status(503), C=status(402))]
    async with pool(provider, attempts=1) as opened:
        reply = await opened.ask("A", "q")
    assert (reply.text, asked(provider)) == ("D", ["A", "C", "D"])


async def test_where_everybody_fails_the_call_fails_as_it_would_alone_and_says_who_was_asked(
    provider: Provider, tmp_path: Path
) -> None:
    provider.script = [by_model(A=status(402), B=status(503), C=status(503), D=status(503))]
    with open_ledger(Place(tmp_path, "serve", "s"), Budget()) as ledger:
        async with pool(provider, ledger, attempts=1) as opened:
            reply = await opened.ask("A", "q")
        assert ledger.reroutes == 0
    assert (reply.outcome, reply.text, reply.instead) == (Outcome.OUT_OF_CREDIT, "", None)
    assert all(f"{name}: unreachable" in reply.detail for name in "BCD")
    assert sorted(asked(provider)) == list("ABCD")


async def test_what_failed_calls_were_charged_is_counted_at_their_own_prices(
    provider: Provider, tmp_path: Path
) -> None:
    provider.script = [by_model(A=said(["no", "text"]))]
    with open_ledger(Place(tmp_path, "serve", "s"), Budget()) as ledger:
        async with pool(provider, ledger, attempts=2) as opened:
            reply = await opened.ask("A", "q")
        assert reply.cost(opened.candidates["A"]) == 2 * 5 * PRICES["A"] + 5 * PRICES["C"]
        assert ledger.spent == round(reply.cost_total(opened.candidates["A"]) * 10**6)


async def test_nobody_waits_for_a_candidate_that_is_down_and_it_gets_its_calls_back(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "FIRST_REST_S", 0.2)
    provider.script = [by_model(A=status(503))]
    async with pool(provider, attempts=1) as opened:
        for number in range(breaker.FAILURES):
            await opened.ask("A", f"q{number}")
        assert opened.is_down("A")
        provider.requests.clear()
        began = time.perf_counter()
        replies = [await opened.ask("A", f"r{number}") for number in range(5)]
        assert time.perf_counter() - began < 0.2
        assert asked(provider) == ["C"] * 5
        assert {reply.text for reply in replies} == {"C"}
        provider.script = [by_model()]
        await asyncio.sleep(0.25)
        assert [(await opened.ask("A", f"s{number}")).text for number in range(2)] == ["A", "A"]


async def test_who_is_down_is_asked_last(provider: Provider) -> None:
    provider.script = [by_model(A=status(503), C=status(503), D=status(503))]
    async with pool(provider, attempts=1) as opened:
        for number in range(breaker.FAILURES):
            await opened.ask("A", f"q{number}")
        assert opened.is_down("C")
        provider.requests.clear()
        assert (await opened.ask("A", "r")).text == "B"
    assert asked(provider) == ["B"]


async def test_the_deadline_of_a_call_holds_for_all_who_are_asked(provider: Provider) -> None:
    provider.script = [by_model(A=status(503), C=slow(5), D=slow(5), B=slow(5))]
    async with pool(provider, attempts=1, deadline_s=0.2) as opened:
        began = time.perf_counter()
        reply = await opened.ask("A", "q")
    assert reply.outcome is Outcome.UNREACHABLE
    assert "C: timed-out" in reply.detail
    assert time.perf_counter() - began < 0.6


async def test_who_may_be_replaced_may_be_down_from_the_start(provider: Provider, unused_tcp_port: int) -> None:
    gone = Candidate("A", "A", f"http://127.0.0.1:{unused_tcp_port}/v1", 1.0, 0.0)
    here = replace(provider.candidate("B"), model="B")
    replaceable = limits(fallback=Fallback(graph={"A": ("B",)}), attempts=1)
    async with open_pool([gone, here], replaceable, None, "serve") as opened:
        await opened.check()
        assert (await opened.ask("A", "q")).outcome is Outcome.ANSWERED
    async with open_pool([gone, here], limits(attempts=1), None, "serve") as plain:
        with pytest.raises(TransientError, match=r"A: .* does not answer"):
            await plain.check()


async def test_training_reroutes_only_where_it_is_told_to_and_only_to_its_own_candidates(provider: Provider) -> None:
    provider.script = [by_model(A=status(503))]
    own = [one for one in candidates(provider) if one.name in "AB"]
    for use, text in ((("serve",), ""), (("serve", "train"), "B")):
        allowed = limits(fallback=Fallback(graph=GRAPH, use=use), attempts=1)
        async with open_pool(own, allowed, None, "train") as opened:
            assert (await opened.ask("A", "q")).text == text


def test_who_may_come_to_answer_is_known_beforehand() -> None:
    fallback = Fallback(graph=GRAPH)
    assert within_reach({"A"}, fallback, "serve") == set("ABCD")
    assert within_reach({"B"}, fallback, "serve") == {"B"}
    assert within_reach({"A"}, fallback, "train") == {"A"}


@pytest.mark.parametrize(
    ("graph", "message"), [({"A": ("X",)}, "names X"), ({"X": ("A",)}, "names X"), ({"A": ("A",)}, "in its own place")]
)
def test_a_graph_that_leads_nowhere_is_refused(graph: dict[str, tuple[str, ...]], message: str, tmp_path: Path) -> None:
    known = {"name": "A", "model": "m", "base_url": "http://127.0.0.1:1/v1", "price": 1.0, "prompt_price": 1.0}
    made = ApiPool(candidates=(known,), limits=PoolLimits(fallback=Fallback(graph=graph)))
    with pytest.raises(ConfigurationError, match=message), serve(made, WorldParams(), tmp_path):
        pass
