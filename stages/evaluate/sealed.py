"""The one place that opens the test questions: nothing that selects a checkpoint may come here."""

from __future__ import annotations

from collections.abc import Iterator

from stages.shared.questions import Question, iter_questions
from stages.shared.workspace import Workspace


def test_questions(workspace: Workspace) -> Iterator[Question]:
    """Every test question, in order, a chunk of them in memory at a time. Raises DataError where there are none."""
    return iter_questions(workspace.artifacts("ingest") / "test.parquet")
