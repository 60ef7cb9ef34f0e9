"""The flow `retrain`: one task a stage. DVC decides what is current, Prefect when, and how often to try again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.states import State
from prefect.tasks import Task

from flows import dvc
from flows.report import HEADINGS, markdown, read_metrics, rows
from flows.watch import watcher
from stages.shared.errors import ConfigurationError, PipelineError
from stages.shared.params import load_params
from stages.shared.progress import Snapshot, read_progress

RETRY_SECONDS = [10, 60]
ARTIFACT_EVERY_S = 5.0


class LogReporter:
    """Tells Prefect's log, for a run that was started from Prefect's UI."""

    def started(self, stage: str) -> None:
        """Log it."""
        get_run_logger().info("%s: started", stage)

    def line(self, stage: str, text: str) -> None:
        """Log the stage's own line."""
        get_run_logger().info("%s: %s", stage, text)

    def progress(self, stage: str, snapshot: Snapshot | None) -> None:
        """Its progress artifact says it."""

    def ended(self, stage: str, result: str) -> None:
        """Log it."""
        get_run_logger().info("%s: %s", stage, result)


class StageProgress:
    """A stage's progress, as an artifact in Prefect, brought up to date every few seconds."""

    def __init__(self, stage: str) -> None:
        self._id: UUID = create_progress_artifact(0.0, key=f"progress-{stage}", description=f"How far {stage} is")  # type: ignore[assignment]
        self._due = time.monotonic() + ARTIFACT_EVERY_S

    def show(self, snapshot: Snapshot | None) -> None:
        """Send the share done, when it is known and an update is due."""
        if snapshot is None or not snapshot.total or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + ARTIFACT_EVERY_S
        update_progress_artifact(self._id, min(100.0, 100.0 * snapshot.done / snapshot.total))

    def done(self) -> None:
        """All of it."""
        update_progress_artifact(self._id, 100.0)


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
            out.write(text + "\n")
            reporter.line(stage, text)

        def on_tick() -> None:
            snapshot = read_progress(stage, root)
            reporter.progress(stage, snapshot)
            artifact.show(snapshot)

        try:
            result = dvc.repro(root, stage, force=force, on_line=on_line, on_tick=on_tick)
        except PipelineError:
            reporter.ended(stage, "failed")
            raise
    artifact.done()
    reporter.ended(stage, result)
    return result


@flow(name="retrain", flow_run_name="retrain", validate_parameters=True)
def retrain(only: str | None = None, force: bool = False) -> dict[str, str]:
    """Bring the pipeline up to date: questions, profiles, a trained router, its evaluation, a release.

    Args:
        only: One stage by name; all stages that are out of date when left empty.
        force: Run even what is current.

    """
    root = dvc.find_root(Path.cwd())
    load_params(root / "params.yaml")
    results: dict[str, str] = {stage: run_stage(stage, force) for stage in selected(root, only, force)}
    _publish_metrics(root, results)
    return results


def selected(root: Path, only: str | None, force: bool) -> tuple[str, ...]:
    """The stages that a run goes through, in order. Raises ConfigurationError for an unknown name."""
    names = dvc.stage_names(root)
    if only is not None:
        if only not in names:
            raise ConfigurationError(f"no stage is called {only!r}; there are: {', '.join(names)}")
        return (only,)
    return names if force else tuple(item.stage for item in dvc.plan(root) if item.stale)


def _publish_metrics(root: Path, results: dict[str, str]) -> None:
    table = [row.cells for row in rows(read_metrics(root))]
    stages = markdown(("stage", "result"), results.items()) if results else "Nothing was out of date."
    methods = f"\n\n{markdown(HEADINGS, table)}\n\nAverages over the test sets." if table else ""
    create_markdown_artifact(f"{stages}{methods}", key="run", description=f"Commit {dvc.revision(root) or 'none'}")
