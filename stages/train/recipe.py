"""The three steps of training, each in a run folder of its own, so that none is done twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.shared.artifacts import verify_manifest
from stages.shared.files import write_json
from stages.shared.params import Params
from stages.shared.workspace import Workspace
from stages.train.run_folder import run_folder

SHARED = ("stages/shared/episode", "stages/shared/sandbox/lexicon.py", "stages/shared/scoring.py")
GENERATION = tuple(
    f"stages/shared/{name}.py" for name in ("attention", "batching", "decoding", "network", "sampling", "stops")
)
"""What samples the episodes of PPO: its rounding is part of a run that is to be repeated exactly."""
BASE = (
    "stages/train/policy", "stages/train/tiny", "stages/train/warm_start/wording.py",
    "stages/shared/sandbox/lexicon.py", "stages/shared/sandbox/world.py", "stages/shared/episode/prompt.py",
    "stages/shared/episode/protocol.py", "stages/shared/episode/wording.py",
)  # fmt: skip
"""What the text of pre-training is made by."""


class Recipe:
    """Base policy -> warm start -> PPO, on the artifacts of the stages before."""

    def __init__(self, params: Params, workspace: Workspace) -> None:
        """Raises IntegrityError when an input is not what its manifest says."""
        self._params = params
        self._workspace = workspace
        self._ingest, self._profile = workspace.artifacts("ingest"), workspace.artifacts("profile")
        for folder in (self._ingest, self._profile):
            verify_manifest(folder)

    def base(self) -> Path:
        """The policy before it has seen an episode."""
        from stages.train.policy.base import base_policy

        settings = self._params.train
        thrifty = settings.policy.kind == "tiny" and self._params.reward.counts_cost
        reads = {"policy": settings.policy.model_dump(), "seed": settings.seed, "thrifty": thrifty}
        return base_policy(settings.policy, self._folder("base", reads, [], BASE), settings.seed, thrifty=thrifty)

    def warm_start(self, base: Path) -> Path:
        """The policy after demonstrations."""
        from stages.shared.episode.roster import read_descriptors
        from stages.shared.questions import read_questions
        from stages.train.warm_start.start import warm_start

        descriptors, records = self._profile / "descriptors.json", self._profile / "records.parquet"
        questions = self._ingest / "profiling.parquet"
        train = self._params.train
        reads = {
            "base": str(base), "seed": train.seed, "warm_start": train.warm_start.model_dump(),
            "roster": train.roster.model_dump(), "episode": self._params.episode.model_dump(),
            "thrifty": self._params.reward.counts_cost,
        }  # fmt: skip
        files = [descriptors, records, questions]
        folder = self._folder("warm-start", reads, files, (*SHARED, "stages/train/warm_start"))
        out = folder / "policy"
        if not out.is_dir():
            known = read_descriptors(descriptors)
            losses = warm_start(base, records, known, read_questions(questions), self._params, out)
            write_json(folder / "losses.json", list(losses))
        return out

    def ppo(self, policy: Path) -> tuple[Path, int]:
        """The run folder of PPO, and the step whose weights are the best."""
        from stages.shared.episode.roster import read_descriptors
        from stages.shared.questions import read_questions
        from stages.train.ppo.stage import Inputs, ppo

        descriptors = self._profile / "descriptors.json"
        training, validation = self._ingest / "train.parquet", self._ingest / "validation.parquet"
        params = self._params
        reads = {
            "policy": str(policy), "train": params.train.model_dump(exclude={"policy", "warm_start"}),
            "episode": params.episode.model_dump(), "reward": params.reward.model_dump(),
            "pool": params.pool.model_dump(exclude={"limits": {"budget", "deadline_s"}}),
            "world": params.world.model_dump(),
        }  # fmt: skip
        files = [descriptors, training, validation]
        folder = self._folder("ppo", reads, files, (*SHARED, *GENERATION, "stages/train/ppo"))
        seen = tuple(known for known in read_descriptors(descriptors) if known.seen)
        inputs = Inputs(read_questions(training), read_questions(validation), seen)
        return folder, ppo(params, policy, inputs, folder, self._workspace.state)

    def _folder(self, step: str, reads: dict[str, Any], files: list[Path], sources: tuple[str, ...]) -> Path:
        return run_folder(self._workspace.runs("train"), step, reads, files, sources)
