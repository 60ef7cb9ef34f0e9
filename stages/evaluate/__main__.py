"""`python -m stages.evaluate`: a trained router and the test sets in; metrics, every episode and a report out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pyarrow.dataset

from stages.evaluate.contest import Contest, Standing
from stages.evaluate.episodes import Episodes, growing
from stages.evaluate.headline import headline
from stages.evaluate.heat import chunks, hold
from stages.evaluate.marking import load_marker
from stages.evaluate.measure import Measurement, make_lines
from stages.evaluate.metrics import AVERAGE, BEFORE_PPO, ROUTER, Evaluation, evaluate
from stages.evaluate.own import Tariff
from stages.evaluate.player import load_players
from stages.evaluate.plots import write_plots
from stages.evaluate.records import read_records
from stages.evaluate.replay.pool import replaying
from stages.evaluate.report.curves import read_curves
from stages.evaluate.report.examples import examples
from stages.evaluate.report.page import Material, render
from stages.evaluate.report.view import verdict
from stages.evaluate.routers.encoder import Remembering, minilm
from stages.evaluate.school import School
from stages.evaluate.sealed import test_questions
from stages.evaluate.sheet import Measured, Roll
from stages.evaluate.statistics import Resamples
from stages.shared.artifacts import verify_manifest, write_manifest
from stages.shared.entry import run_stage
from stages.shared.episode.roster import read_descriptors
from stages.shared.files import atomic_folder, sha256, write_json, write_text
from stages.shared.params import Params
from stages.shared.pool.candidate import Candidate, Descriptor
from stages.shared.pool.serving import serve
from stages.shared.progress import Progress, say
from stages.shared.workspace import Workspace


def main(params: Params, workspace: Workspace) -> None:
    """Play every method on every test question, measure, report."""
    for stage in ("ingest", "profile", "train"):
        verify_manifest(workspace.artifacts(stage))
    descriptors = read_descriptors(workspace.artifacts("profile") / "descriptors.json")
    with growing(workspace.runs("evaluate")) as episodes:
        with serve(params.pool, params.world, workspace.state) as candidates:
            standing = asyncio.run(_play(params, workspace, descriptors, candidates, episodes))
        with atomic_folder(workspace.artifacts("evaluate")) as folder:
            path = folder / "episodes.parquet"
            episodes.save(path, without=standing.failures)
            measured = Measured(pyarrow.dataset.dataset(path), Roll.of(test_questions(workspace)), "seen")
            evaluation = _measure(params, measured, descriptors, standing)
            write_plots(folder / "plots", evaluation)
            shown = examples(measured, ROUTER, BEFORE_PPO, params.evaluate.seed)
            curves = read_curves(workspace.artifacts("train") / "curves.csv")
            page = render(Material(params, evaluation, shown, measured.n, descriptors, curves, sha256(path)))
            write_text(folder / "report.html", page)
            write_manifest(folder, "pointsman/evaluate/1")
    write_json(workspace.metrics("evaluate"), evaluation.to_json())
    write_json(workspace.metrics("evaluate").with_name("headline.json"), headline(evaluation))
    for (method, pool), reason in standing.failures.items():
        say(f"evaluate: {method} failed on the pool `{pool}`, and has no result: {reason}")
    say(f"evaluate: {verdict(evaluation)} Cost a question {evaluation.methods[ROUTER][AVERAGE].cost:.2f}.")


async def _play(
    params: Params, workspace: Workspace, descriptors: Sequence[Descriptor], candidates: Sequence[Candidate],
    episodes: Episodes,
) -> Standing:  # fmt: skip
    records = read_records(workspace.artifacts("profile") / "records.parquet")
    marker = load_marker(workspace.runs("evaluate"))
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(replaying(params, workspace, candidates))
        trained, base = await load_players(stack, workspace.artifacts("train"), params, pool)
        lines, encode = make_lines(descriptors, pool.candidates), Remembering(minilm)
        world = params.world if params.pool.kind == "sandbox" else None
        train = workspace.artifacts("ingest") / "train.parquet"
        school = School(workspace.artifacts("train") / "warm_start", train, params.episode, pool, stack)
        contest = Contest(lines, records, params.evaluate, encode, marker, world, school)
        total = sum(contest.size(chunk) for chunk in chunks(test_questions(workspace)))
        with Progress("evaluate", total=total, unit="episodes") as progress:
            tariff = Tariff(params.evaluate.router_prompt_price, params.evaluate.router_price)
            measurement = Measurement(trained, base, (), tariff, in_flight=params.evaluate.batch, progress=progress)
            return await hold(contest, measurement, test_questions(workspace), episodes.add)


def _measure(params: Params, seen: Measured, descriptors: Sequence[Descriptor], standing: Standing) -> Evaluation:
    settings, unseen = params.evaluate, any(not item.seen for item in descriptors)
    return evaluate(
        seen,
        seen.beside("all") if unseen else None,
        {"seen": [item.name for item in descriptors if item.seen], "all": [item.name for item in descriptors]},
        Resamples(seen.sizes, settings.resamples, settings.confidence, settings.seed),
        synthetic=params.pool.kind == "sandbox", seed=settings.seed, count=settings.resamples,
        reading=standing.choices.reading, failed=standing.by_pool, calibrations=standing.calibrations,
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(run_stage("evaluate", main))
