"""Where a stage finds its inputs, and leaves its outputs and whatever it keeps."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

RUNS = "POINTSMAN_RUNS"
REPLIES = "POINTSMAN_REPLIES"


@dataclass(frozen=True)
class Workspace:
    """Where a stage finds its inputs and leaves its outputs."""

    root: Path

    def artifacts(self, stage: str) -> Path:
        """The folder of artifacts that DVC keeps for a stage."""
        return self.root / "artifacts" / stage

    def metrics(self, stage: str) -> Path:
        """The stage's metrics file, tracked by git."""
        return self.root / "metrics" / f"{stage}.json"

    def runs(self, stage: str) -> Path:
        """Where a stage keeps what it resumes from; outside DVC, which wipes outputs before it runs a stage.

        POINTSMAN_RUNS names another place: DVC throws away the folder that it runs an experiment in.
        """
        return Path(os.environ.get(RUNS) or self.state / "runs") / stage

    @property
    def replies(self) -> Path:
        """Candidates' replies, recorded; POINTSMAN_REPLIES names another file: clones of a checkout share its own."""
        return Path(os.environ.get(REPLIES) or self.state / "replies" / "replies.sqlite")

    def errors(self, stage: str) -> Path:
        """What went wrong when the stage last failed; absent after a success."""
        return self.state / "errors" / f"{stage}.json"

    @property
    def state(self) -> Path:
        """Everything that is neither an artifact nor for git."""
        return self.root / ".pointsman"
