"""The one place that opens the test questions: nothing that selects a checkpoint may come here."""

from __future__ import annotations

from stages.shared.entry import Workspace
from stages.shared.questions import Question, read_questions


def read_test_questions(workspace: Workspace) -> tuple[Question, ...]:
    """Every test question, in order. Raises DataError where there are none."""
    return tuple(read_questions(workspace.artifacts("ingest") / "test.parquet"))
