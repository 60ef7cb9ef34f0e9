"""The task that brings one stage up to date, in the checkout or in a clone; both flows go through it.

Annotations are evaluated here: in the process of a served run, Prefect cannot resolve them from their text.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.runtime import flow_run, task_run
from prefect.states import State
from prefect.tasks import Task

from flows import dvc
from flows.disk import full_disk_told
from flows.estimate import note
from flows.log import LogReporter, StageProgress
from flows.memory import Peak
from flows.report import Outcome
from flows.reporter import Reporter, watcher
from stages.shared.errors import BudgetError, PipelineError
from stages.shared.params import load_params
from stages.shared.pool.account import BUDGET, RUN
from stages.shared.progress import read_progress

RETRY_SECONDS = [10, 60]


@dataclass(frozen=True)
class Place:
    """Where stages run, and with what."""

    root: Path
    pull: bool = False
    """Whether DVC's remote is asked for what is missing before a stage runs."""
    environment: Mapping[str, str] = field(default_factory=dict)
    forced: tuple[str, ...] = ()
    """Stages that run even where they are current."""
    deadline: float | None = None
    """When the run is to stop, by the monotonic clock."""
    budget: float | None = None
    """What candidates may cost in this run, USD."""


def again_in(error: PipelineError, attempt: int) -> int | None:
    """Seconds until a stage that failed so in its attempt, from 1, is tried again; None where it is not."""
    return RETRY_SECONDS[attempt - 1] if error.retryable and attempt <= len(RETRY_SECONDS) else None


def _retryable(this: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    return isinstance(error, PipelineError) and error.retryable


RETRIED: dict[str, Any] = {
    "task_run_name": "{stage}",
    "retries": len(RETRY_SECONDS),
    "retry_delay_seconds": RETRY_SECONDS,
    "retry_condition_fn": _retryable,
    "cache_policy": NO_CACHE,
}


@task(name="stage", **RETRIED)
def run_stage(stage: str, force: bool, place: Place) -> dvc.Result:
    """Bring one stage up to date, and say how. Raises the PipelineError that it ends with."""
    return _shown(stage, place, partial(dvc.repro, place.root, stage, force=force, pull=place.pull))


@task(name="command", **RETRIED)
def run_command(stage: str, command: Sequence[str], place: Place) -> None:
    """Run a stage by its command, in a folder that DVC does not keep. Raises the PipelineError that it ends with."""
    _shown(stage, place, lambda **watched: (dvc.attend(place.root, stage, command, **watched), "ran")[1])


def _shown(stage: str, place: Place, work: Callable[..., dvc.Result]) -> dvc.Result:
    """Work on a stage, with its lines and its progress told to whoever watches, and its log kept."""
    root, reporter, artifact, peak = place.root, reporter_of_run(), StageProgress(stage), Peak()
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
            peak.look()
            snapshot = read_progress(stage, root)
            reporter.progress(stage, snapshot)
            artifact.show(snapshot)
            check_time(place)

        try:
            with full_disk_told(root):
                result = work(extra=environment_of(place), on_line=on_line, on_tick=on_tick)
        except PipelineError as error:
            reporter.ended(stage, "failed")
            artifact.failed(error.kind)
            if (seconds := again_in(error, task_run.run_count)) is not None:
                reporter.line(stage, f"{stage}: once more in {seconds} s")
            raise
    if result == "ran" and peak.mib and load_params(root / "params.yaml").stage.runtime == "process":
        note(root, stage, mib=peak.mib)
    artifact.done(result)
    reporter.ended(stage, result)
    return result


def environment_of(place: Place) -> dict[str, str]:
    """What a stage finds in its environment: the place's own, and the run that it belongs to, which has a budget."""
    own = {RUN: str(flow_run.id)} if flow_run.id else {}
    budget = {} if place.budget is None else {BUDGET: str(place.budget)}
    return own | budget | dict(place.environment)


def deadline_in(hours: float | None) -> float | None:
    """When a run that begins now is to stop, for `Place.deadline`."""
    return None if hours is None else time.monotonic() + 3600 * hours


def check_time(place: Place) -> None:
    """Raises BudgetError when the hours of the run are over."""
    if place.deadline is not None and time.monotonic() > place.deadline:
        raise BudgetError(
            "the hours of this run are over; what is done is kept: run it again, and it goes on from here"
        )


def run_stages(outcomes: list[Outcome], place: Place, *, force: bool = False) -> None:
    """Run stages in order, and note in `outcomes` how each ends. Raises the PipelineError of the first that fails."""
    for index, outcome in enumerate(outcomes):
        start = time.monotonic()
        try:
            result = run_stage(outcome.stage, force or outcome.stage in place.forced, place)
        except PipelineError:
            outcomes[index] = replace(outcome, result="failed", seconds=time.monotonic() - start)
            raise
        outcomes[index] = replace(outcome, result=result, seconds=time.monotonic() - start)
        if result == "ran":
            note(place.root, outcome.stage, seconds=outcomes[index].seconds)
        get_run_logger().info("%s: %s, %.0f s", outcome.stage, result, outcomes[index].seconds)


def reporter_of_run() -> Reporter:
    """Whoever watches this run, or Prefect's log."""
    return watcher() or LogReporter()


def say_plan(outcomes: Sequence[Outcome]) -> None:
    """Log what will run, and why."""
    logger = get_run_logger()
    if not outcomes:
        logger.info("Nothing to run: every stage is up to date with its code, data and parameters.")
    for outcome in outcomes:
        logger.info("To run: %s, for %s", outcome.stage, outcome.why)
