"""Candidates that come and go, without retraining: `python -m stages.evaluate.unseen`, and `pointsman unseen`."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from stages.evaluate.contest import Contest
from stages.evaluate.marking import load_marker
from stages.evaluate.measure import Measurement, make_lines
from stages.evaluate.own import Tariff
from stages.evaluate.player import load_players
from stages.evaluate.records import read_records
from stages.evaluate.replay.pool import replaying
from stages.evaluate.routers.encoder import Kept, minilm
from stages.evaluate.routers.protocol import Asked
from stages.evaluate.sealed import test_questions
from stages.evaluate.statistics import Resamples
from stages.evaluate.unseen.cases import Case, plan_cases
from stages.evaluate.unseen.fitted import fit_all
from stages.evaluate.unseen.shots import Shots, draw_shots
from stages.evaluate.unseen.text import markdown
from stages.evaluate.unseen.trial import Played, Trial, play_case, score_cases
from stages.shared.artifacts import verify_manifest
from stages.shared.entry import run_command
from stages.shared.episode.roster import read_descriptors
from stages.shared.params import Params, load_params
from stages.shared.pool.candidate import Candidate, Descriptor
from stages.shared.pool.serving import serve
from stages.shared.progress import Progress
from stages.shared.questions import Question
from stages.shared.workspace import Workspace


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, play, print; return the exit code."""
    given = _parser().parse_args(argv)

    def _work() -> None:
        trial = hold(load_params(), Workspace(Path.cwd()), given)
        print(json.dumps(trial.to_json(), indent=2, allow_nan=False) if given.json else markdown(trial))

    return run_command(_work)


def hold(params: Params, workspace: Workspace, given: argparse.Namespace) -> Trial:
    """The protocol, on the trained router that the artifacts hold. Raises what is wrong with these."""
    for stage in ("ingest", "profile", "train"):
        verify_manifest(workspace.artifacts(stage))
    questions = first_of_each(test_questions(workspace), given.questions)
    descriptors = read_descriptors(workspace.artifacts("profile") / "descriptors.json")
    unseen = [item.name for item in descriptors if not item.seen]
    shots = draw_shots(workspace.artifacts("profile") / "records.parquet", unseen, given.shots, given.seed)
    cases = plan_cases(descriptors, shots.skills, given.leave_out, given.seed)
    with serve(params.pool, params.world, workspace.state) as candidates:
        played = asyncio.run(_play(params, workspace, questions, descriptors, candidates, cases, shots))
    settings, sizes = params.evaluate, Counter(question.dataset for question in questions)
    resamples = Resamples(sizes, settings.resamples, settings.confidence, settings.seed)
    return Trial(
        synthetic=params.pool.kind == "sandbox", n=len(questions), shots=given.shots, seed=given.seed,
        confidence=settings.confidence, cases=score_cases(played, resamples),
    )  # fmt: skip


def first_of_each(questions: Iterable[Question], most: int | None) -> tuple[Question, ...]:
    """The first so many questions of each set; all where `most` is None."""
    taken: Counter[str] = Counter()
    found = []
    for question in questions:
        taken[question.dataset] += 1
        if most is None or taken[question.dataset] <= most:
            found.append(question)
    return tuple(found)


async def _play(
    params: Params, workspace: Workspace, questions: Sequence[Question], descriptors: Sequence[Descriptor],
    candidates: Sequence[Candidate], cases: Sequence[Case], shots: Shots,
) -> list[Played]:  # fmt: skip
    records = read_records(workspace.artifacts("profile") / "records.parquet")
    marker, encode = load_marker(workspace.runs("evaluate")), Kept(minilm, workspace.state / "embeddings")
    fitted = fit_all(records, cases[0].descriptors, shots, params.evaluate, encode)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(replaying(params, workspace, candidates))
        trained, base = await load_players(stack, workspace.artifacts("train"), params, pool)
        contest = Contest(make_lines(descriptors, pool.candidates), records, params.evaluate, encode, marker)
        with Progress("unseen", total=None, unit="episodes") as progress:
            tariff = Tariff(params.evaluate.router_prompt_price, params.evaluate.router_price)
            in_flight = params.evaluate.batch
            measurement = Measurement(trained, base, questions, tariff, in_flight=in_flight, progress=progress)
            table, alone = await measurement.table(contest.lines), await measurement.direct(contest.lines[0])
            texts = tuple(question.question for question in questions)
            by_place = [question.id for question in questions]
            asked = Asked(texts, encode(texts), lambda place, name: table.calls[by_place[place], name].reply)
            return [await play_case(contest, measurement, table, alone, fitted, case, asked) for case in cases]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pointsman unseen", description="Candidates that come and go, untrained for.")
    parser.add_argument("--leave-out", type=int, default=1, help="how many come or go at a time (default: %(default)s)")
    parser.add_argument("--shots", type=_positive, default=16, help="questions of a few-shot profile (%(default)s)")
    parser.add_argument("--questions", type=_positive, help="of each test set, the first (default: all)")
    parser.add_argument("--seed", type=int, default=7, help="of what is drawn (default: %(default)s)")
    parser.add_argument("--json", action="store_true")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


if __name__ == "__main__":
    raise SystemExit(main())
