"""The client under load, beside the `openai` client in ten threads (the original's way), LiteLLM and raw aiohttp.

One provider that answers after a known time, in a process of its own, on the same two cores. Three questions:
- 10,000 questions at once: which share of the throughput that places and latency allow, in how much memory, and the
  others beside it (of the threads, who take eight minutes for as many, a few hundred; of LiteLLM a thousand);
- a provider that takes no time: how many calls a second of CPU, ours with and without a ledger, beside the others;
- 200 calls a second, evenly: how much later than the provider answered a call returns, 99th percentile.
Clients take turns, each in a process of its own.

Run by hand as `python tests/bench/load.py`, or by `make bench`, which installs LiteLLM into .venv-bench; without it the
others are measured. Writes metrics/bench/load.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".venv-bench" / "bin" / "python"
RUNS, LONGEST_S = 3, 150
QUESTIONS, PLACES, LATENCY_S = 10_000, 256, 0.5
FEWER = {"openai": 300, "litellm": 1_000}
"""Of those that would take minutes for all of them; what they reach with fewer is, if anything, better."""
BURST, BURST_PLACES = 2_000, 64
PACED, RATE, PACED_LATENCY_S = 2_000, 200, 0.05
THREADS = 10
"""Of the original: ThreadPoolExecutor(max_workers=10) in its routing service."""
MODELS = ("Arlix", "Bomon", "Cyqun", "Devex")
ANSWER = "the quarry of zumako is belane"
NAMES = {"openai": f"openai client, {THREADS} threads", "litellm": "LiteLLM", "aiohttp": "raw aiohttp"}
CLIENTS = ("ours", "ours with ledger", "aiohttp", "openai", "litellm")
Ask = Callable[[int], Awaitable[None]]


class Provider(asyncio.Protocol):
    """Answers each request after the time that its path names; no more of HTTP than that takes."""

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            if len(self._buffer) < end + 4 + length:
                return
            body, self._buffer = self._buffer[end + 4 : end + 4 + length], self._buffer[end + 4 + length :]
            latency_s = float(head.split(b"/")[1])
            reply = _response(json.loads(body)["model"], latency_s)
            asyncio.get_running_loop().call_later(latency_s, self._answer, reply)

    def _answer(self, reply: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(reply)


def _response(model: str, latency_s: float) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ANSWER}}
    usage = {"prompt_tokens": 70, "completion_tokens": 8, "total_tokens": 78}
    body = json.dumps({"id": "x", "object": "chat.completion", "created": 0, "model": model, "choices": [choice],
                       "usage": usage}).encode()  # fmt: skip
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nOpenAI-Processing-Ms: %d\r\nContent-Length: %d\r\n\r\n"
    return (head % (1000 * latency_s, len(body))).encode() + body


async def provide() -> None:
    """Serve until standard input closes; the first line printed is the port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Provider, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def message(number: int) -> dict[str, Any]:
    """One request, no question twice."""
    text = f"You help a base model with a sub-question. Answer briefly.\n\nwhat is the quarry of zu{number}mako ?"
    return {"model": MODELS[number % len(MODELS)], "messages": [{"role": "user", "content": text}], "max_tokens": 64}


async def ours(url: str, places: int, ledger: bool, work: Callable[[Ask], Awaitable[Any]]) -> Any:
    """Through `HttpPool`."""
    sys.path.insert(0, str(ROOT))
    from stages.shared.params import Budget, PoolLimits
    from stages.shared.pool.candidate import Candidate
    from stages.shared.pool.client import HttpPool
    from stages.shared.pool.ledger import Ledger, Place

    candidates = [Candidate(name, name, url, 0.3, 0.3) for name in MODELS]
    with tempfile.TemporaryDirectory() as folder:
        opened = Ledger(Place(Path(folder), "bench", "load"), Budget(stage=1000.0)) if ledger else None
        async with HttpPool(candidates, PoolLimits(concurrency=places, max_tokens=64), opened) as pool:

            async def ask(number: int) -> None:
                asked = message(number)
                reply = await pool.ask(asked["model"], asked["messages"][0]["content"])
                assert reply.text == ANSWER, reply

            found = await work(ask)
        if opened is not None:
            opened.close()
        return found


async def raw(url: str, places: int, work: Callable[[Ask], Awaitable[Any]]) -> Any:
    """aiohttp alone, and as many requests at a time: the limit."""
    import aiohttp

    gate, address = asyncio.Semaphore(places), f"{url}/chat/completions"
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def ask(number: int) -> None:
            async with gate, session.post(address, json=message(number)) as response:
                document = json.loads(await response.read())
                assert document["choices"][0]["message"]["content"] == ANSWER

        return await work(ask)


async def threaded(url: str, places: int, work: Callable[[Ask], Awaitable[Any]]) -> Any:
    """The `openai` client, blocking, in ten threads."""
    from openai import OpenAI

    with OpenAI(base_url=url, api_key="none", max_retries=0) as client, ThreadPoolExecutor(THREADS) as threads:

        def one(number: int) -> None:
            reply = client.chat.completions.create(**message(number))
            assert reply.choices[0].message.content == ANSWER

        async def ask(number: int) -> None:
            await asyncio.get_running_loop().run_in_executor(threads, one, number)

        return await work(ask)


async def lite(url: str, places: int, work: Callable[[Ask], Awaitable[Any]]) -> Any:
    """LiteLLM's `acompletion`."""
    import litellm

    gate = asyncio.Semaphore(places)

    async def ask(number: int) -> None:
        asked = message(number)
        async with gate:
            reply = await litellm.acompletion(
                model=f"openai/{asked['model']}",
                messages=asked["messages"],
                max_tokens=64,
                api_base=url,
                api_key="none",
            )
        assert reply.choices[0].message.content == ANSWER

    return await work(ask)


async def all_at_once(ask: Ask, count: int) -> dict[str, float]:
    """Every question at once; calls a second, and a second of this process's CPU, which neighbours disturb less."""
    began, worked = time.perf_counter(), time.process_time()
    await asyncio.gather(*(ask(number) for number in range(count)))
    return {"rate": count / (time.perf_counter() - began), "cpu_rate": count / (time.process_time() - worked)}


async def evenly(ask: Ask, latency_s: float) -> dict[str, float]:
    """`RATE` questions a second; 99th percentile of what a call takes beyond the provider's time, milliseconds."""
    over: list[float] = []

    async def one(number: int, due: float) -> None:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        began = time.perf_counter()
        await ask(number)
        over.append(1000 * (time.perf_counter() - began - latency_s))

    start = time.perf_counter() + 0.1
    await asyncio.gather(*(one(number, start + number / RATE) for number in range(PACED)))
    return {"p50": sorted(over)[len(over) // 2], "p99": sorted(over)[int(0.99 * len(over))]}


async def child(client: str, port: int, scene: str) -> dict[str, float]:
    """One client in one scene."""
    latency_s = {"crowd": LATENCY_S, "burst": 0.0, "pace": PACED_LATENCY_S}[scene]
    places = {"crowd": PLACES, "burst": BURST_PLACES, "pace": PLACES}[scene]
    url = f"http://127.0.0.1:{port}/{latency_s}/v1"

    async def work(ask: Ask) -> dict[str, float]:
        await asyncio.gather(*(ask(-1 - number) for number in range(8)))
        if scene == "pace":
            return await evenly(ask, latency_s)
        return await all_at_once(ask, FEWER.get(client, QUESTIONS) if scene == "crowd" else BURST)

    if client.startswith("ours"):
        found = await ours(url, places, "ledger" in client, work)
    else:
        found = await {"aiohttp": raw, "openai": threaded, "litellm": lite}[client](url, places, work)
    return {**found, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def has_litellm() -> bool:
    """Whether the environment of what benches are held against has it."""
    return any((PEERS.parents[1] / "lib").glob("python*/site-packages/litellm"))


def measured(client: str, port: int, scene: str) -> dict[str, float]:
    """One client in one scene, in a process of its own; nothing where it hangs, as LiteLLM did in bursts."""
    python = str(PEERS) if client == "litellm" else sys.executable
    command = [python, __file__, "--client", client, "--port", str(port), "--scene", scene]
    local = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # or it looks for a newer one on the net
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=local, timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        print(f"{client} did not end its {scene} within {LONGEST_S} s")
        return {}
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def medians(clients: tuple[str, ...], port: int, scene: str, runs: int = RUNS) -> dict[str, dict[str, float]]:
    """Every client in turn, `runs` times."""
    found: dict[str, list[dict[str, float]]] = {client: [] for client in clients}
    for _ in range(runs):
        for client in clients:
            if {} not in found[client]:
                found[client].append(measured(client, port, scene))
    whole = {client: each for client, each in found.items() if {} not in each}
    medians = {client: {key: median(run[key] for run in each) for key in each[0]} for client, each in whole.items()}
    print(scene, json.dumps(medians), flush=True)
    return medians


def main() -> None:
    """Measure, print and write."""
    clients = tuple(client for client in CLIENTS if client != "litellm" or has_litellm())
    with subprocess.Popen([sys.executable, __file__, "--serve"], stdin=-1, stdout=-1, text=True) as provider:
        assert provider.stdout is not None
        port = int(provider.stdout.readline())
        others = tuple(client for client in clients if client != "ours")
        crowd = medians(others, port, "crowd", runs=1)
        burst = medians(clients, port, "burst")
        pace = medians(("ours with ledger", "aiohttp"), port, "pace", runs=1)
        provider.communicate("")
    rows = table(crowd, burst, pace)
    for row in rows:
        print(f"{row['name']}: {row['ours']} {row['unit']}; {row['against']}: {row['theirs']}; {row['ratio']}, "
              f"{row['limit']} wanted")  # fmt: skip
    (ROOT / "metrics" / "bench").mkdir(parents=True, exist_ok=True)
    (ROOT / "metrics" / "bench" / "load.json").write_text(json.dumps(rows, indent=2, sort_keys=True) + "\n")


def table(
    crowd: dict[str, dict[str, float]], burst: dict[str, dict[str, float]], pace: dict[str, dict[str, float]]
) -> list[dict[str, Any]]:
    """The rows of metrics/bench/load.json."""
    mine = crowd["ours with ledger"]
    rows = [
        _row("10,000 at once", "calls/s", mine["rate"], "places / latency", PLACES / LATENCY_S, 0.9, 1),
        _row("10,000 at once, memory", "MiB", mine["mib"], "at most", 1024, 1.0, 1),
    ]
    for client, limit in {"openai": 5.0, "litellm": 1.0, "aiohttp": 0.8}.items():
        if client in crowd:
            rows.append(_row("10,000 at once", "calls/s", mine["rate"], NAMES[client], crowd[client]["rate"], limit, 1))
        if client in burst:
            rate, theirs = burst["ours with ledger"]["cpu_rate"], burst[client]["cpu_rate"]
            rows.append(_row("a burst", "calls/CPU s", rate, NAMES[client], theirs, None, RUNS))
    with_, without = burst["ours with ledger"]["cpu_rate"], burst["ours"]["cpu_rate"]
    slower, least = pace["ours with ledger"]["p99"], pace["aiohttp"]["p99"]
    return [
        *rows,
        _row("a burst", "calls/CPU s", with_, "without the ledger", without, None, RUNS),
        _row("overhead at 200 calls/s, p99", "ms", slower, "raw aiohttp", least, "at most 10 ms", 1),
    ]


def _row(name: str, unit: str, mine: float, against: str, theirs: float, limit: Any, runs: int) -> dict[str, Any]:
    return {
        "name": f"load, {name}", "unit": unit, "ours": round(mine, 2), "against": against, "theirs": round(theirs, 2),
        "ratio": round(mine / theirs, 3), "limit": limit, "runs": runs, "command": "python tests/bench/load.py",
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--client")
    parser.add_argument("--port", type=int)
    parser.add_argument("--scene")
    given = parser.parse_args()
    if given.serve:
        asyncio.run(provide())
    elif given.client:
        print(json.dumps(asyncio.run(child(given.client, given.port, given.scene))))
    else:
        main()
