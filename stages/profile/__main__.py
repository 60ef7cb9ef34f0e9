"""`python -m stages.profile`: candidates asked the profiling questions; records and descriptors of them out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from stages.profile.asking import ask_all
from stages.profile.measures import describe, summarise
from stages.profile.plan import Key, make_plan, texts
from stages.profile.records import Record, make_records, write_records
from stages.shared.artifacts import verify_manifest, write_manifest
from stages.shared.entry import run_stage
from stages.shared.episode.roster import write_descriptors
from stages.shared.files import atomic_folder, write_json
from stages.shared.params import Params
from stages.shared.pool.candidate import Candidate, Reply
from stages.shared.pool.client import HttpPool
from stages.shared.pool.ledger import FOLDER, Ledger, Place, open_ledger
from stages.shared.pool.serving import serve
from stages.shared.pool.setting import setting
from stages.shared.progress import Progress, say
from stages.shared.questions import read_questions
from stages.shared.workspace import Workspace


def main(params: Params, workspace: Workspace) -> None:
    """Serve the pool, ask it, write what came back."""
    verify_manifest(workspace.artifacts("ingest"))
    plan = make_plan(read_questions(workspace.artifacts("ingest") / "profiling.parquet"), params.profile.questions)
    asked = texts(plan)
    place = Place(workspace.runs(FOLDER), "profile", setting(params.pool, params.world))
    with open_ledger(place, params.pool.limits.budget, alone=True) as ledger:
        with serve(params.pool, params.world, workspace.state) as candidates:
            replies = asyncio.run(_ask(params, candidates, asked, ledger))
        _write(workspace, candidates, make_records(plan, candidates, replies, _shortener(params)))
        ledger.finish()
        say(f"profile: {ledger.told()}")


def _write(workspace: Workspace, candidates: Sequence[Candidate], records: Sequence[Record]) -> None:
    summary = summarise(candidates, records)
    with atomic_folder(workspace.artifacts("profile")) as folder:
        write_records(folder / "records.parquet", records)
        write_descriptors(folder / "descriptors.json", describe(candidates, records))
        write_manifest(folder, "pointsman/profile/1")
    write_json(workspace.metrics("profile"), summary)
    failed = sum(summary["failures"].values())
    questions = summary["calls"] // len(candidates)
    say(f"profile: {len(candidates)} candidates, {questions} questions each, {failed} calls without a reply")


async def _ask(params: Params, candidates: Sequence[Candidate], asked: list[str], ledger: Ledger) -> dict[Key, Reply]:
    async with HttpPool(candidates, params.pool.limits, ledger, once=True) as pool:
        await pool.check()
        with Progress("profile", total=len(candidates) * len(asked), unit="calls") as progress:
            return await ask_all(pool, asked, progress)


def _shortener(params: Params) -> Callable[[str], str]:
    """How the short answer is found within a reply: simulated experts' sentences have known frames."""
    if params.pool.kind != "sandbox":
        return str.strip
    from stages.shared.sandbox.experts import short_answer

    return short_answer


if __name__ == "__main__":
    raise SystemExit(run_stage("profile", main))
