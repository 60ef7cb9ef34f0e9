"""The page at `/`, in a real browser: an episode unfolds, and nothing that a model says runs."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PLENTY_S = 20.0


@dataclass
class Tab:
    """One page of a headless Chromium, driven over its DevTools protocol."""

    socket: aiohttp.ClientWebSocketResponse
    sent: int = 0
    errors: list[str] = field(default_factory=list)

    async def call(self, method: str, **params: Any) -> Any:
        self.sent += 1
        await self.socket.send_json({"id": self.sent, "method": method, "params": params})
        while True:
            message = await self.socket.receive_json(timeout=PLENTY_S)
            if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.errors.append(str(message["params"]))
            if message.get("id") == self.sent:
                return message["result"]

    async def open(self, url: str) -> None:
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && document.getElementById('release').textContent !== ''")

    async def js(self, code: str) -> Any:
        result = await self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, condition: str) -> None:
        look = f"(() => {{ if ({condition}) done(); else setTimeout(look, 20); }})"
        async with asyncio.timeout(PLENTY_S):
            await self.js(f"new Promise(done => {{ const look = {look}; look(); }})")

    async def text(self, name: str) -> str:
        return str(await self.js(f"document.getElementById('{name}').innerText"))

    async def ask(self, question: str) -> None:
        await self.until("!document.getElementById('ask').disabled")
        await self.js(f"document.getElementById('question').value = {question!r}")
        await self.js("document.getElementById('ask').click()")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a headless Chromium takes orders."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    folder = tmp_path_factory.mktemp("chromium")
    log = folder / "log"
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    with log.open("w") as out:
        browser = subprocess.Popen([*command, f"--user-data-dir={folder / 'profile'}", "about:blank"], stderr=out)
    try:
        deadline = time.monotonic() + PLENTY_S
        while not (found := re.search(r"listening on ws://([^/]+)/", log.read_text())):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield f"http://{found[1]}"
    finally:
        browser.terminate()
        browser.wait(10)


@pytest.fixture
async def tab(chromium: str) -> AsyncIterator[Tab]:
    async with aiohttp.ClientSession() as session:
        opened = await (await session.put(f"{chromium}/json/new?about:blank")).json()
        async with session.ws_connect(opened["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            yield Tab(socket)
        await session.get(f"{chromium}/json/close/{opened['id']}")


async def test_an_episode_unfolds_and_then_the_answer_stands_there(server: Any, candidates: Any, tab: Tab) -> None:
    await tab.open(server.url)
    assert f"production · release {server.follower.current.digest[:16]}" in await tab.text("release")
    await tab.ask("wait who is the mayor of zumako")
    await tab.until("document.querySelector('li.call')")
    steps = await tab.text("steps")
    assert "best is Arlix" in steps
    assert "→ Arlix wait who is the mayor of zumako" in steps
    assert await tab.text("answer") == ""
    candidates.gate.set()
    await tab.until("document.getElementById('total').innerText")
    assert f"← Arlix {candidates.reply}" in await tab.text("steps")
    assert f"${candidates.cost_usd:.6f} · " in await tab.text("steps")
    assert await tab.text("answer") == candidates.reply
    assert (await tab.text("total")).startswith(f"1 call · ${candidates.cost_usd:.6f}")
    assert tab.errors == []


async def test_what_models_say_is_text_and_never_runs(server: Any, candidates: Any, tab: Tab) -> None:
    await tab.open(server.url)
    await tab.ask("html <b>who</b>")
    await tab.until("document.getElementById('total').innerText")
    assert candidates.html.partition("<script>")[0] in await tab.text("steps")
    assert await tab.js("document.querySelectorAll('li img, li script, li b b, #answer *').length") == 0
    assert await tab.js("document.title") == "Pointsman"
    assert tab.errors == []


async def test_no_script_but_the_pages_own_runs_even_if_one_got_in(server: Any, tab: Tab) -> None:
    policy = server.http.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    await tab.open(server.url)
    await tab.js("script = document.createElement('script'); script.append('document.title = 1')")
    await tab.js("document.body.append(script)")
    assert await tab.js("document.title") == "Pointsman"
    assert tab.errors


async def test_a_failure_is_told_and_the_next_question_works(server: Any, candidates: Any, tab: Tab) -> None:
    await tab.open(server.url)
    await tab.ask("crash now")
    await tab.until("document.getElementById('fault').innerText")
    assert "broke down" in await tab.text("fault")
    await tab.ask("ponder that")
    await tab.until("document.getElementById('fault').innerText.includes('ran out')")
    assert (await tab.text("steps")).splitlines().count("? neither a call nor an answer") > 0
    await tab.ask("who is the mayor of zumako")
    await tab.until("document.getElementById('answer').innerText")
    assert await tab.text("fault") == ""


async def test_a_server_with_a_key_asks_for_it(shop: Any, serve: Any, candidates: Any, tab: Tab) -> None:
    shop.promote(shop.publish(0.5))
    with serve(key="secret") as server:
        await tab.open(server.url)
        await tab.ask("who is the mayor of zumako")
        await tab.until("!document.getElementById('locked').hidden")
        await tab.js("document.getElementById('key').value = 'secret'")
        await tab.ask("who is the mayor of zumako")
        await tab.until("document.getElementById('answer').innerText")
        assert await tab.text("answer") == candidates.reply
