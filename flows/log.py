"""What a run tells Prefect: its log, a progress artifact a stage, and failures without our own stack."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.concurrency import _leases
from prefect.exceptions import PrefectHTTPStatusError

from flows.server import is_there
from stages.shared.errors import PipelineError
from stages.shared.processes import die_with_parent
from stages.shared.progress import Snapshot

ARTIFACT_EVERY_S = 5.0
NOISE = re.compile(r"Running stage '|> python -m |ERROR: failed to reproduce '|.*\d%\|")
"""What DVC says of its own, and bars that libraries draw."""


class LogReporter:
    """Tells Prefect's log, for a run that was started from Prefect's UI; Prefect adds the stage's name."""

    def planned(self, stages: Sequence[str], stale: Sequence[str]) -> None:
        """The flow logs it, with the reasons."""

    def said(self, text: str) -> None:
        """The flow logs it."""

    def started(self, stage: str) -> None:
        """The line that DVC writes says it."""

    def line(self, stage: str, text: str) -> None:
        """Log the stage's own line, without the stage's name before it."""
        if text.strip() and not NOISE.match(text):
            get_run_logger().info("%s", text.removeprefix(f"{stage}: "))

    def progress(self, stage: str, snapshot: Snapshot | None) -> None:
        """Its progress artifact says it."""

    def ended(self, stage: str, result: str) -> None:
        """The flow logs it, with the time it took."""


class StageProgress:
    """A stage's progress, as an artifact in Prefect, brought up to date every few seconds."""

    def __init__(self, stage: str) -> None:
        self._id: UUID = create_progress_artifact(0.0, key=f"progress-{stage}", description=f"{stage}: starting")  # type: ignore[assignment]
        self._stage = stage
        self._share, self._last = 0.0, ""
        self._due = time.monotonic() + ARTIFACT_EVERY_S

    def show(self, snapshot: Snapshot | None) -> None:
        """Send the share done and what it counts, when an update is due."""
        if snapshot is None or not snapshot.total:
            return
        self._last = str(snapshot)
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + ARTIFACT_EVERY_S
        url = os.environ.get("PREFECT_API_URL")
        if url and not is_there(url):
            return  # Prefect's client would try for a minute, and the stage's lines wait so long
        share = min(100.0, 100.0 * snapshot.done / snapshot.total)
        self._tell(share, self._last)

    def done(self, result: str) -> None:
        """All of it, and what it counted last."""
        self._tell(100.0, f"{result}; {self._last}" if self._last and result == "ran" else result)

    def failed(self, kind: str) -> None:
        """As far as it came."""
        self._tell(self._share, f"failed ({kind} error)")

    def _tell(self, share: float, words: str) -> None:
        """Where the server is away, the next one says it: no stage ends for the sake of its progress."""
        self._share = share
        with suppress(httpx.TransportError, PrefectHTTPStatusError):
            update_progress_artifact(self._id, share, description=f"{self._stage}: {words}")


class _NoStack(logging.Filter):
    """A PipelineError says what was wrong and what to do; where our code raised it helps nobody."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record, and drop the stack of a PipelineError."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, PipelineError):
            record.exc_info, record.msg, record.args = None, "%s error: %s", (error.kind, error)
        return True


def begin_run() -> None:
    """What every flow does first: a run that a worker started ends with it, and failures are told without our stack."""
    if os.environ.get("PREFECT__FLOW_RUN_ID"):
        die_with_parent()
        _outlive_lease()
    _hide_stacks()


def _outlive_lease() -> None:
    """Let a run whose place among concurrent ones is lost go on, and say so; Prefect would end it at once.

    The server forgets a place where it is away, or its clock leaps, for longer than five minutes. A second retrain is
    refused by a lock in the checkout all the same, and a second run in place by DVC's.
    """
    told = _leases._handle_lease_renewal_failure

    def go_on(
        exc: BaseException,
        lease_id: UUID,
        raise_on_lease_renewal_failure: bool,
        suppress_warnings: bool,
        cancel_scope: Any,
    ) -> None:
        """Prefect's own, with the choice that it has for limits that are not strict."""
        told(exc, lease_id, False, suppress_warnings, cancel_scope)

    _leases._handle_lease_renewal_failure = go_on


def _hide_stacks() -> None:
    """Let Prefect log a PipelineError as its message alone; any other exception keeps its stack."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logger = logging.getLogger(name)
        if not any(isinstance(known, _NoStack) for known in logger.filters):
            logger.addFilter(_NoStack())
