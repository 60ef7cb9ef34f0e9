"""The flow `retrain`: a clone, the stages that are out of date, and a branch to review, or a clear reason why not.

Annotations are evaluated here: in the process of a served run, Prefect cannot resolve them from their text.
"""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run

from flows import dvc
from flows.base import Base, find_base
from flows.disk import full_disk_told
from flows.drift import with_mark
from flows.forge import FILE, read_forge
from flows.limits import Hours, Usd
from flows.log import begin_run
from flows.offer import Offer, commit, metrics_before, offer
from flows.report import Outcome, compare_methods, read_metrics, summary
from flows.reporter import watcher
from flows.reports import keep_reports, release_told
from flows.secrets import lend_secrets
from flows.stage_task import Place, deadline_in, reporter_of_run, run_stages, say_plan
from flows.work_folder import WorkFolder, find_folder, known_offer, open_folder, sole
from stages.shared.errors import ConfigurationError, PipelineError
from stages.shared.files import write_json
from stages.shared.params import load_params
from stages.shared.workspace import Workspace

NAME = "retrain"
DESCRIPTION = """\
Retrains from the newest commit of a branch, in a clone of its own, and **ends in a branch to review**, or says why not.

Only what is out of date runs; what DVC has cached is restored. Where nothing changes, there is no branch.
Where `watch` found that candidates drifted, they are profiled again.

A run that failed goes on where it stopped: run it again, or *Retry* it. One at a time. The checkout stays as it is.

- **settings**: parameters to set, for example `{"ingest.seed": 8}`; they become part of the change.
- **base**: the branch to start from: a local one, or `origin/main` as it is on the remote; empty: the one checked out.
- **keep**: keep the work folder of a success too.
- **folder**: where to work; empty: `.pointsman/retrains`.
- **budget**: what candidates may cost in this run, USD. It stops before it would cost more.
- **hours**: after which the run stops. What is done is kept.

Afterwards, the artifact **retrain** names the branch and its pull request, **retrain-metrics** what changed.
"""


@dataclass
class Attempt:
    """How far a retrain is."""

    work: WorkFolder | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    budget: float | None = None
    deadline: float | None = None


def run_name() -> str:
    """For example `sandbox from main at 1f2e3d4c5b6a: ingest.seed=8`."""
    given = flow_run.parameters
    try:
        root = dvc.find_root(Path.cwd())
        base = find_base(root, given.get("base") or "")
        name = f"{load_params(root / 'params.yaml').profile_name} from {base.name} at {base.commit[:12]}"
    except PipelineError:
        return NAME
    said = ", ".join(f"{key}={value}" for key, value in (given.get("settings") or {}).items())
    return f"{name}: {said}" if said else name


@flow(name=NAME, flow_run_name=run_name, description=DESCRIPTION, validate_parameters=True)
def retrain(
    settings: dict[str, Any] | None = None,
    base: str = "",
    keep: bool = False,
    folder: str = "",
    budget: Usd | None = None,
    hours: Hours | None = None,
) -> dict[str, Any]:
    """Retrain in a clone, and offer what changed as a branch.

    Args:
        settings: Parameters to set, by dotted name; they become part of the change.
        base: The branch to start from; empty: the one checked out.
        keep: Keep the work folder of a success too.
        folder: Where to work; empty: `.pointsman/retrains` in the checkout.
        budget: What candidates may cost in this run, USD.
        hours: After which the run stops, to be gone on with.

    """
    begin_run()
    checkout, attempt = dvc.find_root(Path.cwd()), Attempt(budget=budget, deadline=deadline_in(hours))
    lend_secrets(checkout)
    try:
        with full_disk_told(checkout), sole(checkout, flow_run.name or NAME):
            found = _retrain(checkout, find_base(checkout, base), with_mark(checkout, settings or {}), folder, attempt)
            return _close(attempt, found, keep)
    except PipelineError as error:
        _leave(attempt, error)
        raise


def _retrain(checkout: Path, base: Base, settings: dict[str, Any], folder: str, attempt: Attempt) -> Offer:
    forge = read_forge(checkout)
    if forge is not None and base.remote is None:
        raise ConfigurationError(f"{FILE} names a forge, but {base.name} has no git remote to push to; add one")
    place = find_folder(checkout, folder, base, settings)
    known = known_offer(checkout, place, base, settings)
    if known is not None:
        return Offer(note=f"the same commit with the same parameters is offered already as {known}")
    _say(f"Work folder: {place}")
    attempt.work = work = open_folder(checkout, place, base, settings)
    _run_stale(work, attempt)
    made = commit(work, f"{flow_run.name} ({flow_run.id})")
    if made is None:
        return Offer(note=f"parameters, results and metrics are those of {base.name}")
    _publish_comparison(work)
    if work.has_storage:
        _say("Pushing DVC's cache to its remote")
        dvc.push(work.root)
    _say(f"Pushing {work.branch}")
    return offer(work, made, forge)


def _run_stale(work: WorkFolder, attempt: Attempt) -> None:
    outcomes = attempt.outcomes
    Workspace(work.root).errors(NAME).unlink(missing_ok=True)
    planned = dvc.plan(work.root)
    outcomes += [Outcome(item.stage, item.reasons) for item in planned if item.stale]
    say_plan(outcomes)
    reporter_of_run().planned([item.stage for item in planned], [outcome.stage for outcome in outcomes])
    place = Place(work.root, work.has_storage, work.environment, deadline=attempt.deadline, budget=attempt.budget)
    run_stages(outcomes, place)


def _publish_comparison(work: WorkFolder) -> None:
    rows = compare_methods(metrics_before(work), read_metrics(work.root).get("evaluate", {}))
    if rows:
        create_table_artifact(table=rows, key=f"{NAME}-metrics", description=f"{work.base.name} -> {work.branch}")


def _close(attempt: Attempt, found: Offer, keep: bool) -> dict[str, Any]:
    get_run_logger().info("%s", _headline(found))
    _publish_card(attempt, _headline(found), [*_notes(found), *_links(attempt)])
    if attempt.work is not None and keep:
        attempt.work.finish()
        return replace(found, folder=str(attempt.work.folder)).as_dict()
    if attempt.work is not None:
        attempt.work.remove()
    return found.as_dict()


def _leave(attempt: Attempt, error: PipelineError) -> None:
    """Keep what went wrong beside everything that a next run goes on from."""
    notes = []
    if attempt.work is not None:
        left = {"kind": error.kind, "message": str(error), "retryable": error.retryable}
        with suppress(OSError):  # of a full disk, which the error says
            write_json(Workspace(attempt.work.root).errors(NAME), left)
        _say(f"The work folder is kept: {attempt.work.folder}")
        notes = [f"Its work folder is kept: `{attempt.work.folder}`."]
    in_stage = any(outcome.result == "failed" for outcome in attempt.outcomes)
    _publish_card(attempt, "" if in_stage else "The retrain failed", notes, error)


def _headline(found: Offer) -> str:
    return f"To review: {found.branch}" if found.branch else f"Nothing new, no branch: {found.note}"


def _notes(found: Offer) -> list[str]:
    if found.branch is None:
        return []
    where = f"`{found.remote}`" if found.remote else "the checkout's own repository"
    page = [f"[The pull request]({found.pull_request})"] if found.pull_request else []
    return [f"Branch `{found.branch}` in {where}, commit `{found.commit}`.", *page]


def _links(attempt: Attempt) -> list[str]:
    """To what outlives the work folder."""
    if attempt.work is None:
        return []
    name = attempt.work.branch.replace("/", "-")
    return [*keep_reports(attempt.work.root, attempt.work.checkout, name), *release_told(attempt.work.root)]


def _publish_card(attempt: Attempt, headline: str, notes: list[str], error: PipelineError | None = None) -> None:
    work = attempt.work
    if work is None:
        text = f"# {headline}" + (f"\n\n```\n{error}\n```" if error else "")
    else:
        text = summary(
            attempt.outcomes,
            read_metrics(work.root),
            profile=load_params(work.root / "params.yaml").profile_name,
            revision=f"{work.base.commit[:12]} of {work.base.name}",
            error=str(error) if error else None,
            headline=headline,
            notes=notes,
            logs=str(Workspace(work.root).state / "logs"),
        )
    create_markdown_artifact(text, key=NAME, description=text.splitlines()[0].lstrip("# "))


def _say(text: str) -> None:
    get_run_logger().info("%s", text)
    watched = watcher()
    if watched is not None:
        watched.said(text)
