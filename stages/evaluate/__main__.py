"""`python -m stages.evaluate`: a trained router and the test sets in; metrics, every episode and a report out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from stages.evaluate.attempt import Result
from stages.evaluate.calibration import Calibration
from stages.evaluate.contest import Contest, Failure, by_pool
from stages.evaluate.episodes import write_episodes
from stages.evaluate.headline import headline
from stages.evaluate.marking import load_marker
from stages.evaluate.measure import Measurement, make_lines
from stages.evaluate.metrics import AVERAGE, BEFORE_PPO, ROUTER, Evaluation, Measured, evaluate
from stages.evaluate.own import Tariff
from stages.evaluate.player import load_players
from stages.evaluate.plots import write_plots
from stages.evaluate.reading import Reading
from stages.evaluate.records import read_records
from stages.evaluate.replay.pool import replaying
from stages.evaluate.report.curves import read_curves
from stages.evaluate.report.page import Material, render
from stages.evaluate.report.view import verdict
from stages.evaluate.routers.encoder import Remembering, minilm
from stages.evaluate.school import School
from stages.evaluate.sealed import read_test_questions
from stages.evaluate.statistics import Resamples
from stages.shared.artifacts import verify_manifest, write_manifest
from stages.shared.entry import Workspace, run_stage
from stages.shared.episode.roster import read_descriptors
from stages.shared.files import atomic_folder, sha256, write_json, write_text
from stages.shared.params import Params
from stages.shared.pool.candidate import Candidate, Descriptor
from stages.shared.pool.serving import serve
from stages.shared.progress import Progress, say
from stages.shared.questions import Question


@dataclass(frozen=True)
class Played:
    """What came of the play."""

    results: list[Result]
    failures: list[Failure]
    reading: Reading | None
    calibrations: Mapping[str, Calibration]


def main(params: Params, workspace: Workspace) -> None:
    """Play every method on every test question, measure, report."""
    for stage in ("ingest", "profile", "train"):
        verify_manifest(workspace.artifacts(stage))
    questions = read_test_questions(workspace)
    descriptors = read_descriptors(workspace.artifacts("profile") / "descriptors.json")
    with serve(params.pool, params.world, workspace.state) as candidates:
        played = asyncio.run(_play(params, workspace, questions, descriptors, candidates))
    results, failures = played.results, played.failures
    evaluation = _measure(params, questions, descriptors, played)
    router, before = (
        [item for item in results if item.method == method and item.pool == "seen"] for method in (ROUTER, BEFORE_PPO)
    )
    curves = read_curves(workspace.artifacts("train") / "curves.csv")
    with atomic_folder(workspace.artifacts("evaluate")) as folder:
        write_episodes(folder / "episodes.parquet", results)
        write_plots(folder / "plots", evaluation)
        ledger = sha256(folder / "episodes.parquet")
        page = render(Material(params, evaluation, router, before, descriptors, curves, ledger))
        write_text(folder / "report.html", page)
        write_manifest(folder, "pointsman/evaluate/1")
    write_json(workspace.metrics("evaluate"), evaluation.to_json())
    write_json(workspace.metrics("evaluate").with_name("headline.json"), headline(evaluation))
    for failure in failures:
        say(f"evaluate: {failure.method} failed on the pool `{failure.pool}`, and has no result: {failure.reason}")
    say(f"evaluate: {verdict(evaluation)} Cost a question {evaluation.methods[ROUTER][AVERAGE].cost:.2f}.")


async def _play(
    params: Params, workspace: Workspace, questions: Sequence[Question], descriptors: Sequence[Descriptor],
    candidates: Sequence[Candidate],
) -> Played:  # fmt: skip
    records = read_records(workspace.artifacts("profile") / "records.parquet")
    marker = load_marker(workspace.runs("evaluate"))
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(replaying(params, workspace, candidates))
        trained, base = await load_players(stack, workspace.artifacts("train"), params, pool)
        lines, encode = make_lines(descriptors, pool.candidates), Remembering(minilm)
        world = params.world if params.pool.kind == "sandbox" else None
        train = workspace.artifacts("ingest") / "train.parquet"
        school = School(workspace.artifacts("train") / "warm_start", train, params.episode, pool, stack)
        contest = Contest(questions, lines, records, params.evaluate, encode, marker, world, school)
        with Progress("evaluate", total=contest.size, unit="episodes") as progress:
            in_flight = params.evaluate.batch
            tariff = Tariff(params.evaluate.router_prompt_price, params.evaluate.router_price)
            measurement = Measurement(trained, base, questions, tariff, in_flight=in_flight, progress=progress)
            results, failures = await contest.run(measurement)
            return Played(results, failures, await measurement.reading(lines[0]), contest.calibrations)


def _measure(
    params: Params, questions: Sequence[Question], descriptors: Sequence[Descriptor], played: Played
) -> Evaluation:
    settings, results = params.evaluate, played.results
    seen = Measured(results, questions, "seen")
    unseen = any(not item.seen for item in descriptors)
    return evaluate(
        seen,
        Measured(results, questions, "all") if unseen else None,
        {"seen": [item.name for item in descriptors if item.seen], "all": [item.name for item in descriptors]},
        Resamples(seen.sizes, settings.resamples, settings.confidence, settings.seed),
        synthetic=params.pool.kind == "sandbox", seed=settings.seed, count=settings.resamples,
        reading=played.reading, failed=by_pool(played.failures), calibrations=played.calibrations,
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(run_stage("evaluate", main))
