"""The flow `pipeline`, in place: one task a stage. DVC decides what is current, Prefect when and how often to try.

Annotations are evaluated here: in the process of a served run, Prefect cannot resolve them from their text.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from pydantic import Field

from flows import dvc
from flows.disk import full_disk_told
from flows.limits import Hours, Usd
from flows.log import begin_run
from flows.report import Outcome, read_metrics, summary
from flows.reports import keep_reports, release_told
from flows.secrets import lend_secrets
from flows.stage_task import Place, deadline_in, run_stages, say_plan
from stages.shared.entry import FRESH
from stages.shared.errors import ConfigurationError, PipelineError
from stages.shared.params import load_params

ALL = "all"
WORDS = {"force": "forced", "fresh": "with new replies"}
STAGES = ("ingest", "profile", "train", "evaluate", "publish")
DESCRIPTION = """\
Brings this checkout up to date, in place: questions → profiles of the candidates → training → evaluation → release.

Only what is out of date with its code, data and parameters (`params.yaml`) runs: **to run it again costs seconds**.

A run that failed or was cancelled goes on where it stopped: run it again. One run at a time.

- **stage**: one stage alone, or `all` that are out of date.
- **force**: run even what is up to date.
- **fresh**: evaluate with new replies of the candidates, even where the evaluation is up to date.
- **budget**: what candidates may cost in this run, USD. It stops before it would cost more.
- **hours**: after which the run stops.

While it runs, *Logs* tells what each stage does, and *Artifacts* how far it is.

Afterwards, the artifact **pipeline** tells what came of it: every method's exact match, interval and cost.

In a terminal, `pointsman plan` says what would run, and why. For a branch to review, run `retrain` instead.
"""


def run_name() -> str:
    """For example `sandbox at 1f2e3d4c5b6a: train alone, forced`."""
    try:
        root = dvc.find_root(Path.cwd())
        name = f"{load_params(root / 'params.yaml').profile_name} at {dvc.revision(root) or 'no commit'}"
    except PipelineError:
        return "pipeline"
    given = flow_run.parameters
    alone = [f"{given['stage']} alone"] if given.get("stage", ALL) != ALL else []
    said = ", ".join([*alone, *(word for name, word in WORDS.items() if given.get(name))])
    return f"{name}: {said}" if said else name


@flow(name="pipeline", flow_run_name=run_name, description=DESCRIPTION, validate_parameters=True)
def pipeline(
    stage: Annotated[str, Field(json_schema_extra={"enum": [ALL, *STAGES]})] = ALL,
    force: bool = False,
    fresh: bool = False,
    budget: Usd | None = None,
    hours: Hours | None = None,
) -> dict[str, str]:
    """Bring the pipeline up to date: questions, profiles, a trained router, its evaluation, a release.

    Args:
        stage: One stage alone, or all that are out of date.
        force: Run even what is up to date.
        fresh: Evaluate with new replies of the candidates, even where the evaluation is up to date.
        budget: What candidates may cost in this run, USD.
        hours: After which the run stops, to be gone on with.

    """
    begin_run()
    root = dvc.find_root(Path.cwd())
    lend_secrets(root)
    load_params(root / "params.yaml")
    outcomes = chosen(root, stage, force, fresh)
    say_plan(outcomes)
    place = Place(root, deadline=deadline_in(hours), budget=budget)
    if fresh:
        place = replace(place, environment={FRESH: str(time.time())}, forced=(dvc.REPLAYING,))
    try:
        with full_disk_told(root):
            run_stages(outcomes, place, force=force)
    except PipelineError as error:
        _publish_summary(root, outcomes, error)
        raise
    _publish_summary(root, outcomes)
    return {outcome.stage: outcome.result for outcome in outcomes}


def chosen(root: Path, stage: str, force: bool, fresh: bool = False) -> list[Outcome]:
    """The stages that a run goes through, in order, and why. Raises ConfigurationError for an unknown name."""
    plan = dvc.plan(root, fresh=fresh)
    names = [item.stage for item in plan]
    if stage not in (ALL, *names):
        raise ConfigurationError(f"no stage is called {stage!r}; there are: {', '.join(names)}")
    return [
        Outcome(item.stage, item.reasons or (("forced",) if force else ("asked for by name",)))
        for item in plan
        if stage == item.stage or (stage == ALL and (item.stale or force))
    ]


def _publish_summary(root: Path, outcomes: list[Outcome], error: PipelineError | None = None) -> None:
    text = summary(
        outcomes,
        read_metrics(root),
        profile=load_params(root / "params.yaml").profile_name,
        revision=dvc.revision(root),
        error=str(error) if error else None,
        notes=[] if error else [*keep_reports(root, root, "pipeline"), *release_told(root)],
    )
    create_markdown_artifact(text, key="pipeline", description=text.splitlines()[0].lstrip("# "))
