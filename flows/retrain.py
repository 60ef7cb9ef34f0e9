"""The flow `retrain`: one task a stage. DVC decides what is current, Prefect when, and how often to try again.

Annotations are evaluated here: in the process of a served run, Prefect cannot resolve them from their text.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.runtime import flow_run
from prefect.states import State
from prefect.tasks import Task
from pydantic import Field

from flows import dvc
from flows.log import LogReporter, StageProgress, hide_stacks
from flows.report import Outcome, read_metrics, summary
from flows.watch import watcher
from stages.shared.errors import ConfigurationError, PipelineError
from stages.shared.params import load_params
from stages.shared.progress import read_progress

RETRY_SECONDS = [10, 60]
ALL = "all"
STAGES = ("ingest", "profile", "train", "evaluate", "publish")
DESCRIPTION = """\
Brings the router up to date: questions → profiles of the candidates → training → evaluation → release.

Only what is out of date with its code, data and parameters (`params.yaml`) runs: **to run it again costs seconds**.

A run that failed or was cancelled goes on where it stopped: run it again. One run at a time.

- **stage**: one stage alone, or `all` that are out of date.
- **force**: run even what is up to date.

While it runs, *Logs* tells what each stage does, and *Artifacts* how far it is.

Afterwards, the artifact **retrain** tells what came of it: every method's exact match, interval and cost.

In a terminal, `pointsman plan` says what would run, and why.
"""


def _retryable(this: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    return isinstance(error, PipelineError) and error.retryable


@task(
    name="stage",
    task_run_name="{stage}",
    retries=len(RETRY_SECONDS),
    retry_delay_seconds=RETRY_SECONDS,  # type: ignore[arg-type]
    retry_condition_fn=_retryable,
    cache_policy=NO_CACHE,
)
def run_stage(stage: str, force: bool) -> dvc.Result:
    """Bring one stage up to date, and say how. Raises the PipelineError that it ends with."""
    root, reporter, artifact = Path.cwd(), watcher() or LogReporter(), StageProgress(stage)
    (root / ".pointsman" / "progress" / f"{stage}.json").unlink(missing_ok=True)
    log = root / ".pointsman" / "logs" / f"{stage}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    reporter.started(stage)
    with log.open("w", encoding="utf-8", buffering=1) as out:

        def on_line(text: str) -> None:
            """Keep the line, and show it."""
            out.write(text + "\n")
            reporter.line(stage, text)

        def on_tick() -> None:
            """Show how far the stage is."""
            snapshot = read_progress(stage, root)
            reporter.progress(stage, snapshot)
            artifact.show(snapshot)

        try:
            result = dvc.repro(root, stage, force=force, on_line=on_line, on_tick=on_tick)
        except PipelineError:
            reporter.ended(stage, "failed")
            raise
    artifact.done(result)
    reporter.ended(stage, result)
    return result


def run_name() -> str:
    """For example `sandbox at 1f2e3d4c5b6a: train alone, forced`."""
    try:
        root = dvc.find_root(Path.cwd())
        name = f"{load_params(root / 'params.yaml').profile_name} at {dvc.revision(root) or 'no commit'}"
    except PipelineError:
        return "retrain"
    given = flow_run.parameters
    alone = [f"{given['stage']} alone"] if given.get("stage", ALL) != ALL else []
    said = ", ".join([*alone, *(["forced"] if given.get("force") else [])])
    return f"{name}: {said}" if said else name


@flow(name="retrain", flow_run_name=run_name, description=DESCRIPTION, validate_parameters=True)
def retrain(
    stage: Annotated[str, Field(json_schema_extra={"enum": [ALL, *STAGES]})] = ALL, force: bool = False
) -> dict[str, str]:
    """Bring the pipeline up to date: questions, profiles, a trained router, its evaluation, a release.

    Args:
        stage: One stage alone, or all that are out of date.
        force: Run even what is up to date.

    """
    hide_stacks()
    root = dvc.find_root(Path.cwd())
    load_params(root / "params.yaml")
    outcomes = chosen(root, stage, force)
    _say_plan(outcomes)
    for index, outcome in enumerate(outcomes):
        start = time.monotonic()
        try:
            result = run_stage(outcome.stage, force)
        except PipelineError as error:
            outcomes[index] = replace(outcome, result="failed", seconds=time.monotonic() - start)
            _publish_summary(root, outcomes, error)
            raise
        outcomes[index] = replace(outcome, result=result, seconds=time.monotonic() - start)
        get_run_logger().info("%s: %s, %.0f s", outcome.stage, result, outcomes[index].seconds)
    _publish_summary(root, outcomes)
    return {outcome.stage: outcome.result for outcome in outcomes}


def chosen(root: Path, stage: str, force: bool) -> list[Outcome]:
    """The stages that a run goes through, in order, and why. Raises ConfigurationError for an unknown name."""
    plan = dvc.plan(root)
    names = [item.stage for item in plan]
    if stage not in (ALL, *names):
        raise ConfigurationError(f"no stage is called {stage!r}; there are: {', '.join(names)}")
    return [
        Outcome(item.stage, item.reasons or (("forced",) if force else ("asked for by name",)))
        for item in plan
        if stage == item.stage or (stage == ALL and (item.stale or force))
    ]


def _say_plan(outcomes: list[Outcome]) -> None:
    logger = get_run_logger()
    if not outcomes:
        logger.info("Nothing to run: every stage is up to date with its code, data and parameters.")
    for outcome in outcomes:
        logger.info("To run: %s, for %s", outcome.stage, outcome.why)


def _publish_summary(root: Path, outcomes: list[Outcome], error: PipelineError | None = None) -> None:
    text = summary(
        outcomes,
        read_metrics(root),
        profile=load_params(root / "params.yaml").profile_name,
        revision=dvc.revision(root),
        error=str(error) if error else None,
    )
    create_markdown_artifact(text, key="retrain", description=text.splitlines()[0].lstrip("# "))
