"""What answering costs is money too: it is in the ledger, the day's budget holds, and others answer for who is down."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from rich.console import Console

from stages.publish.ask import Screen
from stages.publish.calling import books, calling
from stages.publish.serving.metrics import Metrics
from stages.publish.serving.unfolding import reply_step
from stages.shared.episode.roster import make_roster
from stages.shared.errors import BudgetError
from stages.shared.params import Params, parse_params
from stages.shared.pool.candidate import Candidate, Descriptor, Outcome, Reply
from stages.shared.pool.ledger import FOLDER
from stages.shared.pool.serving import api_candidates
from stages.shared.workspace import Workspace
from tests.faults.weather import serving

ROSTER = make_roster([Descriptor("Arlix", 1.0, 0.1)])


@pytest.fixture
def provider() -> Iterator[str]:
    """Bomon answers, Arlix has no credit left; Cyqun is nobody's business."""

    async def complete(request: web.Request) -> web.StreamResponse:
        if (await request.json())["model"] == "Arlix":
            return web.json_response({"error": {"message": "no credit"}}, status=402)
        usage = {"prompt_tokens": 20, "completion_tokens": 5}
        return web.json_response({"choices": [{"message": {"content": "belane"}}], "usage": usage})

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"data": []})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    app.router.add_get("/v1/models", models)
    with serving(app) as base_url:
        yield base_url


def release(base_url: str, **limits: Any) -> tuple[Params, tuple[Candidate, ...]]:
    known = {"base_url": base_url, "price": 2.0, "prompt_price": 0.5}
    params = parse_params(
        {
            "profile_name": "test", "world": {}, "profile": {"questions": 8}, "episode": {},
            "ingest": {"source": {"kind": "sandbox"},
                       "sizes": {"train": 1, "profiling": 8, "validation": 1, "test": 1}},
            "pool": {"kind": "api", "limits": limits,
                     "candidates": [{"name": name, "model": name, **known} for name in ("Arlix", "Bomon", "Cyqun")]},
            "train": {"policy": {"kind": "tiny"}, "ppo": {"steps": 1}},
        },
        "test",
    )  # fmt: skip
    assert params.pool.kind == "api"
    return params, api_candidates(params.pool)


def rows(workspace: Workspace) -> list[dict[str, Any]]:
    paths = sorted(workspace.runs(FOLDER).glob("serve-*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


async def test_a_call_of_a_served_release_is_written_down_and_asked_anew_each_time(
    provider: str, tmp_path: Path
) -> None:
    params, candidates = release(provider, fallback={"graph": {"Arlix": ["Bomon"]}})
    workspace = Workspace(tmp_path)
    for _ in range(2):
        async with calling(ROSTER, params, candidates, books(params, workspace, "serve")) as pool:
            assert sorted(pool.candidates) == ["Arlix", "Bomon"]
            for _ in range(2):
                reply = await pool.ask("Arlix", "q")
                assert (reply.text, reply.cost_total(pool.candidates["Arlix"])) == ("belane", 5 * 2.0 + 20 * 0.5)
    written = rows(workspace)
    assert [row["candidate"] for row in written if "begin" in row] == ["Arlix", "Bomon"] * 4
    assert sum(row["cost"] for row in written if "end" in row) == 4 * 20 * 10**6
    assert [(row["rerouted"], row["to"], row["why"]) for row in written if "rerouted" in row] == [
        ("Arlix", "Bomon", "out-of-credit")
    ] * 4


async def test_the_budget_of_the_day_holds_and_that_of_a_run_does_not(provider: str, tmp_path: Path) -> None:
    for scope, holds in (("day", True), ("stage", False)):
        params, candidates = release(provider, budget={scope: 1e-9})
        place = books(params, Workspace(tmp_path / scope), "ask")
        async with calling(ROSTER, params, candidates, place) as pool:
            if holds:
                with pytest.raises(BudgetError, match=r"budget\.day"):
                    await pool.ask("Arlix", "q")
            else:
                assert (await pool.ask("Arlix", "q")).outcome.is_failure


def test_a_reroute_is_counted_told_and_billed_to_who_answered() -> None:
    asked, other = (
        Candidate(name, "m", "http://127.0.0.1:1/v1", price, 0.0) for name, price in (("A", 1.0), ("B", 4.0))
    )
    failed = Reply("", Outcome.MALFORMED, 0, 5)
    reply = Reply("belane", Outcome.ANSWERED, 0, 5, instead=other, lost=((asked, failed),))
    metrics, out = Metrics(), io.StringIO()
    metrics.called(asked, reply)
    Screen(Console(file=out, width=200)).replied(asked, reply)
    said = metrics.text().decode()
    assert 'pointsman_reroutes_total{answered="B",asked="A"} 1.0' in said
    assert 'pointsman_calls_total{candidate="A",outcome="malformed"} 1.0' in said
    assert metrics.registry.get_sample_value("pointsman_dollars_total", {"candidate": "B"}) == pytest.approx(20e-6)
    assert "B in place of A, $0.000025" in out.getvalue()
    detail = reply_step(asked, reply).detail
    assert (detail["answered_by"], detail["cost_usd"]) == ("B", pytest.approx(25e-6))


def test_a_turn_that_cannot_be_understood_is_shown_by_its_beginning() -> None:
    out = io.StringIO()
    screen = Screen(Console(file=out, width=400))
    for text in ("<think> a </think> <search> Arlix", "<think> only this </think>", "no" * 300):
        screen.wrote(text)
    shown = [line for line in out.getvalue().splitlines() if line.startswith("?")]
    assert [line.rpartition(": ")[2] for line in shown[:2]] == ["(search) Arlix", "? neither a call nor an answer"]
    assert shown[2].endswith("nono …")
    assert len(shown[2]) < 250
