"""Bad weather changes no score, loses nothing, and every cent of it is in the ledger.

The long version is tests/bench/faults.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.shared.pool import client
from tests.faults import campaign
from tests.faults.weather import KINDS, Weather, weather

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_PAUSE_S", 0.005)


def test_under_thirty_percent_faults_scores_are_the_same_and_spend_is_exact(tmp_path: Path) -> None:
    questions, scores = campaign.make_questions(8), []
    for share in (0.0, 0.3):
        folder = tmp_path / str(share)
        with weather(campaign.POOL, campaign.WORLD, share) as provider:
            scores.append(asyncio.run(campaign.run(provider.base_url, folder, questions)))
        settled, held = campaign.reconcile(provider.bills, folder)
        assert settled <= provider.bill <= settled + held
    assert scores[0] == scores[1]
    assert len(provider.met) >= 8


@pytest.mark.parametrize("kind", KINDS)
def test_each_fault_alone_loses_nothing(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "LIMITS", campaign.LIMITS.model_copy(update={"timeout_s": 0.25}))
    questions = campaign.make_questions(2)
    with weather(campaign.POOL, campaign.WORLD, 0.5, (kind,), seed=3) as provider:
        replies = asyncio.run(ask(provider, tmp_path, questions))
    assert provider.met[kind]
    assert len(replies) == 4
    assert all(replies.values())
    campaign.reconcile(provider.bills, tmp_path)


async def ask(provider: Weather, folder: Path, questions: list[campaign.Question]) -> dict[tuple[str, str], str]:
    with campaign.ledger(folder, "profile") as ledger:
        return await campaign.profile(provider.base_url, ledger, folder, questions)


def test_a_run_that_is_killed_again_and_again_pays_for_no_answer_twice(tmp_path: Path) -> None:
    count, chance = 40, random.Random(4)
    kinds = ("503", "429", "html")
    with weather(campaign.POOL, campaign.WORLD, 0.2, kinds, remembers=True) as provider:
        for _ in range(2):
            started = start(provider, tmp_path, count)
            seen = sum(provider.charged.values())
            while sum(provider.charged.values()) < seen + 8 and started.poll() is None:
                time.sleep(0.002)
            time.sleep(chance.random() * 0.01)
            started.send_signal(signal.SIGKILL)
            started.wait()
        said = start(provider, tmp_path, count).communicate()[0]
        settled, held = campaign.reconcile(provider.bills, tmp_path)
        assert set(provider.charged.values()) == {1}
        assert provider.bill == settled
        whole = asyncio.run(ask(provider, tmp_path / "whole", campaign.make_questions(count)))
    assert [(name, question, text) for name, question, text in json.loads(said)] == sorted(
        (*key, text) for key, text in whole.items()
    )
    assert held > 0


def start(provider: Weather, folder: Path, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, campaign.__file__, provider.base_url, str(folder), str(count)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
