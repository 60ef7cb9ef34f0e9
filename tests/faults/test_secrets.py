"""A key goes to its provider and nowhere else: not even when the provider says it back in everything it says."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from stages.shared.artifacts import write_manifest
from stages.shared.params import SandboxPool, WorldParams
from stages.shared.questions import write_questions
from stages.shared.sandbox.world import World
from tests.faults import campaign
from tests.faults.checkout import Checkout, ended, smoke
from tests.faults.secrecy import holders, nobody_shows
from tests.faults.weather import Weather, serving

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-very-secret-0123456789"
TOKEN = "ghp-very-secret-9876543210"
BLOCKS = {"pointsman-parrot-key": KEY, "pointsman-forge-token": TOKEN}
HIDE = """
import json, os
from prefect.blocks.system import Secret
for name, value in json.loads(os.environ["FOR_BLOCKS"]).items():
    Secret(value=value).save(name)
"""


class Parrot:
    """A provider that repeats the headers of a request in answers, errors and the name of its model."""

    def __init__(self, errors: bool) -> None:
        self.errors = errors
        self.heard: set[str] = set()
        self.asked = 0

    async def complete(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        key = request.headers["Authorization"]
        self.heard.add(key)
        usage = {"prompt_tokens": 9, "completion_tokens": 3}
        choice = {"message": {"content": f"belane {key}"}, "finish_reason": "stop"}
        if self.errors:
            return web.json_response({"error": {"message": f"no such key: {key}\x1b[31m"}}, status=400)
        if self.asked % 5 == 0:
            return web.json_response({"model": f"other {key}", "choices": [choice], "usage": usage})
        return web.json_response({"choices": [choice], "usage": usage}, headers={"X-Echo": key})

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.complete)
        app.router.add_get("/v1/models", lambda _: web.json_response({"data": []}))
        return app


@pytest.mark.parametrize("errors", [False, True])
def test_nothing_that_a_run_writes_or_prints_holds_a_key(tmp_path: Path, errors: bool) -> None:
    parrot = Parrot(errors)
    with serving(parrot.application()) as base_url:
        done = profile(tmp_path, base_url)
    assert done.returncode == (1 if errors else 0), done.stderr
    assert parrot.heard == {f"Bearer {KEY}"}
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("ledger" in path.parts for path in written)
    assert [str(path) for path in written if KEY.encode() in path.read_bytes()] == []
    assert KEY not in done.stdout + done.stderr
    assert "\x1b[31m" not in done.stderr


def profile(root: Path, base_url: str) -> subprocess.CompletedProcess[str]:
    """The stage, as DVC runs it, on a provider behind a key."""
    folder = root / "artifacts" / "ingest"
    write_questions(folder / "profiling.parquet", [as_profiling(one) for one in campaign.make_questions(24)])
    write_manifest(folder, "pointsman/questions/1")
    known = {"model": "m", "base_url": base_url, "key_env": "PARROT_KEY", "price": 1.0, "prompt_price": 0.5}
    params = {
        "profile_name": "test", "world": {"entities": 60},
        "ingest": {"source": {"kind": "sandbox"}, "sizes": {"train": 1, "profiling": 24, "validation": 1, "test": 1}},
        "pool": {"kind": "api", "candidates": [{"name": "Arlix", **known}], "limits": {"attempts": 2}},
        "profile": {"questions": 24}, "episode": {}, "train": {"policy": {"kind": "tiny"}, "ppo": {"steps": 1}},
    }  # fmt: skip
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PARROT_KEY": KEY}
    command = [sys.executable, "-m", "stages.profile"]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


def as_profiling(question: campaign.Question) -> campaign.Question:
    return replace(question, split="profiling")


def test_a_redirect_is_not_followed_so_that_no_key_goes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARROT_KEY", KEY)
    heard = Parrot(errors=False)
    with serving(heard.application()) as elsewhere:

        async def redirect(_: web.Request) -> web.StreamResponse:
            raise web.HTTPTemporaryRedirect(f"{elsewhere}/chat/completions")

        app = web.Application()
        app.router.add_post("/v1/chat/completions", redirect)
        with serving(app) as base_url:
            candidate = campaign.Candidate("Arlix", "m", base_url, 1.0, 1.0, key_env="PARROT_KEY")
            reply = asyncio.run(ask(candidate))
    assert reply.outcome.is_failure
    assert heard.asked == 0


async def ask(candidate: campaign.Candidate) -> campaign.Reply:
    async with campaign.HttpPool([candidate], campaign.LIMITS) as pool:
        return await pool.ask(candidate.name, "q")


class Echo(Weather):
    """Simulated experts behind a key, which is said back with every answer, and in some; `refuses` it at first."""

    refuses = True
    heard: set[str]

    async def complete(self, request: web.Request) -> web.StreamResponse:
        key = request.headers["Authorization"]
        self.heard.add(key)
        asked = await request.json()
        answer = self._answer(asked["model"], asked["messages"][-1]["content"])
        number = self.asked.total()
        self.asked[asked["model"], ""] += 1
        if self.refuses or number % 9 == 0:
            return web.json_response({"error": {"message": f"this key: {key}"}}, status=400 if self.refuses else 503)
        body = answer.body(system_fingerprint=key)
        if number % 5 == 0:
            body["choices"][0]["message"]["content"] += f" {key}"
        return web.json_response(body, headers=answer.headers | {"X-Echo": key})

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.complete)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/v1/repos/owner/name/pulls", self.pulls)
        app.router.add_post("/v1/repos/owner/name/pulls", self.pulls)
        return app

    async def pulls(self, request: web.Request) -> web.Response:
        """The forge."""
        self.heard.add(request.headers["Authorization"])
        opened = {"html_url": "https://forge.example/owner/name/pull/7"}
        return web.json_response([] if request.method == "GET" else opened)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("POINTSMAN_TEST_FAULTS"), reason="takes minutes: make test-faults")
def test_secrets_given_by_block_are_in_no_log_artifact_commit_or_process_list_of_a_retrain(tmp_path: Path) -> None:
    """The provider refuses the key at first, aloud, so that the run fails and is retried."""
    params = smoke()
    echo = Echo(SandboxPool(**params["pool"]), World.generate(WorldParams(**params["world"])), share=0.0)
    echo.heard = set()
    with serving(echo.application()) as url, nobody_shows(KEY, TOKEN):
        found = Checkout(tmp_path / "checkout", {"pool": behind_a_key(params["pool"], url)})
        name_forge(found, url.removesuffix("/v1") + "/v1")
        up = found.up()
        try:
            lent = {"FOR_BLOCKS": json.dumps(BLOCKS), "PREFECT_API_URL": found.url}
            subprocess.run([sys.executable, "-c", HIDE], env=found.env | lent, check=True)
            run = found.ask()
            assert ended(found, run) == "FAILED"
            assert "HTTP 400" in found.message(run)
            echo.refuses = False
            found.retry(run)
            assert ended(found, run) == "COMPLETED", found.message(run)
        finally:
            found.pointsman("down")
            up.wait(60)
    assert echo.heard == {f"Bearer {KEY}", f"Bearer {TOKEN}"}
    assert len(found.branches(tmp_path / "origin.git")) == 1
    assert [holders(secret, tmp_path) for secret in (KEY, TOKEN)] == [[], []]


def behind_a_key(pool: dict[str, Any], url: str) -> dict[str, Any]:
    """The same experts, as an API that wants a key."""
    kept = ("name", "price", "prompt_price", "seen")
    known = {"base_url": url, "key_env": "PARROT_KEY"}
    candidates = [
        {**{name: expert[name] for name in kept if name in expert}, "model": expert["name"], **known}
        for expert in pool["experts"]
    ]
    return {"kind": "api", "limits": pool["limits"], "candidates": candidates}


def name_forge(found: Checkout, url: str) -> None:
    """With a remote, as a pull request needs one."""
    (found.root / "infra/forge.yaml").write_text(f"{{kind: github, url: '{url}', repository: owner/name}}")
    found.git("commit", "-qam", "Name the forge")
    origin = found.root.with_name("origin.git")
    subprocess.run(["git", "clone", "-q", "--bare", str(found.root), str(origin)], check=True)
    found.git("remote", "add", "origin", str(origin))
