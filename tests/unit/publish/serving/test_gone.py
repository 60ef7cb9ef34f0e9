"""A client that goes away, and a server that may not wait."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import openai
import pytest

QUESTION = "wait who is the mayor of zumako"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_cancels_its_episode_and_pays_for_its_call(
    shop: Any, serve: Any, candidates: Any, eventually: Any, stream: bool
) -> None:
    shop.promote(shop.publish(0.5))
    with serve(concurrency=1, budget_usd=1.0) as server:
        body = {"model": "production", "stream": stream, "messages": [{"role": "user", "content": QUESTION}]}
        with pytest.raises(httpx.ReadTimeout):
            server.http.post("/v1/chat/completions", json=body, timeout=0.5)
        assert eventually(lambda: server.metric("pointsman_requests_total", outcome="gone") == 1)
        assert server.metric("pointsman_in_flight") == 0
        assert server.ask("who is the mayor of zumako").choices
        most = server.follower.current.most_a_call
    spent = json.loads((shop.workspace.state / "serving" / "production.json").read_text())["spent_usd"]
    assert spent == pytest.approx(most + candidates.cost_usd)


def test_who_leaves_the_queue_is_never_asked_for(shop: Any, serve: Any, candidates: Any, eventually: Any) -> None:
    shop.promote(shop.publish(0.5))
    with serve(concurrency=1) as server:
        first = server.ask(QUESTION, stream=True)
        next(iter(first))
        with pytest.raises(openai.APITimeoutError):
            server.openai().with_options(timeout=0.3).chat.completions.create(
                model="production", messages=[{"role": "user", "content": "who never waits"}]
            )
        assert eventually(lambda: server.metric("pointsman_waiting") == 0)
        candidates.gate.set()
        assert list(first)
    assert not any("never" in asked for asked in candidates.asked)


def test_a_server_told_to_stop_cuts_what_runs_longer_than_its_grace(shop: Any, serve: Any) -> None:
    shop.promote(shop.publish(0.5))
    with serve(grace_s=1.0) as server:
        stream = server.ask(QUESTION, stream=True)
        next(iter(stream))
        began = time.monotonic()
    assert time.monotonic() - began < 5
