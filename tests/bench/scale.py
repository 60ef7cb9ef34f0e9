"""Ingest and evaluation of many sandbox questions: time a question, and the most memory, as they grow.

For each size: the stage ingest as it is (questions drawn, copies and leaks looked for, expectations, parquet), then the
evaluation on records: every simulated expert's answer to every test question, and routers fitted on 2,000 profiling
questions, with the oracle, chance and the best fixed expert beside, with bootstrap intervals. Embeddings there are
hashed words: MiniLM takes its time a text, whatever their number. Each runs in a process of its own, whose CPU time
and resident memory are read; the bench ends at the first that takes more memory than 2 GiB.

`--play CHECKOUT` measures the stage evaluate in their place, in a clone that has run: all methods, experts over HTTP,
ledger, record, metrics and report as they are. With `--scripted` a script writes what a policy would write: a network
takes its time a token, and its caches their place, whatever the number of questions.

Run by hand as `python tests/bench/scale.py`; writes metrics/bench/scale.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import psutil
import pyarrow.parquet as pq
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from stages.evaluate.tables.contest import hold  # noqa: E402
from stages.evaluate.tables.table import RecordTable, Rows  # noqa: E402
from stages.shared.files import write_json  # noqa: E402
from stages.shared.params import EvaluateParams, load_params  # noqa: E402
from stages.shared.params.evaluate import Method  # noqa: E402
from stages.shared.questions import iter_questions  # noqa: E402
from stages.shared.sandbox.experts import respond  # noqa: E402
from stages.shared.sandbox.world import World  # noqa: E402
from stages.shared.workspace import Workspace  # noqa: E402

if TYPE_CHECKING:
    from stages.evaluate.player import Player
    from stages.shared.episode.types import Generation
    from stages.shared.params import Params
    from stages.shared.pool.candidate import Pool

LIMIT_MIB = 2048
ENTITIES = 140_000
"""Of each type: a set asks about half of a fifth of them, and needs 214,285 different questions of a million."""
LOOK_S, LEAST = 2.0, 20
"""Between two looks at a process; looks that tell how its memory grows."""
SETS, FITTED = 7, 2_000
CHUNK = "BENCH_CHUNK"
"""The environment variable that sets the questions of a chunk, where `--chunk` asks for other than the stage takes."""
METHODS: tuple[Method, ...] = ("knn", "avengers-pro", "routellm-mf")
DIMENSIONS = 384


def hashed(texts: Any) -> np.ndarray:
    """Unit vectors of hashed words, shape (texts, 384)."""
    found = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.split():
            found[row, crc32(word.encode()) % DIMENSIONS] += 1.0
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def measured(part: str, folder: Path) -> dict[str, float]:
    """CPU seconds and peak resident MiB of a part of this bench in a process of its own; of a stage that says how far
    it is also `later`, MiB by which memory grew over the second half of its work.
    """
    env = dict(os.environ) | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--part", part]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=errors) as process:
            points = list(watched(process, folder / ".pointsman/progress/evaluate.json"))
        texts = [file.seek(0) or file.read() for file in (out, errors)]
    if process.returncode:
        raise SystemExit(f"{part} failed:\n{texts[0][-2000:]}{texts[1][-4000:]}")
    found: dict[str, float] = json.loads(texts[0].splitlines()[-1])
    return found | ({"later": later(points)} if len(points) > LEAST else {})


def watched(process: subprocess.Popen[bytes], progress: Path) -> Iterator[tuple[float, float]]:
    """While a process runs: the share of its work that is done, and its resident MiB."""
    began = time.time()
    while process.poll() is None:
        time.sleep(LOOK_S)
        if progress.is_file() and progress.stat().st_mtime > began:
            with suppress(psutil.Error):
                told = json.loads(progress.read_text())
                yield told["done"] / told["total"], psutil.Process(process.pid).memory_info().rss / (1 << 20)


def later(points: Sequence[tuple[float, float]]) -> float:
    """MiB by which memory grew over the second half of the work, on the line of least squares through what was seen:
    what fills up once, as a chunk, has filled up by then. A row group of the table fills up and is written again and
    again: of fewer than a few thousand questions the figure is an upper bound.
    """
    shares, mib = np.array([point for point in points if 0.5 <= point[0] < 1.0]).T
    return round(float(np.polyfit(shares, mib, 1)[0]) / 2, 2)


def ingest(folder: Path) -> None:
    """The stage."""
    from stages.ingest.__main__ import main as stage

    stage(load_params(folder / "params.yaml"), Workspace(folder))


def prepare(folder: Path, questions: int) -> None:
    """The parameters of the sandbox, with so many test questions in all."""
    params = yaml.safe_load((ROOT / "infra/profiles/sandbox.yaml").read_text())
    params["world"]["entities"] = ENTITIES
    params["ingest"]["sizes"] = {
        "train": 1_500, "profiling": FITTED // 2, "validation": 60, "test": questions // SETS
    }  # fmt: skip
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def evaluate(folder: Path) -> None:
    """Every expert's answers to the test questions, and what routers fitted on the profiling questions make of them."""
    params = load_params(folder / "params.yaml")
    assert params.pool.kind == "sandbox"
    world, experts = World.generate(params.world), [each for each in params.pool.experts if each.seen]

    def rows(split: str) -> Rows:
        """Of a split: right or not, and what it costs, for each expert."""
        path = folder / "artifacts/ingest" / f"{split}.parquet"
        count, texts = pq.read_metadata(path).num_rows, []
        scores, costs = (np.empty((count, len(experts)), dtype=np.float32) for _ in range(2))
        for place, question in enumerate(iter_questions(path)):
            replies = [respond(world, expert, question.question) for expert in experts]
            texts.append(question.question)
            scores[place] = [reply.correct for reply in replies]
            costs[place] = [reply.cost(expert) for reply, expert in zip(replies, experts, strict=True)]
        return Rows(tuple(texts), scores, costs)

    names = tuple(expert.name for expert in experts)
    table = RecordTable("sandbox", names, "USD/1M", rows("profiling"), rows("test"))
    standing = hold(table, METHODS, hashed, EvaluateParams())
    write_json(folder / "standing.json", {
        "n": standing.n_test, "failed": standing.failed,
        "scores": {score.method: [score.accuracy, score.low, score.high] for score in standing.scores},
    })  # fmt: skip


def play(folder: Path) -> None:
    """The stage evaluate: policies play every question by every method."""
    from stages.evaluate.__main__ import main as stage

    stage(load_params(folder / "params.yaml"), Workspace(folder))


def script(folder: Path) -> None:
    """The same, but a script stands for both policies."""
    from stages.evaluate import __main__ as stage
    from stages.evaluate import heat

    heat.CHUNK = int(os.environ.get(CHUNK) or heat.CHUNK)
    stage.load_players = scripted  # type: ignore[attr-defined]
    stage.main(load_params(folder / "params.yaml"), Workspace(folder))


async def scripted(stack: AsyncExitStack, train: Path, params: Params, pool: Pool) -> tuple[Player, Player]:
    """Two players who call somebody whom the prompt shows, once or twice, and answer with what they are told last."""
    from stages.evaluate.player import Player
    from stages.shared.episode.types import Generation
    from stages.shared.policy import load_tokenizer

    tokenizer = load_tokenizer(train / "warm_start")

    async def generate(context: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> Generation:
        """The next turn."""
        text = tokenizer.decode(list(context))
        question = re.findall(r"question : (.*?) <", text)[0]
        told = re.findall(r"<information> (.*?) </information>", text)
        names = re.findall(r"\d+ \d+ ([A-Z]\w*)", text)
        if text.endswith("<answer>"):
            written = f" {told[-1] if told else 'nobody knows'} </answer>"
        elif len(told) <= len(question) % 2:
            name = names[(len(question) + len(told)) % len(names)]
            written = f"<think> somebody knows </think> <search> {name} : {question} </search>"
        else:
            written = f"<think> done </think> <answer> {told[-1]} </answer>"
        return Generation(tuple(tokenizer.encode(written)[:max_tokens]), None, "stop")

    player = Player(generate, tokenizer, params.episode, pool)
    return player, player


PARTS = {"ingest": ingest, "evaluate": evaluate}
ALL_PARTS = {**PARTS, "play": play, "script": script}
STAGE = {"ingest": "ingest", "evaluate": "records"}
"""Whose memory a part tells: that of records is of `pointsman records evaluate`, that of the stage of `play`."""


def main() -> None:
    """Grow from `--first` to `--most`, `--times` as many at a time; print and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=62_500)
    parser.add_argument("--most", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=4)
    parser.add_argument("--play", type=Path, metavar="CHECKOUT", help="a clone to measure policies in, that has run")
    parser.add_argument("--chunk", type=int, help="questions of a chunk of --scripted (default: as the stage has it)")
    parser.add_argument("--scripted", action="store_true", help="a script in the place of the policies of --play")
    parser.add_argument("--part", choices=ALL_PARTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        ALL_PARTS[given.part](Path.cwd())
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps({"cpu_s": round(used.ru_utime + used.ru_stime, 1), "mib": round(used.ru_maxrss / 1024)}))
        return
    if given.play:
        os.environ |= {CHUNK: str(given.chunk)} if given.chunk else {}
        played(given.play, given.first, given.most, given.times, "script" if given.scripted else "play")
        return
    rows: list[dict[str, Any]] = []
    size = given.first
    while size <= given.most:
        rows.append(of_size(size))
        tell(rows)
        keep(summary(rows))
        if max(rows[-1][work]["mib"] for work in PARTS) > LIMIT_MIB:
            break
        size *= given.times


def of_size(questions: int) -> dict[str, Any]:
    """What each part takes with so many test questions."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder, questions)
        found: dict[str, Any] = {"questions": questions}
        for work in PARTS:
            found[work] = measured(work, folder)
            found[work]["us_a_question"] = round(1e6 * found[work]["cpu_s"] / questions, 1)
        found["standing"] = json.loads((folder / "standing.json").read_text())
    return found


def played(checkout: Path, first: int, most: int, times: int, part: str) -> None:
    """The stage `evaluate` with so many test questions, in a clone that holds what the stages before it made.

    The least size takes a part of a chunk: what a full one adds is in the next.
    """
    path, questions = checkout / "params.yaml", first
    params, sizes = yaml.safe_load(path.read_text()), list[dict[str, Any]]()
    params["world"]["entities"] = max(params["world"]["entities"], most)
    chunk = f" --chunk {os.environ[CHUNK]}" if CHUNK in os.environ else ""
    command = f"python tests/bench/scale.py --play CHECKOUT --first {first} --most {most} --times {times}"
    common = {"stage": "evaluate", "runs": 1, "candidates": len(params["pool"]["experts"]), "sizes": sizes,
              "command": command + (" --scripted" if part == "script" else "") + chunk}  # fmt: skip
    while questions <= most:
        params["ingest"]["sizes"]["test"] = questions // SETS
        path.write_text(yaml.safe_dump(params, sort_keys=False))
        measured("ingest", checkout)
        sizes.append({"questions": questions, **measured(part, checkout)})
        print(sizes[-1], flush=True)
        keep(told(common, sizes, "a script plays" if part == "script" else "policies play"))
        questions *= times


def told(common: dict[str, Any], sizes: Sequence[dict[str, Any]], who: str) -> list[dict[str, Any]]:
    """Memory and time of the stage evaluate, as rows of metrics/bench."""
    last, before = sizes[-1], sizes[max(0, len(sizes) - 2)]
    questions, more = last["questions"], last["questions"] - before["questions"]
    each = (last["cpu_s"] - before["cpu_s"]) / more if more else last["cpu_s"] / questions
    risen, over = (
        (last["later"], questions / 2) if "later" in last else (last["mib"] - before["mib"], more or questions)
    )
    return [
        {**common, "name": f"evaluate, {who}: peak memory of {questions} questions", "ours": last["mib"],
         "against": "2 GiB", "theirs": LIMIT_MIB, "limit": 1.0, "ratio": last["mib"] / LIMIT_MIB, "unit": "MiB"},
        {**common, "name": f"evaluate, {who}: memory a question more", "ours": round(1024 * risen / over, 2),
         "unit": "KiB"},
        {**common, "name": f"evaluate, {who}: CPU a question more, all methods", "ours": round(1000 * each, 1),
         "unit": "ms"},
    ]  # fmt: skip


def keep(rows: list[dict[str, Any]]) -> None:
    """Put rows into metrics/bench/scale.json, in the place of those of the same stage."""
    path = ROOT / "metrics/bench/scale.json"
    new = {row["stage"] for row in rows}
    before = json.loads(path.read_text()) if path.is_file() else []
    write_json(path, [row for row in before if row["stage"] not in new] + rows)


def tell(rows: list[dict[str, Any]]) -> None:
    """The newest row, and its ratio to linear growth from the first."""
    row, first = rows[-1], rows[0]
    for work in PARTS:
        ratio = row[work]["us_a_question"] / first[work]["us_a_question"]
        each, whole = f"{row[work]['us_a_question']:>7.1f} us a question", f"{row[work]['cpu_s']:>6.1f} s"
        memory = f"{row[work]['mib']:>5} MiB"
        print(f"{row['questions']:>9,} questions  {work:<8}  {each}  {whole}  {memory}  {ratio:.2f} of linear")


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Memory and time of the largest size, as rows of metrics/bench, with all sizes beside."""
    last, first, made = rows[-1], rows[0], []
    largest, least = last["questions"], first["questions"]
    times = rows[1]["questions"] // least if rows[1:] else 1
    command = f"python tests/bench/scale.py --first {least} --most {largest} --times {times}"

    def common(work: str) -> dict[str, Any]:
        """Of each row of a part."""
        sizes = [{"questions": row["questions"], **row[work]} for row in rows]
        return {"stage": STAGE[work], "runs": 1, "command": command, "sizes": sizes}

    for work in PARTS:
        memory, each, base = last[work]["mib"], last[work]["us_a_question"], first[work]["us_a_question"]
        made.append({
            **common(work), "name": f"{STAGE[work]}: peak memory of {largest} questions", "ours": memory,
            "against": "2 GiB", "theirs": LIMIT_MIB, "limit": 1.0, "ratio": memory / LIMIT_MIB, "unit": "MiB",
        })  # fmt: skip
        made.append({
            **common(work), "name": f"{STAGE[work]}: time a question, {largest} beside {least}", "ours": each,
            "against": "linear growth", "theirs": base, "limit": 1.2, "ratio": each / base, "unit": "us",
        })  # fmt: skip
    return made


if __name__ == "__main__":
    main()
