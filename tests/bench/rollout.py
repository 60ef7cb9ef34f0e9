"""Episodes a second of our rollout against a turn-synchronous loop of Router-R1's kind: same policy, same candidates.

Theirs generates for the whole batch, asks ten threads for all replies, waits for the last, and begins the next turn;
ours plays every episode on its own. Candidates are simulated, answer over real HTTP, and take heavy-tailed times (log-
normal, sigma 1) that depend on the question alone, so that both wait for the same. The policy is a random tiny one
whose every token is computed, and whose text is then replaced by a script, since a random one calls nobody. The bound
is what no rollout can beat: the longest chain of calls of one episode.

Run by hand as `python tests/bench/rollout.py`, or by `make bench`; writes metrics/bench/rollout.json.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from stages.shared.batching import BatchedGenerator  # noqa: E402
from stages.shared.episode.driver import run_episode  # noqa: E402
from stages.shared.episode.prompt import chat_ids, render_prompt  # noqa: E402
from stages.shared.episode.protocol import STOPS  # noqa: E402
from stages.shared.episode.roster import make_roster  # noqa: E402
from stages.shared.episode.types import Generate, Generation, Roster  # noqa: E402
from stages.shared.files import write_json  # noqa: E402
from stages.shared.params import EpisodeParams, Expert, PoolLimits, SandboxPool, TinyPolicy, WorldParams  # noqa: E402
from stages.shared.pool.candidate import Candidate, Descriptor, TopicSkill  # noqa: E402
from stages.shared.pool.client import HttpPool  # noqa: E402
from stages.shared.pool.instruction import candidate_message  # noqa: E402
from stages.shared.pool.serving import serve  # noqa: E402
from stages.train.tiny.model import build_model  # noqa: E402
from stages.train.tiny.tokenizer import build_tokenizer  # noqa: E402

RUNS = 2
MEDIAN_S = 1.0
"""Of a call: what a hosted model takes for a few dozen tokens. The shorter calls are, the more the policy's own speed
counts, and the less how calls are waited for: at 0.4 s, 64 episodes came to 2.5 times and 0.73 of the bound."""
THREADS = 10
"""Of the original: ThreadPoolExecutor(max_workers=10) in its routing service."""
CALLS = (1, 1, 1, 2, 2, 3, 4)
"""Calls of an episode, drawn evenly."""
BATCHES = (64, 128)
"""The paper's batch, and that of the sandbox."""
LIMIT, SHARE = 3.0, 0.8
EXPERTS = ("Arlix", "Bomon", "Cyqun", "Devex", "Elzor", "Fitus")
EPISODE = EpisodeParams(
    max_calls=4, prompt_tokens=400, response_tokens=400, turn_tokens=64, reply_tokens=24, prompt="compact"
)
POOL = SandboxPool(
    experts=tuple(
        Expert(name=name, skill=dict.fromkeys(("plant", "song", "stone", "town"), 0.7), price=1.0, latency_s=MEDIAN_S,
               latency_sigma=1.0)
        for name in EXPERTS
    ),
    time_scale=1.0,
    limits=PoolLimits(concurrency=128, timeout_s=120.0, max_tokens=64),
)  # fmt: skip


@dataclass(frozen=True)
class Script:
    """What an episode says, turn by turn, and whom it asks what."""

    turns: tuple[str, ...]
    calls: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Stand:
    """Everything that both rollouts share."""

    words: Any
    generator: BatchedGenerator
    candidates: tuple[Candidate, ...]
    roster: Roster
    scripts: tuple[Script, ...]

    @property
    def prompt(self) -> list[int]:
        """The same for all."""
        question = "what is the anthem of the quarry of zumako ?"
        return chat_ids(self.words, render_prompt(question, self.roster, EPISODE.prompt, EPISODE.max_calls))


def scripts(count: int, seed: int) -> tuple[Script, ...]:
    """Episodes of one to four calls, no question twice."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        calls = [(rng.choice(EXPERTS), f"what is the quarry of zu{seed}ma{number}ko{turn} ?")
                 for turn in range(rng.choice(CALLS))]  # fmt: skip
        asking = [f"<think> topic stone </think> <search> {name} : {query} </search>" for name, query in calls]
        found.append(Script((*asking, "<think> done </think> <answer> belane </answer>"), tuple(calls)))
    return tuple(found)


def speaker(stand: Stand, script: Script) -> Generate:
    """The policy of one episode: as many tokens as the script's next turn are sampled, then the script's are taken."""
    turns = iter(script.turns)

    async def generate(context: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> Generation:
        """See `Generate`."""
        ids = stand.words.encode(next(turns), add_special_tokens=False)
        sampled = await stand.generator.generate(context, max_tokens=len(ids), temperature=1.0)
        assert len(sampled.token_ids) == len(ids)
        return Generation(tuple(ids), sampled.log_probs, "stop")

    return generate


async def ours(stand: Stand) -> float:
    """Every episode on its own; returns the longest chain of calls, seconds, as the candidates report it."""
    async with HttpPool(stand.candidates, POOL.limits) as pool:
        played = await asyncio.gather(*[
            run_episode(stand.prompt, stand.roster, speaker(stand, script), pool, stand.words, EPISODE)
            for script in stand.scripts
        ])  # fmt: skip
    assert all(len(one.calls) == len(script.calls) for one, script in zip(played, stand.scripts, strict=True))
    return max(sum(call.reply.latency_s for call in episode.calls) for episode in played)


async def theirs(stand: Stand) -> None:
    """Turn by turn, the whole batch each time, replies by ten threads."""
    contexts = [list(stand.prompt) for _ in stand.scripts]
    speakers = [speaker(stand, script) for script in stand.scripts]
    address = {candidate.name: candidate for candidate in stand.candidates}
    with httpx.Client(timeout=120.0) as client, ThreadPoolExecutor(THREADS) as threads:
        for turn in range(EPISODE.max_calls + 1):
            active = [place for place, script in enumerate(stand.scripts) if turn < len(script.turns)]
            said = await asyncio.gather(*[speakers[i](contexts[i], max_tokens=64, stop=STOPS) for i in active])
            for place, generation in zip(active, said, strict=True):
                contexts[place] += generation.token_ids
            asking = [place for place in active if turn < len(stand.scripts[place].calls)]
            calls = [stand.scripts[place].calls[turn] for place in asking]
            replies = threads.map(lambda call: ask(client, address[call[0]], call[1]), calls)
            for place, reply in zip(asking, replies, strict=True):
                text = f"<information> {reply} </information>"
                contexts[place] += stand.words.encode(text, add_special_tokens=False)[: EPISODE.reply_tokens]


def ask(client: httpx.Client, candidate: Candidate, query: str) -> str:
    """One blocking call."""
    message = {"role": "user", "content": candidate_message(query)}
    body = {"model": candidate.model, "messages": [message], "max_tokens": POOL.limits.max_tokens}
    reply = client.post(f"{candidate.base_url}/chat/completions", json=body).raise_for_status().json()
    text: str = reply["choices"][0]["message"]["content"]
    return text


def measure(count: int, make: Callable[[int], Stand]) -> list[dict[str, object]]:
    """Both in turn, each with questions of its own run, `RUNS` times."""
    rates, bounds = {"ours": list[float](), "theirs": list[float]()}, []
    for run in range(RUNS):
        stand = make(run)
        began = time.perf_counter()
        chain = asyncio.run(_closing(stand, ours(stand)))
        between = time.perf_counter()
        again = make(run)
        middle = time.perf_counter()
        asyncio.run(_closing(again, theirs(again)))
        rates["ours"].append(count / (between - began))
        rates["theirs"].append(count / (time.perf_counter() - middle))
        bounds.append(count / chain)
    mine, other, bound = median(rates["ours"]), median(rates["theirs"]), median(bounds)
    share = median(rate / most for rate, most in zip(rates["ours"], bounds, strict=True))
    row = {"ours": round(mine, 2), "unit": "episodes/s", "runs": RUNS, "command": "python tests/bench/rollout.py"}
    return [
        {"name": f"rollout, {count} episodes", "against": f"turn-synchronous, {THREADS} threads",
         "theirs": round(other, 2), "limit": LIMIT, "ratio": round(mine / other, 2), **row},
        {"name": f"rollout, {count} episodes, of the bound", "against": "the longest chain of calls alone",
         "theirs": round(bound, 2), "limit": SHARE, "ratio": round(share, 2), **row},
    ]  # fmt: skip


async def _closing(stand: Stand, work: Any) -> Any:
    async with stand.generator:
        return await work


def main() -> None:
    """Measure, print and write every batch size."""
    torch.set_num_threads(1)
    words = build_tokenizer()
    policy = TinyPolicy(width=128, layers=5, heads=4)
    model = build_model(policy, len(words), words.pad_token_id, words.eos_token_id, seed=0).eval()
    words.eos_token = model.config.eos_token_id = model.generation_config.eos_token_id = None
    skill = {"stone": TopicSkill(0.7, 0.7, 20)}
    roster = make_roster([Descriptor(name, 1.0, MEDIAN_S, skill) for name in EXPERTS])
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as state, serve(POOL, WorldParams(), Path(state)) as candidates:
        for count in BATCHES:

            def make(run: int, count: int = count) -> Stand:
                """Of one run; a generator belongs to one event loop."""
                generator = BatchedGenerator(model, words, max_rows=count)
                return Stand(words, generator, candidates, roster, scripts(count, run))

            rows += measure(count, make)
    for row in rows:
        print(
            f"{row['name']}: {row['ours']} {row['unit']}; {row['against']}: {row['theirs']}; {row['ratio']} times, "
            f"at least {row['limit']} wanted"
        )
    write_json(ROOT / "metrics" / "bench" / "rollout.json", rows)


if __name__ == "__main__":
    main()
