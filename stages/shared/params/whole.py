"""The whole of params.yaml: wrong keys and types are refused with the place and the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator

from stages.shared.errors import ConfigurationError
from stages.shared.files import read_yaml
from stages.shared.params.episode import EpisodeParams
from stages.shared.params.evaluate import EvaluateParams
from stages.shared.params.ingest import IngestParams
from stages.shared.params.pool import PoolParams
from stages.shared.params.profile import ProfileParams
from stages.shared.params.publish import PublishParams
from stages.shared.params.reward import RewardParams
from stages.shared.params.section import Section
from stages.shared.params.stage import StageParams
from stages.shared.params.train import TrainParams
from stages.shared.params.world import WorldParams


class Params(Section):
    """The whole of params.yaml. Each DVC stage depends on the sections that it reads, and on no other."""

    profile_name: str
    """The named parameter set that this file was written from."""
    world: WorldParams = WorldParams()
    ingest: IngestParams
    pool: PoolParams
    profile: ProfileParams
    episode: EpisodeParams
    reward: RewardParams = RewardParams()
    train: TrainParams
    evaluate: EvaluateParams = EvaluateParams()
    publish: PublishParams = PublishParams()
    stage: StageParams = StageParams()

    @model_validator(mode="after")
    def _sandbox_is_whole(self) -> Params:
        if self.pool.kind == "sandbox" and self.ingest.source.kind != "sandbox":
            raise ValueError("pool.kind is sandbox, whose simulated experts know the sandbox's questions only; "
                             "set ingest.source.kind to sandbox, or choose another pool")  # fmt: skip
        return self


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check params.yaml.

    Raises ConfigurationError naming every wrong key, its value and what was expected.
    """
    try:
        raw = read_yaml(path)
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path}: no such file; write one with `pointsman use sandbox`") from error
    if not isinstance(raw, dict):
        raise ConfigurationError(f"{path} must hold a mapping of sections, found {type(raw).__name__}")
    return parse_params(raw, str(path))


def parse_params(raw: dict[str, Any], where: str) -> Params:
    """Check a mapping against the schema; `where` names it in the error. Raises ConfigurationError."""
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise ConfigurationError(f"{where}:\n" + "\n".join(f"  {line}" for line in _explain(error))) from error


def _explain(error: ValidationError) -> list[str]:
    lines = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"]) or "(whole file)"
        if fault["type"] == "extra_forbidden":
            lines.append(f"{place}: unknown key; remove it or correct its spelling")
        elif fault["type"] == "missing":
            lines.append(f"{place}: missing")
        else:
            said = fault["msg"].removeprefix("Value error, ")
            found = "" if isinstance(fault["input"], dict) else f" (found {str(fault['input'])[:80]!r})"
            lines.append(f"{place}: {said}{found}")
    return lines
