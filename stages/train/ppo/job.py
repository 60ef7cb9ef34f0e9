"""What the processes of a run need to know beyond verl's own configuration: one file, named by one variable."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from stages.shared.errors import ConfigurationError
from stages.shared.files import read_text, write_text
from stages.shared.params import EpisodeParams, PoolLimits, RewardParams
from stages.shared.pool.candidate import Candidate, Descriptor
from stages.shared.pool.ledger import Place

VARIABLE = "POINTSMAN_TRAINING_JOB"


class Job(BaseModel):
    """Read by every worker process. Holds no secret: a candidate names the variable that its key is in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: Path
    """Folder of the policy before PPO: its tokenizer is what everybody speaks."""
    notes: Path
    """Folder for what the run says of itself, step by step."""
    candidates: tuple[Candidate, ...]
    """Those that training may call."""
    descriptors: tuple[Descriptor, ...]
    limits: PoolLimits
    ledger: Place
    """Where every worker writes what it pays for."""
    episode: EpisodeParams
    reward: RewardParams
    seed: int
    keep: int = 2
    """Checkpoints kept, beside the best."""
    threads: int = 1
    """Threads that each process computes with."""

    def save(self, path: Path) -> Path:
        """Write as JSON, atomically; the path again."""
        write_text(path, self.model_dump_json(indent=2))
        return path

    @staticmethod
    def load() -> Job:
        """The job of this process. Raises ConfigurationError outside of a training run."""
        path = os.environ.get(VARIABLE)
        if path is None:
            raise ConfigurationError(f"{VARIABLE} is not set: this process belongs to no training run")
        return Job.model_validate_json(read_text(Path(path)))
