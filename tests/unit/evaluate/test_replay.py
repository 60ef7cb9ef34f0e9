"""Replies are recorded once: what is asked again, what is not, and what a crash or another process does to it."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from stages.evaluate.replay.address import address, fingerprints
from stages.evaluate.replay.pool import RecordedPool, replaying
from stages.evaluate.replay.record import Record, open_record
from stages.shared.entry import FRESH
from stages.shared.errors import ConfigurationError, IntegrityError, TransientError
from stages.shared.params import ApiCandidate, ApiPool, Params
from stages.shared.pool.candidate import Candidate, Outcome, Reply
from stages.shared.pool.serving import api_candidates, sandbox_candidates
from stages.shared.workspace import Workspace

ROOT = Path(__file__).resolve().parents[3]
WRITER = """
import sys
from pathlib import Path
from stages.evaluate.replay.record import open_record
from stages.shared.pool.candidate import Candidate, Outcome, Reply

candidate = Candidate("Arlix", "a", "http://127.0.0.1:1/v1", 1.0, 0.1)
with open_record(Path(sys.argv[1])) as record:
    print("ready", flush=True)
    for number in range(int(sys.argv[3])):
        kept = record.keep(f"{number:064d}", "f", candidate, "q", Reply(sys.argv[2], Outcome.ANSWERED, 1, 1))
        print(kept.reply.text, flush=True)
"""


class Pool:
    """Candidates that count what they are asked; `down`: out of reach."""

    def __init__(self, candidates: tuple[Candidate, ...], outcome: Outcome = Outcome.ANSWERED, down: bool = False):
        self._candidates = {item.name: item for item in candidates}
        self.outcome, self.down, self.asked, self.checks = outcome, down, list[tuple[str, str]](), 0

    @property
    def candidates(self) -> Mapping[str, Candidate]:
        return self._candidates

    async def check(self) -> None:
        self.checks += 1
        if self.down:
            raise TransientError("Arlix: nobody there")

    async def ask(self, name: str, query: str) -> Reply:
        self.asked.append((name, query))
        return Reply(f"{query} of {name}, {len(self.asked)}", self.outcome, prompt_tokens=10, completion_tokens=3)


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    with open_record(tmp_path / "replies.sqlite") as opened:
        yield opened


@pytest.fixture
def candidates(params: Params) -> tuple[Candidate, ...]:
    return sandbox_candidates(params.pool, "http://127.0.0.1:1/v1")  # type: ignore[arg-type]


def over(pool: Pool, record: Record, params: Params) -> RecordedPool:
    return RecordedPool(pool, record, params, fingerprints(params, tuple(pool.candidates.values())))


async def test_a_second_evaluation_asks_nobody_and_needs_nobody(
    record: Record, params: Params, candidates: tuple[Candidate, ...]
) -> None:
    first = over(Pool(candidates), record, params)
    replies = [await first.ask(item.name, "who ?") for item in candidates]
    away = Pool(candidates, down=True)
    second = over(away, record, params)
    assert [await second.ask(item.name, "who ?") for item in candidates] == replies
    assert (away.asked, away.checks, second.tally.replayed, second.tally.asked) == ([], 0, 8, 0)
    assert "8 of 8 replies are recorded ones" in str(second.tally)


async def test_what_is_new_is_asked_after_one_look_at_the_pool(
    record: Record, params: Params, candidates: tuple[Candidate, ...]
) -> None:
    pool = Pool(candidates)
    recorded = over(pool, record, params)
    await asyncio.gather(*(recorded.ask("Arlix", f"{number} ?") for number in range(5)))
    assert (len(pool.asked), pool.checks) == (5, 1)
    with pytest.raises(TransientError, match="nobody there"):
        await over(Pool(candidates, down=True), record, params).ask("Arlix", "something new ?")


async def test_a_changed_price_is_another_bill_for_the_same_words(
    record: Record, params: Params, candidates: tuple[Candidate, ...]
) -> None:
    await over(Pool(candidates), record, params).ask("Arlix", "who ?")
    dearer = tuple(replace(item, price=10 * item.price) for item in candidates)
    again = over(Pool(dearer, down=True), record, params)
    reply = await again.ask("Arlix", "who ?")
    assert reply.cost(again.candidates["Arlix"]) == pytest.approx(10 * reply.cost(candidates[0]))
    assert "1 of these at other prices, now counted at today's" in str(again.tally)


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome.is_failure])
async def test_a_failure_is_no_answer_and_is_asked_again(
    record: Record, params: Params, candidates: tuple[Candidate, ...], outcome: Outcome
) -> None:
    pool = Pool(candidates, outcome)
    recorded = over(pool, record, params)
    assert (await recorded.ask("Arlix", "who ?")).outcome is outcome
    pool.outcome = Outcome.ANSWERED
    assert (await recorded.ask("Arlix", "who ?")).outcome is Outcome.ANSWERED
    assert len(pool.asked) == 2


async def test_fresh_asks_again_once_and_leaves_other_pools_alone(
    record: Record, params: Params, candidates: tuple[Candidate, ...]
) -> None:
    await over(Pool(candidates), record, params).ask("Arlix", "who ?")
    await over(Pool(candidates[1:]), record, params).ask("Bomon", "who ?")
    since = time.time() + 1
    with pytest.raises(TransientError):
        await over(Pool(candidates[:1], down=True), record, params).renew(since)
    for renewed_before, asked in ((since, 1), (since - 3600, 0)):
        pool = Pool(candidates[:1])
        recorded = over(pool, record, params)
        await recorded.renew(renewed_before)
        await recorded.ask("Arlix", "who ?")
        assert len(pool.asked) == asked, "what was asked since is not asked by a second attempt"
    untouched = Pool(candidates, down=True)
    await over(untouched, record, params).ask("Bomon", "who ?")
    assert untouched.asked == []


async def test_what_is_asked_anew_is_not_forgotten_where_the_clock_was_set_back(
    record: Record, params: Params, candidates: tuple[Candidate, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    since, real = time.time(), time.time
    monkeypatch.setattr(time, "time", lambda: real() - 7200)
    pool = Pool(candidates)
    for _ in range(2):
        recorded = over(pool, record, params)
        await recorded.renew(since)
        await recorded.ask("Arlix", "who ?")
    assert len(pool.asked) == 1


def changed(params: Params, section: str, **change: Any) -> Params:
    return params.model_copy(update={section: getattr(params, section).model_copy(update=change)})


def first_expert(params: Params, **change: Any) -> Params:
    experts = params.pool.experts  # type: ignore[union-attr]
    return changed(params, "pool", experts=(experts[0].model_copy(update=change), *experts[1:]))


def sandbox_address(params: Params, query: str = "who ?", port: int = 1) -> str:
    items = sandbox_candidates(params.pool, f"http://127.0.0.1:{port}/v1")  # type: ignore[arg-type]
    return address(fingerprints(params, items)["Arlix"], params, query)


def test_nothing_that_a_reply_depends_on_is_left_out_of_its_address(params: Params) -> None:
    limits = params.pool.limits
    others = [
        sandbox_address(params, "what ?"),
        sandbox_address(changed(params, "world", seed=8)),
        sandbox_address(first_expert(params, verbosity="full")),
        *(sandbox_address(changed(params, "pool", limits=limits.model_copy(update=change)))
          for change in ({"temperature": 0.7}, {"max_tokens": 9}, {"seed": 1})),
    ]  # fmt: skip
    assert len({sandbox_address(params), *others}) == 1 + len(others)


def test_what_a_reply_does_not_depend_on_is_no_part_of_its_address(params: Params) -> None:
    patient = params.pool.limits.model_copy(update={"attempts": 9, "timeout_s": 1.0, "concurrency": 1})
    same = [
        sandbox_address(params, port=2),
        sandbox_address(first_expert(params, price=9.0, prompt_price=9.0, seen=False)),
        sandbox_address(changed(params, "pool", limits=patient)),
    ]
    assert set(same) == {sandbox_address(params)}


def api(params: Params, **change: Any) -> Params:
    item = {"name": "Arlix", "model": "m-1", "base_url": "https://one.example/v1", "price": 1.0, "prompt_price": 0.1}
    return params.model_copy(update={"pool": ApiPool(candidates=(ApiCandidate(**(item | change)),))})


def api_address(params: Params) -> str:
    return address(fingerprints(params, api_candidates(params.pool))["Arlix"], params, "who ?")  # type: ignore[arg-type]


def test_another_model_or_endpoint_behind_a_name_is_asked(params: Params) -> None:
    others = [api(params, model="m-2"), api(params, base_url="https://two.example/v1")]
    assert len({api_address(each) for each in (api(params), *others)}) == 3
    assert api_address(api(params, price=2.0, key_env="KEY", summary="new words")) == api_address(api(params))


async def test_over_http_a_replay_needs_neither_the_server_nor_its_key(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def complete(request: web.Request) -> web.Response:
        choice = {"message": {"content": "it is so"}, "finish_reason": "stop"}
        return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"data": []})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    item = Candidate("Arlix", "m-1", f"http://127.0.0.1:{port}/v1", 1.0, 0.1, key_env="TEST_KEY")
    there = api(params, base_url=item.base_url, key_env="TEST_KEY")
    monkeypatch.setenv("TEST_KEY", "k")
    async with replaying(there, Workspace(tmp_path), [item]) as pool:
        asked = await pool.ask("Arlix", "who ?")
    await runner.cleanup()
    monkeypatch.delenv("TEST_KEY")
    async with replaying(there, Workspace(tmp_path), [item]) as pool:
        assert await pool.ask("Arlix", "who ?") == asked
    assert asked.text == "it is so"
    monkeypatch.setenv(FRESH, "tomorrow")
    with pytest.raises(ConfigurationError, match="POINTSMAN_FRESH='tomorrow' is no time"):
        async with replaying(there, Workspace(tmp_path), [item]):
            pass


def writer(path: Path, text: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), text, str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_of_two_processes_that_ask_the_same_at_once_one_reply_stands_for_both(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    printed = [process.communicate(timeout=60) for process in [writer(path, text, 300) for text in ("one", "two")]]
    assert [said for _, said in printed] == ["", ""]
    first, second = (out.splitlines()[1:] for out, _ in printed)
    assert first == second
    assert len(first) == 300


def test_a_process_that_is_killed_leaves_every_reply_that_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    process = writer(path, "x" * 500, 10**6)
    assert process.stdout is not None
    given = [process.stdout.readline() for _ in range(200)][1:]
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    with open_record(path) as record:
        found = [record.find(f"{number:064d}") for number in range(len(given))]
    assert all(item is not None and item.reply.text == "x" * 500 for item in found)


@pytest.mark.parametrize(
    "written",
    ['{"text": "a", "outcome": "answe', '{"text": "", "outcome": "timed-out"}',
     '{"text": "a", "outcome": "answered", "prompt_tokens": -1}', "[]"],
)  # fmt: skip
def test_a_row_that_is_no_reply_is_named(
    record: Record, tmp_path: Path, candidates: tuple[Candidate, ...], written: str
) -> None:
    record.keep("ab12", "f", candidates[0], "q", Reply("fine", Outcome.ANSWERED))
    with sqlite3.connect(tmp_path / "replies.sqlite") as other:
        other.execute("UPDATE replies SET reply = ?", (written,))
    with pytest.raises(IntegrityError, match=r"replies.sqlite, row ab12: not a reply .*--fresh"):
        record.find("ab12")


def test_a_file_that_is_no_record_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    path.write_text("not a database " * 100)
    with pytest.raises(IntegrityError, match=r"is no record of replies .* remove replies\.sqlite"), open_record(path):
        pass
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 9")
    with pytest.raises(IntegrityError, match="is of version 9, this code knows 1"), open_record(path):
        pass
