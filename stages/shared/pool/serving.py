"""The candidates of a run, up and answering for as long as a block runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from stages.shared.errors import ConfigurationError, TransientError
from stages.shared.files import read_end, read_json, write_json
from stages.shared.params import ApiCandidate, ApiPool, Expert, LocalModel, PoolParams, SandboxPool, WorldParams
from stages.shared.pool.candidate import Candidate

START_S = 20.0
STOP_S = 3.0
ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def serve(pool: PoolParams, world: WorldParams, state: Path) -> Iterator[tuple[Candidate, ...]]:
    """Yield every candidate of the pool, seen and unseen, with an address that answers.

    `sandbox` and `local` start servers on free loopback ports, in process groups of their own, which end with the
    block, with Ctrl-C and with this process; their logs are under `state`/logs. `api` starts nothing.

    Raises ConfigurationError for a pool that cannot be served, TransientError when a server does not come up.
    """
    _check_names(pool)
    _check_fallback(pool)
    if pool.kind == "sandbox":
        with _sandbox(pool, world, state) as candidates:
            yield candidates
    elif pool.kind == "local":
        from stages.shared.pool.llamacpp import serve_local

        with serve_local(pool, state) as candidates:
            yield candidates
    else:
        yield api_candidates(pool)


def api_candidates(pool: ApiPool) -> tuple[Candidate, ...]:
    """The candidates of an API pool, as the parameters name them."""
    return tuple(
        Candidate(
            name=item.name,
            model=item.model,
            base_url=item.base_url,
            price=item.price,
            prompt_price=item.prompt_price,
            seen=item.seen,
            key_env=item.key_env,
            summary=item.summary,
            answers_as=item.answers_as,
            private=item.private,
            headers=tuple(item.headers.items()),
            http2=item.http2,
            timeout_s=item.timeout_s,
            concurrency=item.concurrency,
            max_tokens=item.max_tokens,
            requests_per_minute=item.requests_per_minute,
            tokens_per_minute=item.tokens_per_minute,
            parameters=tuple(sorted(item.parameters.items())),
        )
        for item in pool.candidates
    )


def sandbox_candidates(pool: SandboxPool, base_url: str) -> tuple[Candidate, ...]:
    """The candidates of a sandbox pool that is served at `base_url`."""
    return tuple(
        Candidate(
            name=expert.name,
            model=expert.name,
            base_url=base_url,
            price=expert.price,
            prompt_price=expert.prompt_price,
            seen=expert.seen,
            summary="simulated expert (synthetic)",
        )
        for expert in pool.experts
    )


def _items(pool: PoolParams) -> Sequence[Expert | LocalModel | ApiCandidate]:
    return pool.experts if pool.kind == "sandbox" else pool.models if pool.kind == "local" else pool.candidates


def _check_fallback(pool: PoolParams) -> None:
    """Refuse to reroute from or to nobody, and from a candidate to itself."""
    names, graph = {item.name for item in _items(pool)}, pool.limits.fallback.graph
    for name, others in graph.items():
        unknown = sorted({name, *others} - names)
        if unknown or name in others:
            wrong = f"names {unknown[0]}, which the pool lacks" if unknown else "lets it answer in its own place"
            raise ConfigurationError(f"pool.limits.fallback.graph, {name}: {wrong}; it has {', '.join(sorted(names))}")


def _check_names(pool: PoolParams) -> None:
    """Refuse two candidates of one name, and a pool with nothing to learn on."""
    items = _items(pool)
    names = [item.name for item in items]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(f"pool: the name {twice[0]} is used twice; candidates are called by name, rename one")
    if not any(item.seen for item in items):
        raise ConfigurationError("pool: no candidate is seen; the router needs at least one to train on")


@contextmanager
def _sandbox(pool: SandboxPool, world: WorldParams, state: Path) -> Iterator[tuple[Candidate, ...]]:
    from stages.shared.sandbox.experts import check_experts
    from stages.shared.sandbox.server import Spec

    check_experts(pool.experts)
    log = state / "logs" / "sandbox-server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pointsman-") as folder:
        spec, ready = Path(folder) / "spec.json", Path(folder) / "ready.json"
        write_json(spec, Spec.of(pool, world).dump())
        command = ["stages.shared.sandbox.server", "--spec", str(spec), "--ready", str(ready), "--follow-stdin"]
        with running(command, log) as server:
            yield sandbox_candidates(pool, _wait(server, ready, log))


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m COMMAND` in a process group of its own, tied to this process by its standard input; stop it after.

    What it prints goes to `log`. The group keeps the terminal's Ctrl-C from it, so that the block's clean-up can still
    call it; the pipe closes with this process, however that dies.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.PIPE,
            stdout=stderr,
            stderr=stderr,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path},
        )
    try:
        yield process
    finally:
        _stop(process)


def _wait(server: subprocess.Popen[bytes], ready: Path, log: Path) -> str:
    """The server's base URL, once it listens."""
    deadline = time.monotonic() + START_S
    while not ready.exists():
        if server.poll() is not None:
            raise TransientError(
                f"the sandbox server ended with code {server.returncode} at its start: {_last_line(log)}"
            )
        if time.monotonic() > deadline:
            raise TransientError(f"the sandbox server did not listen within {START_S:.0f} s; see {log}")
        time.sleep(0.01)
    url: str = read_json(ready)["base_url"]
    return url


def _last_line(log: Path) -> str:
    lines = read_end(log)
    return f"{lines[-1]} (see {log})" if lines else f"see {log}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process group: by closing its input, then SIGTERM, then SIGKILL."""
    if process.stdin is not None:
        process.stdin.close()
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(STOP_S)
            return
        except subprocess.TimeoutExpired:
            continue
