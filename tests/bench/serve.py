"""`pointsman serve` under load: 1,000 clients at once, releases swapped meanwhile, a candidate down, slow readers.

The server is a process of its own, as `pointsman serve` starts it, but for its policy, which plays a script: it asks a
candidate the question and gives the reply back. Every question has a name of its own, so that an answer, a thought or a
call of another one is seen. Candidates answer after a known time, from two more processes on the same cores.

Each client asks one question after the other for as long as the bench lasts. Of a hundred clients, fifty ask for a
stream, five of them read it at 256 bytes in 10 ms through a buffer of 2 KiB, and five hang up in the middle. The
channel is moved between two releases every two seconds. A quarter of the questions go to a candidate that is killed
after a third of the time, and comes back after two thirds.

An answer that does not come whole is dropped, one with another question's name in it is mixed up; both must be 0.

Run by hand as `python tests/bench/serve.py [SECONDS] [CLIENTS]`, or by `make bench`; writes metrics/bench/serve.json
where there are 1,000 clients.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[2]
PUBLISH = ROOT / "tests" / "unit" / "publish"
sys.path[:0] = [str(ROOT), str(PUBLISH)]

from handmade import checkout, handmade  # noqa: E402

from stages.publish.promotion import Desk, examine, promote  # noqa: E402
from stages.publish.release import publish  # noqa: E402
from stages.shared.files import write_json  # noqa: E402
from stages.shared.params import EpisodeParams, Params, PoolLimits, load_params  # noqa: E402
from stages.shared.params.pool import ApiCandidate, ApiPool  # noqa: E402

SCRIPTED = PUBLISH / "scripted.py"
CHANNEL = "production"
STEADY, SHAKY = "Arlix", "Bomon"
LATENCY_S = 0.05
SWAP_S = 2.0
PATIENCE_S = 120.0
NAME = re.compile(r"zu\d{7}")
EPISODE = EpisodeParams(
    max_calls=4, prompt_tokens=256, response_tokens=512, turn_tokens=128, reply_tokens=64, prompt="compact"
)


class Provider(asyncio.Protocol):
    """A candidate: gives the name in the question back, after a while."""

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = int(self._buffer[:end].lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            if len(self._buffer) < end + 4 + length:
                return
            body, self._buffer = self._buffer[end + 4 : end + 4 + length], self._buffer[end + 4 + length :]
            asyncio.get_running_loop().call_later(LATENCY_S if body else 0.0, self._answer, body)

    def _answer(self, body: bytes) -> None:
        document: dict[str, object] = {"data": []}
        if body:
            asked = json.loads(body)
            text = f"it is {NAME.findall(asked['messages'][-1]['content'])[-1]}"
            choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 20, "completion_tokens": 5}
            document = {"choices": [choice], "usage": usage, "model": asked["model"]}
        content = json.dumps(document).encode()
        if not self._transport.is_closing():
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(content)
            self._transport.write(head + content)  # type: ignore[attr-defined]


async def provide(port: int) -> None:
    """Serve on a port of loopback until killed; the first line printed is the port."""
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Shaky:
    """A provider in a process of its own, which can be killed and started again where it was."""

    def __init__(self) -> None:
        self.port = 0

    def __enter__(self) -> Shaky:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Start it, on the port that it had before."""
        command = [sys.executable, __file__, "--provide", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def close(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()


@dataclass
class Tally:
    """What clients saw."""

    ends: Counter[str] = field(default_factory=Counter)
    """How requests ended: answered, hung up, dropped, mixed up."""
    seconds: list[float] = field(default_factory=list)
    slow_seconds: list[float] = field(default_factory=list)
    """Of readers that are slow, apart."""
    releases: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def count(self, end: str, fault: str = "") -> None:
        """One request is over."""
        self.ends[end] += 1
        if fault and len(self.faults) < 10:
            self.faults.append(f"{end}: {fault}")


@dataclass(frozen=True)
class Client:
    """One of a thousand, with habits of its own; speaks HTTP itself, since a library would read ahead."""

    number: int
    port: int
    tally: Tally

    @property
    def streams(self) -> bool:
        """Whether it asks for a stream."""
        return self.number % 100 < 50

    @property
    def is_slow(self) -> bool:
        """Whether it reads slowly."""
        return self.number % 100 < 5

    @property
    def hangs_up(self) -> bool:
        """Whether it leaves before the answer."""
        return 5 <= self.number % 100 < 10

    async def live(self, until: float) -> None:
        """Ask one question after the other."""
        turn = 0
        while time.monotonic() < until:
            name = f"zu{self.number:04d}{turn % 1000:03d}"
            to = " by bomon" if turn % 4 == 0 else ""
            began = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    raw = await self._ask(f"who is {name}{to} ?")
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                self.tally.count("dropped", repr(error))
            else:
                (self.tally.slow_seconds if self.is_slow else self.tally.seconds).append(time.monotonic() - began)
                self._judge(name, raw)
            turn += 1

    async def _ask(self, question: str) -> bytes | None:
        """The whole response, None where the client hung up."""
        body = {"model": CHANNEL, "stream": self.streams, "messages": [{"role": "user", "content": question}]}
        content = json.dumps(body).encode()
        connection = socket.socket()
        connection.setblocking(False)
        if self.is_slow:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=connection, limit=1024 if self.is_slow else 1 << 16)
        try:
            head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
            writer.write(head.encode() + content)
            if self.hangs_up:
                await reader.read(200)
                return None
            if not self.is_slow:
                return await reader.read()
            got = b""
            while piece := await reader.read(256):
                got += piece
                await asyncio.sleep(0.01)
            return got
        finally:
            writer.close()

    def _judge(self, name: str, raw: bytes | None) -> None:
        if raw is None:
            self.tally.count("hung up")
            return
        head, _, body = raw.partition(b"\r\n\r\n")
        text = dechunked(body).decode() if b"chunked" in head.lower() else body.decode()
        strangers = set(NAME.findall(text)) - {name}
        if strangers:
            self.tally.count("mixed up", f"{name} got {strangers}")
            return
        try:
            assert head.startswith(b"HTTP/1.1 200"), head[:60].decode() + text[:200]
            answer, release = streamed(text) if self.streams else whole(json.loads(text))
            assert answer == f"it is {name}", f"{answer!r} to {name}"
        except (AssertionError, ValueError, LookupError) as error:
            self.tally.count("dropped", repr(error))
        else:
            self.tally.releases[release] += 1
            self.tally.count("answered")


def dechunked(body: bytes) -> bytes:
    """The content of a chunked body. Raises ValueError for one without its end."""
    content = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return content
        content, body = content + body[:length], body[length + 2 :]


def whole(document: dict[str, object]) -> tuple[str, str]:
    """Answer and release of a completion."""
    choice = document["choices"][0]  # type: ignore[index]
    return choice["message"]["content"], document["pointsman"]["release"]  # type: ignore[index]


def streamed(text: str) -> tuple[str, str]:
    """Answer and release of a stream. Raises ValueError for one that was cut, AssertionError for two in one."""
    events = text.split("\n\n")
    if events[-2:] != ["data: [DONE]", ""]:
        raise ValueError(f"no end: {text[-100:]!r}")
    chunks = [json.loads(each.removeprefix("data: ")) for each in events[:-2]]
    assert len({chunk["id"] for chunk in chunks}) == 1
    answer = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    (release,) = {chunk["pointsman"]["release"] for chunk in chunks if "release" in chunk.get("pointsman", {})}
    return answer, release


def prepare(root: Path, ports: dict[str, int]) -> tuple[Desk, list[str]]:
    """A checkout with two releases of one untrained policy."""
    from stages.shared.params import TinyPolicy
    from stages.train.tiny.model import build_model
    from stages.train.tiny.tokenizer import build_tokenizer

    words = build_tokenizer()
    model = build_model(TinyPolicy(width=64, layers=2, heads=2), len(words), words.pad_token_id, words.eos_token_id, 0)
    model.save_pretrained(root / "policy")
    words.save_pretrained(root / "policy")
    made = [
        ApiCandidate(name=name, model=name, base_url=f"http://127.0.0.1:{port}/v1", price=1.0, prompt_price=0.1)
        for name, port in ports.items()
    ]
    pool = ApiPool(candidates=tuple(made), limits=PoolLimits(attempts=1, concurrency=512, max_tokens=32))
    shipped: Params = load_params(ROOT / "infra" / "profiles" / "smoke.yaml")
    params = shipped.model_copy(update={"pool": pool, "episode": EPISODE})
    desk = checkout(root, params)
    releases = [handmade(root / "policy", params, list(ports), em) for em in (0.5, 0.6)]
    for release in releases:
        publish(release, desk.store)
    return desk, [release.manifest.digest for release in releases]


@contextmanager
def server(root: Path, clients: int) -> Iterator[tuple[psutil.Process, int]]:
    """`pointsman serve` with the script for a policy, and its port."""
    limits = ["--concurrency", str(clients), "--queue", str(clients)]
    log = root / "server.log"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with log.open("w") as out:
        command = [sys.executable, str(SCRIPTED), CHANNEL, "--port", "0", "--poll", "0.2", "--allow-unsigned", *limits]
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=out, stderr=out)
    try:
        while (found := re.search(r"listening on http://127.0.0.1:(\d+),", log.read_text())) is None:
            if process.poll() is not None:
                raise RuntimeError(log.read_text())
            time.sleep(0.1)
        yield psutil.Process(process.pid), int(found[1])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


async def swaps(desk: Desk, releases: list[str], until: float) -> int:
    """Move the channel to and fro; how often."""
    moved = 0
    while time.monotonic() + SWAP_S < until:
        await asyncio.sleep(SWAP_S)
        digest = releases[(moved + 1) % len(releases)]
        await asyncio.to_thread(lambda digest=digest: promote(desk, examine(desk, digest, CHANNEL), "a bench"))
        moved += 1
    return moved


async def shake(shaky: Shaky, seconds: float) -> None:
    """Take a candidate down for the middle third of the time."""
    await asyncio.sleep(seconds / 3)
    shaky.close()
    await asyncio.sleep(seconds / 3)
    await asyncio.to_thread(shaky.open)


async def load(crowd: list[Client], desk: Desk, releases: list[str], shaky: Shaky, seconds: float) -> int:
    """Everything at once; how often the channel was moved."""
    until = time.monotonic() + seconds
    living = [client.live(until) for client in crowd]
    moved, *_ = await asyncio.gather(swaps(desk, releases, until), shake(shaky, seconds), *living)
    return moved


def run(seconds: float, clients: int) -> dict[str, float]:
    """One load; what came of it."""
    with tempfile.TemporaryDirectory() as folder, Shaky() as steady, Shaky() as shaky:
        root = Path(folder)
        desk, releases = prepare(root, {STEADY: steady.port, SHAKY: shaky.port})
        promote(desk, examine(desk, releases[0], CHANNEL), "a bench")
        tally = Tally()
        with server(root, clients) as (process, port):
            began = time.monotonic()
            crowd = [Client(number, port, tally) for number in range(clients)]
            moved = asyncio.run(load(crowd, desk, releases, shaky, seconds))
            took = time.monotonic() - began
            metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
            memory = process.memory_info().rss / (1 << 20)
    return report(tally, metrics, moved, took, memory)


def report(tally: Tally, metrics: str, moved: int, took: float, memory: float) -> dict[str, float]:
    """Numbers, and what went wrong in words."""
    for fault in tally.faults:
        print(fault, file=sys.stderr)
    for line in metrics.splitlines():
        if re.match(r"pointsman_(requests|calls|swaps|reroutes)_total", line):
            print(line, file=sys.stderr)
    ordered = sorted(tally.seconds)
    return {
        **{end: tally.ends[end] for end in ("answered", "hung up", "dropped", "mixed up")},
        "moves of the channel": moved, "releases that answered": len(tally.releases),
        "answers a second": tally.ends["answered"] / took, "p50 s": ordered[len(ordered) // 2],
        "p99 s": ordered[len(ordered) * 99 // 100], "slow readers, longest s": max(tally.slow_seconds, default=0.0),
        "server's memory, MiB": memory,
    }  # fmt: skip


def row(name: str, value: float, seconds: float, busy: float) -> dict[str, object]:
    """One line of metrics/bench/serve.json."""
    limit = 0 if name in ("dropped", "mixed up") else None
    return {
        "name": f"serve, 1,000 clients for {seconds:g} s: {name}", "ours": round(value, 3), "against": "the limit",
        "theirs": limit, "limit": limit, "ratio": None, "unit": name, "runs": 1, "load": round(busy, 1),
        "command": f"python tests/bench/serve.py {seconds:g} 1000",
    }  # fmt: skip


def main(seconds: float = 30.0, clients: int = 1000) -> None:
    """Measure, print and write; the exit code is 1 where an answer was dropped or mixed up."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    busy = os.getloadavg()[0]
    found = run(seconds, clients)
    for name, value in found.items():
        print(f"{name}: {value:.5g}")
    lost = found["dropped"] + found["mixed up"]
    if clients == 1000:
        rows = [row(name, value, seconds, busy) for name, value in found.items()]
        write_json(ROOT / "metrics" / "bench" / "serve.json", rows)
    if lost:
        raise SystemExit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--provide"]:
        asyncio.run(provide(int(sys.argv[2])))
    else:
        main(*(kind(text) for kind, text in zip((float, int), sys.argv[1:], strict=False)))
