"""llama.cpp's own HTTP server around one GGUF file: `python -m stages.shared.pool.llama_server --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.shared.files import write_json

if TYPE_CHECKING:
    from xllamacpp import CommonParams

FAILED = 3
"""Exit code when llama.cpp refuses the model."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve on a free loopback port, write its address to `--ready`, and end when standard input does."""
    arguments = _parse(argv)
    from xllamacpp import Server

    try:
        server = Server(_settings(arguments))
    except (RuntimeError, ValueError) as error:
        print(f"llama.cpp cannot serve {arguments.gguf}: {error}", file=sys.stderr)
        return FAILED
    write_json(arguments.ready, {"base_url": f"{server.listening_address}/v1"})
    sys.stdin.buffer.read()
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.shared.pool.llama_server", description=__doc__)
    parser.add_argument("--gguf", type=Path, required=True, help="the model file")
    parser.add_argument("--ready", type=Path, required=True, help="where to write {base_url} once it listens")
    parser.add_argument("--context", type=int, required=True, help="context window of one request, tokens")
    parser.add_argument("--slots", type=int, default=4, help="requests in flight (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    return parser.parse_args(argv)


def _settings(arguments: argparse.Namespace) -> CommonParams:
    from xllamacpp import CommonParams

    settings = CommonParams()
    settings.model.path = str(arguments.gguf)
    settings.model_alias = {arguments.gguf.stem}
    settings.hostnames = ["127.0.0.1"]
    settings.port = 0
    settings.n_parallel = arguments.slots
    settings.n_ctx = arguments.context * arguments.slots
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = arguments.threads
    settings.n_gpu_layers = 0
    settings.cache_ram_mib = 0
    settings.warmup = settings.ui = settings.endpoint_slots = False
    return settings


if __name__ == "__main__":
    raise SystemExit(main())
