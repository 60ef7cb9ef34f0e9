"""The server follows its channel, drops no request, and serves nothing that it cannot vouch for."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from typing import Any

import pytest

from stages.publish.channels import pointer_key
from stages.publish.fetch import read_manifest
from stages.publish.keys import blob_key
from stages.publish.release import assemble, publish
from stages.publish.serving import follower as following
from stages.publish.signature import make_keys
from stages.publish.signer import find_signer
from stages.shared.errors import ConfigurationError, IntegrityError, TransientError
from stages.shared.params import PublishParams
from stages.shared.params.publish import SigstoreParams
from tests.unit.publish.sigstore_double import run_sigstore

QUESTION = "who is the mayor of zumako"


def test_no_request_is_dropped_while_releases_are_promoted_and_taken_back(
    shop: Any, serve: Any, candidates: Any, eventually: Any
) -> None:
    first, second = shop.publish(0.5), shop.publish(0.6)
    shop.promote(first)
    answers: Counter[tuple[str, str]] = Counter()
    over = threading.Event()

    def _client(server: Any) -> None:
        while not over.is_set():
            done = server.ask(QUESTION)
            answers[done.pointsman["release"], done.choices[0].message.content] += 1

    with serve() as server:
        clients = [threading.Thread(target=_client, args=(server,)) for _ in range(6)]
        for each in clients:
            each.start()
        try:
            for move, expected in ((lambda: shop.promote(second), second), (shop.roll_back, first)):
                move()
                assert eventually(lambda expected=expected: server.follower.current.digest == expected)
                time.sleep(0.2)
        finally:
            over.set()
            for each in clients:
                each.join()
        assert server.metric("pointsman_swaps_total", outcome="done") == 3
        bad = [name for name in ("error", "unavailable", "infrastructure") if server.metric(
            "pointsman_requests_total", outcome=name)]  # fmt: skip
    assert set(answers) == {(first, candidates.reply), (second, candidates.reply)}
    assert not bad


def test_a_question_in_flight_ends_on_the_release_that_took_it_up(
    shop: Any, serve: Any, candidates: Any, eventually: Any
) -> None:
    first, second = shop.publish(0.5), shop.publish(0.6)
    shop.promote(first)
    with serve() as server:
        stream = server.ask(f"wait {QUESTION}", stream=True)
        chunks = [next(iter(stream))]
        shop.promote(second)
        assert eventually(lambda: server.follower.current.digest == second)
        assert server.ask(QUESTION).pointsman["release"] == second
        assert len(server.follower._retiring) == 1
        candidates.gate.set()
        chunks += list(stream)
        assert chunks[-1].pointsman["release"] == first
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == candidates.reply
        assert eventually(lambda: not server.follower._retiring)


def test_to_promote_what_is_served_again_loads_nothing(shop: Any, serve: Any, eventually: Any) -> None:
    first, second = shop.publish(0.5), shop.publish(0.6)
    for digest in (first, second, first):
        shop.promote(digest)
    with serve(poll_s=0.2) as server:
        loaded = server.follower.current
        shop.promote(second)
        shop.promote(first)
        assert eventually(lambda: server.http.get("/health").json()["sequence"] == 5)
        assert server.follower.current.digest == first
        assert server.follower.current is loaded or server.metric("pointsman_swaps_total", outcome="done") == 3


@pytest.mark.parametrize("damage", ["unsigned", "signed by another", "damaged", "no candidate answers"])
def test_what_cannot_be_vouched_for_or_loaded_leaves_the_old_release_serving(
    shop: Any, serve: Any, candidates: Any, eventually: Any, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    first = shop.publish(0.5)
    shop.promote(first)
    if damage == "signed by another":
        make_keys(shop.workspace.root / "other.pem")
        shop.key = shop.workspace.root / "other.pem"
    if damage == "no candidate answers":
        moved = [each.model_copy(update={"base_url": "http://127.0.0.1:9/v1"}) for each in shop.params.pool.candidates]
        pool = shop.params.pool.model_copy(update={"candidates": tuple(moved)})
        shop.params = shop.params.model_copy(update={"pool": pool})
    with serve() as server, caplog.at_level(logging.ERROR):
        bad = shop.publish(0.6, signed=damage != "unsigned")
        if damage == "damaged":
            entry = read_manifest(shop.store, bad).files["policy/model.safetensors"]
            (shop.workspace.root / "store" / blob_key(entry.sha256)).write_bytes(b"x" * entry.bytes)
        shop.promote(bad, override="a test")
        assert eventually(lambda: server.metric("pointsman_swaps_total", outcome="refused") >= 1)
        assert server.ask(QUESTION).pointsman["release"] == first
        assert server.http.get("/health").json()["release"] == first
        assert f"release {first[:16]} stays" in caplog.text
        shop.roll_back()
        assert eventually(lambda: server.http.get("/health").json()["sequence"] == 3)


def test_a_channel_that_went_back_is_not_followed(shop: Any, serve: Any, eventually: Any) -> None:
    first, second = shop.publish(0.5), shop.publish(0.6)
    shop.promote(first)
    pointer = shop.workspace.root / "store" / pointer_key("production")
    older = pointer.read_bytes()
    shop.promote(second)
    with serve() as server:
        pointer.write_bytes(older)
        assert eventually(lambda: server.metric("pointsman_swaps_total", outcome="refused") >= 1)
        assert server.ask(QUESTION).pointsman["release"] == second
    with pytest.raises(IntegrityError, match="behind Pointsman's back"), serve():
        pass


def test_a_server_without_a_trusted_release_does_not_start(shop: Any, serve: Any) -> None:
    with pytest.raises(ConfigurationError, match="no channel 'production'"), serve():
        pass
    shop.promote(shop.publish(0.5, signed=False), override="a test")
    with pytest.raises(IntegrityError, match="not signed as required"), serve():
        pass
    with pytest.raises(IntegrityError, match="not signed as required"), serve(allow_unsigned=True):
        pass
    shop.trust()
    with pytest.raises(ConfigurationError, match="--allow-unsigned"), serve():
        pass
    with serve(allow_unsigned=True) as server:
        assert server.ask(QUESTION).choices


def test_a_channel_that_trusts_an_identity_serves_what_that_has_signed_alone(
    shop: Any, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.promote(shop.publish(0.5))
    root = shop.workspace.root
    with run_sigstore() as sigstore:
        (root / "sigstore.json").write_text(json.dumps(sigstore.trust_config()))
        shop.trust({"identity": "ci@example.org", "issuer": f"{sigstore.url}/ci", "trust": "sigstore.json"})
        with pytest.raises(IntegrityError, match="not signed as required"), serve():
            pass
        monkeypatch.setenv("POINTSMAN_IDENTITY_TOKEN", sigstore.token("ci@example.org"))
        signer = find_signer(PublishParams(sigstore=SigstoreParams(trust="sigstore.json")), root)
        assert not publish(assemble(shop.params, shop.workspace), shop.store, signer=signer)
    with serve() as server:
        assert server.ask(QUESTION).choices


def test_before_the_first_release_is_loaded_the_server_says_so(
    shop: Any, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.promote(shop.publish(0.5))
    with serve() as server:
        loaded, server.follower.current = server.follower.current, None
        assert server.http.get("/health").status_code == 503
        body = {"model": "production", "messages": [{"role": "user", "content": QUESTION}]}
        response = server.http.post("/v1/chat/completions", json=body)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        server.follower.current = loaded


def test_a_store_that_does_not_answer_for_a_while_changes_nothing(
    shop: Any, serve: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = shop.publish(0.5), shop.publish(0.6)
    shop.promote(first)
    with serve() as server:
        with monkeypatch.context() as patch:

            def _away(*_: Any) -> None:
                raise TransientError("the store does not answer")

            patch.setattr(following, "find", _away)
            assert eventually(lambda: server.metric("pointsman_swaps_total", outcome="refused") >= 2)
            assert server.ask(QUESTION).pointsman["release"] == first
        shop.promote(second)
        assert eventually(lambda: server.follower.current.digest == second)
