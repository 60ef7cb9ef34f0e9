"""Servers live exactly as long as the block that needs them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlparse

import pytest

from stages.shared.errors import ConfigurationError, TransientError
from stages.shared.params import ApiCandidate, ApiPool, Expert, SandboxPool, WorldParams
from stages.shared.pool import serving
from stages.shared.pool.serving import serve
from stages.shared.sandbox.lexicon import DOMAINS

ROOT = Path(__file__).resolve().parents[4]
EXPERTS = tuple(
    Expert(name=name, skill=dict.fromkeys(DOMAINS, 0.5), price=1.0, seen=name != "Guvex") for name in ("Arlix", "Guvex")
)


def listens(base_url: str) -> bool:
    address = urlparse(base_url)
    with socket.socket() as probe:
        return probe.connect_ex((address.hostname, address.port)) == 0


def falls_silent(base_url: str, within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while listens(base_url) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not listens(base_url)


def test_every_expert_seen_and_unseen_is_a_candidate_that_answers(tmp_path: Path) -> None:
    with serve(SandboxPool(experts=EXPERTS), WorldParams(), tmp_path) as candidates:
        assert [(item.name, item.seen) for item in candidates] == [("Arlix", True), ("Guvex", False)]
        assert all(listens(item.base_url) for item in candidates)

    assert not listens(candidates[0].base_url)
    assert (tmp_path / "logs" / "sandbox-server.log").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_server_ends_with_the_block_however_it_ends(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), serve(SandboxPool(experts=EXPERTS), WorldParams(), tmp_path) as candidates:
        raise error

    assert not listens(candidates[0].base_url)


PARENT = """
import json, sys, time
from pathlib import Path
from stages.shared.params import SandboxPool, WorldParams
from stages.shared.pool.serving import serve
with serve(SandboxPool.model_validate(json.loads(sys.argv[1])), WorldParams(), Path(sys.argv[2])) as candidates:
    print(candidates[0].base_url, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_server_does_not_outlive_a_killed_parent(tmp_path: Path, number: signal.Signals) -> None:
    pool = json.dumps(SandboxPool(experts=EXPERTS).model_dump())
    parent = subprocess.Popen([sys.executable, "-c", PARENT, pool, str(tmp_path)], cwd=ROOT, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
    base_url = parent.stdout.readline().strip()
    assert listens(base_url)

    os.kill(parent.pid, number)
    parent.wait(10)

    assert falls_silent(base_url)


def test_a_server_that_dies_at_its_start_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "ROOT", tmp_path)
    module = tmp_path / "stages" / "shared" / "sandbox"
    module.mkdir(parents=True)
    for folder in (module, module.parent, module.parent.parent):
        (folder / "__init__.py").touch()
    (module / "server.py").write_text("raise SystemExit('no port is free')")
    monkeypatch.chdir(tmp_path)

    says = r"ended with code 1 at its start: no port is free"
    pool = SandboxPool(experts=EXPERTS)
    with pytest.raises(TransientError, match=says), serve(pool, WorldParams(), tmp_path / "state"):
        pass


def test_two_candidates_of_one_name_and_a_pool_without_a_seen_one_are_refused(tmp_path: Path) -> None:
    unseen = SandboxPool(experts=(EXPERTS[1],))
    twice = ApiPool(candidates=(api("A"), api("A")))

    for pool, says in ((unseen, "no candidate is seen"), (twice, "the name A is used twice")):
        with pytest.raises(ConfigurationError, match=says), serve(pool, WorldParams(), tmp_path):
            pass


def test_api_candidates_are_taken_as_they_are(tmp_path: Path) -> None:
    with serve(ApiPool(candidates=(api("A"),)), WorldParams(), tmp_path) as (candidate,):
        assert (candidate.model, candidate.base_url, candidate.key_env) == ("org/a", "http://127.0.0.1:9/v1", "A_KEY")
    assert list(tmp_path.iterdir()) == []


def api(name: str) -> ApiCandidate:
    return ApiCandidate(
        name=name, model="org/a", base_url="http://127.0.0.1:9/v1", key_env="A_KEY", price=1.0, prompt_price=0.5
    )
