"""A whole evaluation of 3,625 questions by every method that records alone can fit, from replay.

`python tests/bench/evaluation.py`: sandbox questions in the shapes of the seven sets, the default's six experts, 320 of
profiling. Every reply is in a replay record and every embedding cached before the clock starts. Timed: the replies read
back, 16 methods fitted and asked, fixed candidates, random and oracle beside; the replies marked (the second mode,
without a policy, which no record can replay); every metric with its intervals; the ledger, the metrics and the report
written. The best fixed candidate stands where the router would. Each size runs in a process of its own, on one thread,
and tells its CPU seconds and its peak memory. Limits: `LIMIT_S` for all questions, `LIMIT_MB`, and twice as many
questions may take at most `GROWTH` times as long, fitting aside. Writes metrics/bench/evaluation.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from stages.evaluate.attempt import Attempt, PoolName, Result  # noqa: E402
from stages.evaluate.contest import Contest, Entrants, Standing, attempts  # noqa: E402
from stages.evaluate.episodes import growing  # noqa: E402
from stages.evaluate.heat import Heat  # noqa: E402
from stages.evaluate.marking import load_marker  # noqa: E402
from stages.evaluate.measure import Call, Line, Measurement, Table, distinct_parts  # noqa: E402
from stages.evaluate.metrics import BEFORE_PPO, ROUTER, evaluate  # noqa: E402
from stages.evaluate.oracle import Probe  # noqa: E402
from stages.evaluate.own import Own, Tariff  # noqa: E402
from stages.evaluate.player import Player  # noqa: E402
from stages.evaluate.records import Record  # noqa: E402
from stages.evaluate.replay.address import address, fingerprints  # noqa: E402
from stages.evaluate.replay.pool import RecordedPool  # noqa: E402
from stages.evaluate.replay.record import open_record  # noqa: E402
from stages.evaluate.report.examples import examples  # noqa: E402
from stages.evaluate.report.page import Material, render  # noqa: E402
from stages.evaluate.routers.catalogue import FITS, SLOW  # noqa: E402
from stages.evaluate.routers.encoder import Kept, Remembering, minilm  # noqa: E402
from stages.evaluate.routers.protocol import Asked  # noqa: E402
from stages.evaluate.sheet import Measured, Roll  # noqa: E402
from stages.evaluate.statistics import Resamples  # noqa: E402
from stages.ingest.sandbox import make_questions  # noqa: E402
from stages.shared.episode.roster import make_roster  # noqa: E402
from stages.shared.files import sha256, write_json, write_text  # noqa: E402
from stages.shared.params import DATASETS, Expert, Params, WorldParams, load_params  # noqa: E402
from stages.shared.pool.candidate import Candidate, Descriptor, Outcome, Pool, Reply, TopicSkill  # noqa: E402
from stages.shared.questions import Question  # noqa: E402
from stages.shared.sandbox.experts import respond  # noqa: E402
from stages.shared.sandbox.lexicon import DOMAINS  # noqa: E402
from stages.shared.sandbox.world import World  # noqa: E402
from stages.shared.scoring import contains  # noqa: E402

ALL, PROFILING, ENTITIES, SPARE = 3_625, 320, 2_000, 40
"""SPARE: more of each set than are needed, since two sets may ask the same."""
SIZES = (ALL // 4, ALL // 2, ALL)
LIMIT_S, LIMIT_MB, GROWTH = 60.0, 2048.0, 2.4
METHODS = tuple(name for name in FITS if name not in SLOW)
COMMAND = "python tests/bench/evaluation.py"
NOBODY = Player(None, None, None, None)  # type: ignore[arg-type]
"""No policy plays on records."""


def main() -> int:
    """Run every size, print, write; 1 where a limit is broken."""
    given = _parser().parse_args()
    if given.size:
        print(json.dumps(measured(given.size, given.record, given.embeddings)))
        return 0
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as scratch:
        record, embeddings = Path(scratch) / "replies.sqlite", ROOT / ".pointsman" / "embeddings"
        prepare(record, embeddings)
        found = [in_a_process(size, record, embeddings) for size in SIZES]
    for size, row in zip(SIZES, found, strict=True):
        print(f"{size:>5} questions: {row['seconds']:.1f} s of CPU ({row['wall']:.1f} s), of these {row['fit']:.1f} s "
              f"fitting; peak {row['megabytes']:.0f} MiB; {row['failed']} methods failed", flush=True)  # fmt: skip
    rows = told(found)
    for row in rows:
        print(f"{row['name']}: {row['ours']:.2f} {row['unit']}, at most {row['theirs']:g}: ratio {row['ratio']:.2f}")
    write_json(ROOT / "metrics" / "bench" / "evaluation.json", rows)
    return int(any(row["ours"] > row["theirs"] for row in rows) or any(row["failed"] for row in found))


def told(found: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """A row a limit; `ratio` is ours as a share of it."""
    half, whole = (row["seconds"] - row["fit"] for row in found[1:])
    figures = {
        f"whole evaluation of {ALL} questions, {len(METHODS)} methods": (found[-1]["seconds"], LIMIT_S, "s of CPU"),
        "its peak memory": (max(row["megabytes"] for row in found), LIMIT_MB, "MiB"),
        "twice the questions, fitting aside": (whole / half, GROWTH, "times as long"),
    }
    sizes = {str(size): dict(row) for size, row in zip(SIZES, found, strict=True)}
    return [
        {"name": name, "ours": ours, "against": "the limit", "theirs": limit, "limit": 1.0, "ratio": ours / limit,
         "unit": unit, "runs": 1, "command": COMMAND, "sizes": sizes}
        for name, (ours, limit, unit) in figures.items()
    ]  # fmt: skip


def in_a_process(size: int, record: Path, embeddings: Path) -> dict[str, float]:
    """What one size takes, on one thread."""
    command = [sys.executable, __file__, "--size", str(size), "--record", str(record), "--embeddings", str(embeddings)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@dataclass(frozen=True)
class Setting:
    """What is evaluated, of one size."""

    params: Params
    world: World
    questions: tuple[Question, ...]
    profiling: tuple[Question, ...]
    line: Line

    @property
    def experts(self) -> dict[str, Expert]:
        """Those that are seen, by name."""
        assert self.params.pool.kind == "sandbox"
        return {expert.name: expert for expert in self.params.pool.experts if expert.seen}


def setting(size: int) -> Setting:
    """The first so many questions, the sets in turn."""
    params = load_params(ROOT / "params.yaml")
    params = params.model_copy(update={"world": WorldParams(entities=ENTITIES)})
    world, per_set = World.generate(params.world), -(-ALL // len(DATASETS)) + SPARE
    sets = [make_questions(world, name, "test", per_set, random.Random(name)) for name in DATASETS]
    distinct = {item.id: item for row in zip(*sets, strict=True) for item in row}
    questions = [*distinct.values()][:size]
    profiling = [item for name in DATASETS for item in make_questions(
        world, name, "profiling", -(-PROFILING // len(DATASETS)), random.Random(name))][:PROFILING]  # fmt: skip
    assert params.pool.kind == "sandbox"
    seen = [expert for expert in params.pool.experts if expert.seen]
    descriptors = [
        Descriptor(item.name, item.price, item.latency_s, {name: TopicSkill(item.skill[name], item.skill[name], 80)
                                                           for name in DOMAINS})
        for item in seen
    ]  # fmt: skip
    candidates = tuple(
        Candidate(item.name, item.name, "http://127.0.0.1:1/v1", item.price, item.prompt_price) for item in seen
    )
    line = Line("seen", make_roster(descriptors), candidates)
    ordered = sorted(questions, key=lambda item: DATASETS.index(item.dataset))
    return Setting(params, world, tuple(ordered), tuple(profiling), line)


def prepare(record: Path, embeddings: Path) -> None:
    """Every reply into the record, every embedding into its folder."""
    whole = setting(ALL)
    prints = fingerprints(whole.params, whole.line.candidates)
    with open_record(record) as kept:
        for candidate in whole.line.candidates:
            for text in {*(item.question for item in whole.questions),
                         *(part.question for part in distinct_parts(whole.questions))}:  # fmt: skip
                place = address(prints[candidate.name], whole.params, text)
                kept.keep(place, prints[candidate.name], candidate, text, replied(whole, candidate.name, text))
    for size in SIZES:
        for texts in embedded(setting(size)):
            Kept(minilm, embeddings)(texts)


def embedded(found: Setting) -> Iterator[list[str]]:
    """The lists of texts that an evaluation embeds."""
    yield [item.question for item in found.profiling]
    yield [item.question for item in found.questions]


def replied(found: Setting, name: str, text: str) -> Reply:
    """What the simulated expert says."""
    said = respond(found.world, found.experts[name], text)
    return Reply(said.text, Outcome.ANSWERED, said.prompt_tokens, said.completion_tokens, latency_s=said.latency_s)


class Unreachable:
    """Candidates behind no network: to ask one fails the bench."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = {item.name: item for item in candidates}

    async def ask(self, name: str, query: str) -> Reply:
        """Never."""
        raise RuntimeError(f"{name} was asked {query!r}: it is not replayed")

    async def check(self) -> None:
        """Never."""
        raise RuntimeError("an endpoint was to be checked")


def measured(size: int, record: Path, embeddings: Path) -> dict[str, float]:
    """One whole evaluation: seconds, of these to fit, peak memory, methods that failed."""
    found = setting(size)
    encode = Remembering(lambda texts: Kept(minilm, embeddings)(texts))
    for texts in embedded(found):
        encode(texts)
    records = [
        Record(item.question, name, float(contains(said.text, item.answers)), said.completion_tokens * expert.price,
               said.text)
        for item in found.profiling for name, expert in found.experts.items()
        for said in [respond(found.world, expert, item.question)]
    ]  # fmt: skip
    settings = found.params.evaluate.model_copy(update={"methods": METHODS})
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as scratch:
        marker = load_marker(Path(scratch))
        contest = Contest([found.line], records, settings, encode, marker)
        fit = fitting(contest, found, record)
        wall, start = time.perf_counter(), time.process_time()
        failed = whole(contest, found, record, Path(scratch))
        seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "wall": time.perf_counter() - wall, "fit": fit, "megabytes": peak,
            "failed": len(failed)}  # fmt: skip


def fitting(contest: Contest, found: Setting, record: Path) -> float:
    """CPU seconds to fit every method and ask it one question: what does not grow with their number."""
    few = replace(found, questions=found.questions[:1])
    table = replayed(few, few.questions, record)
    start = time.process_time()
    with ThreadPoolExecutor(1) as thread:
        heat(contest, few, thread).decided(found.line, table)
    return time.process_time() - start


def heat(contest: Contest, found: Setting, thread: Executor) -> Heat:
    """All questions as one chunk, with nobody to play."""
    measurement = Measurement(NOBODY, NOBODY, found.questions, Tariff(0.0, 0.0), in_flight=1, progress=None)  # type: ignore[arg-type]
    return Heat(Entrants(contest, measurement, thread), measurement)


def whole(contest: Contest, found: Setting, record: Path, folder: Path) -> Mapping[Any, str]:
    """Play, mark, measure and write all of it; the methods that failed."""
    table = replayed(found, found.questions, record)
    with ThreadPoolExecutor(1) as thread, growing(folder) as episodes:
        held = heat(contest, found, thread)
        choices = held.decided(found.line, table)
        for results in marked(contest, found, table, choices):
            episodes.add(results)
        episodes.save(folder / "episodes.parquet")
        write(folder, found, held.entrants.standing)
    return held.entrants.standing.failures


def replayed(found: Setting, questions: Sequence[Question], record: Path) -> Table:
    """Every reply to these questions and their parts, from the record, as an attempt of its own."""
    with open_record(record) as kept:
        prints = fingerprints(found.params, found.line.candidates)
        pool = RecordedPool(Unreachable(found.line.candidates), kept, found.params, prints)
        table = asyncio.run(_asked(found, questions, pool))
    if pool.tally.asked:
        raise RuntimeError(f"{pool.tally.asked} replies were not replayed")
    return table


async def _asked(found: Setting, questions: Sequence[Question], pool: Pool) -> Table:
    calls, parts = {}, {}
    for candidate in found.line.candidates:
        for item in questions:
            reply = await pool.ask(candidate.name, item.question)
            calls[item.id, candidate.name] = Call(attempt(item, candidate, reply), reply.text)
        for part in distinct_parts(questions):
            reply = await pool.ask(candidate.name, part.question)
            tokens = (reply.prompt_tokens, reply.completion_tokens)
            parts[part.question, candidate.name] = Probe(
                candidate.name, contains(reply.text, part.answers), reply.cost(candidate), reply.cost_total(candidate),
                reply.latency_s, tokens,
            )  # fmt: skip
    return Table(calls, parts)


def attempt(question: Question, candidate: Candidate, reply: Reply) -> Attempt:
    """The reply itself as the answer."""
    return Attempt(
        question, reply.text, reply.cost(candidate), reply.cost_total(candidate), (candidate.name,), Own(), Own(), (),
        f"<information> {reply.text} </information>", reply.latency_s,
        tokens=((reply.prompt_tokens, reply.completion_tokens),), reply=reply.text,
    )  # fmt: skip


def marked(contest: Contest, found: Setting, table: Table, choices: Mapping[Any, Any]) -> Iterator[list[Result]]:
    """Every method's results; the best fixed candidate stands for the router and for the policy before PPO."""
    questions, line = found.questions, found.line
    asked = Asked(tuple(item.question for item in questions), np.empty((len(questions), 0)))
    made = dict(choices) | {name: each.decide(asked) for name, each in contest.plain(line).items()}
    played = {name: attempts(questions, table, each) for name, each in made.items()}
    played["oracle"] = contest.oracle(questions, line, table)
    best = max((name for name in played if name.startswith("fixed:")), key=lambda name: right(played[name]))
    played |= {ROUTER: played[best], BEFORE_PPO: played[best]}
    for name, group in played.items():
        yield contest.marker.mark(name, line.pool, group)


def right(attempts: Sequence[Attempt]) -> int:
    """How many replies hold a gold answer."""
    return sum(contains(item.prediction, item.question.answers) for item in attempts)


def write(folder: Path, found: Setting, standing: Standing) -> None:
    """All that a stage writes of the episodes."""
    path, settings = folder / "episodes.parquet", found.params.evaluate
    seen = Measured(pyarrow.dataset.dataset(path), Roll.of(found.questions), "seen")
    resamples = Resamples(seen.sizes, settings.resamples, settings.confidence, settings.seed)
    names: dict[PoolName, Sequence[str]] = {"seen": found.line.names, "all": found.line.names}
    evaluation = evaluate(
        seen, None, names, resamples, synthetic=True, seed=settings.seed, count=settings.resamples,
        failed=standing.by_pool,
    )  # fmt: skip
    write_json(folder / "evaluate.json", evaluation.to_json())
    descriptors = [entry.descriptor for entry in found.line.roster.entries]
    shown = examples(seen, ROUTER, BEFORE_PPO, settings.seed)
    page = render(Material(found.params, evaluation, shown, seen.n, descriptors, {}, sha256(path)))
    write_text(folder / "report.html", page)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A whole evaluation from replay.")
    parser.add_argument("--size", type=int, help="measure so many questions, and print what it takes as JSON")
    parser.add_argument("--record", type=Path, help="of replies, for --size")
    parser.add_argument("--embeddings", type=Path, help="folder of those, for --size")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
