"""params.yaml, typed: one module a section; unknown keys and wrong types are refused with the place and the way out."""

from stages.shared.params.episode import EpisodeParams
from stages.shared.params.evaluate import RECORDS_METHODS, EvaluateParams, RecordsMethod
from stages.shared.params.ingest import (
    DATASETS,
    Dataset,
    FilesSource,
    HubSource,
    IngestParams,
    SandboxSource,
    Sizes,
    Source,
)
from stages.shared.params.pool import (
    ApiCandidate,
    ApiPool,
    Budget,
    Expert,
    Fallback,
    LocalModel,
    LocalPool,
    PoolLimits,
    PoolParams,
    RerouteUse,
    SandboxPool,
)
from stages.shared.params.profile import ProfileParams
from stages.shared.params.publish import PublishParams
from stages.shared.params.reward import RewardParams
from stages.shared.params.roster import RosterParams
from stages.shared.params.section import Section, Share
from stages.shared.params.train import (
    HubPolicy,
    Policy,
    PpoParams,
    SmolPolicy,
    TinyPolicy,
    TrainParams,
    WarmStartParams,
)
from stages.shared.params.whole import Params, load_params, parse_params
from stages.shared.params.world import WorldParams

__all__ = [
    "DATASETS",
    "RECORDS_METHODS",
    "ApiCandidate",
    "ApiPool",
    "Budget",
    "Dataset",
    "EpisodeParams",
    "EvaluateParams",
    "Expert",
    "Fallback",
    "FilesSource",
    "HubPolicy",
    "HubSource",
    "IngestParams",
    "LocalModel",
    "LocalPool",
    "Params",
    "Policy",
    "PoolLimits",
    "PoolParams",
    "PpoParams",
    "ProfileParams",
    "PublishParams",
    "RecordsMethod",
    "RerouteUse",
    "RewardParams",
    "RosterParams",
    "SandboxPool",
    "SandboxSource",
    "Section",
    "Share",
    "Sizes",
    "SmolPolicy",
    "Source",
    "TinyPolicy",
    "TrainParams",
    "WarmStartParams",
    "WorldParams",
    "load_params",
    "parse_params",
]
