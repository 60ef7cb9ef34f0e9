"""What `pointsman serve` is told on its command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stages.shared.vllm_generator import DTYPES, VllmSettings

DESCRIPTION = """\
An OpenAI-compatible server for what a channel serves: POST /v1/chat/completions (plain and streaming), GET /v1/models,
/health, /metrics (Prometheus), and a page to ask at /. The question is the last user message, of text; earlier turns
and system messages are not used. temperature, max_tokens, stop and the like are ignored: decoding is greedy, as it was
evaluated. The server follows the channel, and swaps releases without dropping a request; both are in memory then. The
policy runs on this machine's CPU, or with --engine vllm on its GPUs, in the environment of
infra/images/requirements-gpu.txt (tried with vLLM's build for CPUs; no GPU has run it yet).
"""
EPILOG = """\
The key is the environment variable POINTSMAN_API_KEY; without one the server listens on loopback only. /health and the
page need no key. With --budget-usd, each question first reserves the most that it may cost: episode.max_calls calls of
the dearest candidate, each with pool.limits.max_tokens completion tokens and episode.turn_tokens prompt tokens. What it
cost in the end is settled; attempts that failed and were billed all the same come on top. The day is UTC's, and
.pointsman/serving keeps what was spent.
"""


@dataclass(frozen=True)
class Options:
    """Where to listen, whom to follow, and how much is allowed."""

    channel: str
    host: str = "127.0.0.1"
    port: int = 8080
    poll_s: float = 5.0
    allow_unsigned: bool = False
    rate: int | None = None
    """Requests a minute."""
    concurrency: int = 32
    queue: int = 64
    budget_usd: float | None = None
    """A day."""
    grace_s: float = 30.0
    engine: str = "cpu"
    vllm: VllmSettings = field(default_factory=VllmSettings)


def parse_options(argv: Sequence[str] | None = None) -> tuple[Options, Path]:
    """The options, and the path of the parameters."""
    parser = argparse.ArgumentParser(
        prog="pointsman serve", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    many, some = _number(int, 1), _number(float, 0.0)
    add = parser.add_argument
    add("channel", help="for example production")
    add("--host", default=Options.host, help="address to listen on (default: %(default)s)")
    add("--port", type=_number(int, 0, 65535), default=Options.port, help="0 takes a free one (default: %(default)s)")
    add("--poll", dest="poll_s", type=_number(float, 0.05), default=Options.poll_s, metavar="SECONDS",
        help="between looks at the channel (default: %(default)s)")  # fmt: skip
    add("--allow-unsigned", action="store_true", help="also serve a channel whose policy trusts nobody, to try it out")
    add("--rate", type=many, default=Options.rate, help="requests a minute, of all clients together")
    add("--concurrency", type=many, default=Options.concurrency, help="questions at once (default: %(default)s)")
    add("--queue", type=_number(int, 0), default=Options.queue, help="questions that may wait (default: %(default)s)")
    add("--budget-usd", type=some, default=Options.budget_usd, help="dollars that candidates may cost a day")
    add("--grace", dest="grace_s", type=some, default=Options.grace_s, metavar="SECONDS",
        help="for running requests to end when the server is stopped (default: %(default)s)")  # fmt: skip
    add("--engine", choices=("cpu", "vllm"), default=Options.engine, help="what runs the policy (default: %(default)s)")
    add("--dtype", choices=DTYPES, default=VllmSettings.dtype, help="of vLLM's arithmetic (default: %(default)s)")
    add("--gpu-memory", type=_number(float, 0.01, 1.0), default=VllmSettings.memory, metavar="SHARE",
        help="of a GPU's, for each release; two are loaded during a swap (default: %(default)s)")  # fmt: skip
    add("--params", type=Path, default=Path("params.yaml"), help="parameters (default: %(default)s)")
    given = vars(parser.parse_args(argv))
    params: Path = given.pop("params")
    vllm = VllmSettings(given.pop("dtype"), given.pop("gpu_memory"))
    return Options(**given, vllm=vllm), params


def _number(kind: type[int] | type[float], least: float, most: float = sys.maxsize) -> Callable[[str], float]:
    def number(text: str) -> float:
        """Raises ArgumentTypeError for a number that is too small or too large."""
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least:g} and {most:g}")
        return value

    return number
