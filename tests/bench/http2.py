"""What HTTP/2 costs and saves: the same calls over TLS, by HTTP/1.1 and by HTTP/2, against one server on loopback.

Client and server in processes of their own. CPU is the client's, a call; the first calls of a cold pool pay for the
handshakes of as many connections as there are places. Run by hand as `python tests/bench/http2.py`, or by `make bench`;
writes metrics/bench/http2.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "unit" / "shared" / "pool")]
CALLS, PLACES, RUNS = 1000, 64, 3


async def serve(folder: Path) -> None:
    """Until standard input closes; the first line printed is the port."""
    import socket

    from http2_server import Server, make_certificate
    from hypercorn.asyncio import serve as run
    from hypercorn.config import Config

    certificate, key = make_certificate(folder)
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config, stop, played = Config(), asyncio.Event(), Server()
    config.bind, config.certfile, config.keyfile = [f"fd://{listening.detach()}"], str(certificate), str(key)
    config.accesslog = config.errorlog = None
    config.h2_max_concurrent_streams = 4 * PLACES
    running = asyncio.create_task(run(played, config, shutdown_trigger=stop.wait))  # type: ignore[arg-type]
    print(socket.socket(fileno=os.dup(int(config.bind[0][5:]))).getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    stop.set()
    await running


async def ask(port: int, http2: bool) -> dict[str, float]:
    """Calls of a cold pool, then of a warm one."""
    from stages.shared.params import PoolLimits
    from stages.shared.pool.candidate import Candidate
    from stages.shared.pool.client import HttpPool

    candidate = Candidate("Arlix", "m", f"https://localhost:{port}/v1", 1.0, 1.0, http2=http2)
    async with HttpPool([candidate], PoolLimits(concurrency=PLACES)) as pool:

        async def measured(first: int, count: int) -> tuple[float, float]:
            began, worked = time.perf_counter(), time.process_time()
            replies = await asyncio.gather(*(pool.ask("Arlix", f"q{number}") for number in range(first, first + count)))
            assert {reply.text for reply in replies} == {"bbbbbb"}, replies[0]
            return time.perf_counter() - began, (time.process_time() - worked) / count

        cold = await measured(0, PLACES)
        return {"cold_s": cold[0], "cold_cpu_us": 1e6 * cold[1], "cpu_us": 1e6 * (await measured(PLACES, CALLS))[1]}


def child(port: int, folder: Path, http2: bool) -> dict[str, float]:
    """One client in a process of its own, which trusts the server."""
    command = [sys.executable, __file__, "--port", str(port), *(["--http2"] if http2 else [])]
    known = {**os.environ, "SSL_CERT_FILE": str(folder / "certificate.pem")}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=known)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure in turn, print and write."""
    with tempfile.TemporaryDirectory() as place:
        folder, command = Path(place), [sys.executable, __file__, "--serve", place]
        with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as server:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            runs = [[child(port, folder, http2) for http2 in (True, False)] for _ in range(RUNS)]
            server.communicate("")
    rows = [_row(name, unit, *(median(run[place][key] for run in runs) for place in (0, 1))) for key, name, unit in (
        ("cpu_us", "CPU of a call", "us"), ("cold_cpu_us", f"CPU of each of the first {PLACES} calls", "us"),
        ("cold_s", f"the first {PLACES} calls", "s"))]  # fmt: skip
    for row in rows:
        print(f"{row['name']}: {row['ours']} {row['unit']}; {row['against']}: {row['theirs']}; {row['ratio']}")
    (ROOT / "metrics" / "bench" / "http2.json").write_text(json.dumps(rows, indent=2, sort_keys=True) + "\n")


def _row(name: str, unit: str, mine: float, theirs: float) -> dict[str, Any]:
    return {
        "name": f"http2, {name}", "unit": unit, "ours": round(mine, 3), "against": "HTTP/1.1",
        "theirs": round(theirs, 3), "ratio": round(mine / theirs, 3), "limit": None, "runs": RUNS,
        "command": "python tests/bench/http2.py",
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", type=Path)
    parser.add_argument("--port", type=int)
    parser.add_argument("--http2", action="store_true")
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.serve))
    elif given.port:
        print(json.dumps(asyncio.run(ask(given.port, given.http2))))
    else:
        main()
