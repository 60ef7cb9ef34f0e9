"""The section `evaluate`."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, field_validator

from stages.shared.params.section import Section

RecordsMethod = Literal[
    "knn", "mlp", "bert", "routerdc", "graphrouter", "routellm-mf", "hybrid-llm", "irt-router", "correctness",
    "llmrank", "routoo", "avengers-pro", "frugalgpt", "consistency-cascade", "cascade-routing", "acar", "llm-blender",
]  # fmt: skip
"""Routers that are fitted on the profile's records."""
PlayedMethod = Literal["prompt-llm-multi", "knn-multi", "cot", "sft", "rag", "search-r1"]
"""Methods for which a policy plays episodes of their own: they take part in the pipeline alone, not on records."""
Method = RecordsMethod | PlayedMethod
RECORDS_METHODS: tuple[RecordsMethod, ...] = get_args(RecordsMethod)
PLAYED_METHODS: tuple[PlayedMethod, ...] = get_args(PlayedMethod)
METHODS: tuple[Method, ...] = (*RECORDS_METHODS, *PLAYED_METHODS)
QUICK_METHODS: tuple[Method, ...] = tuple(name for name in RECORDS_METHODS if name != "bert")
"""Without what takes minutes on a CPU."""


def known_method(name: Any) -> Any:
    """The name. Raises ValueError with the closest method for one that is not known."""
    if name in METHODS:
        return name
    near = difflib.get_close_matches(str(name), METHODS, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(METHODS)}"
    raise ValueError(f"no method is called {name!r}; {hint}")


class SftParams(Section):
    """How the baseline `sft` tunes the base policy: the defaults suit the `tiny` one."""

    steps: PositiveInt = 120
    batch: PositiveInt = 16
    """Questions a step."""
    learning_rate: PositiveFloat = 1e-3
    """At the first step; it falls along a cosine."""


class EvaluateParams(Section):
    """What is measured beside the router, and how sure we are."""

    seed: int = 7
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    resamples: PositiveInt = 2000
    """Bootstrap resamples of the questions."""
    methods: tuple[Annotated[Method, BeforeValidator(known_method)], ...] = QUICK_METHODS
    """Baselines beside those that are always there: fitted on the profile's records, or played by a policy."""
    corpus: str | None = None
    """Folder of passages (.jsonl with `text` or `contents`, or .txt, one a line) that `rag` and `search-r1` search;
    none: the facts of the sandbox's world."""
    sft: SftParams = SftParams()
    neighbours: PositiveInt = 10
    """Of the KNN router."""
    batch: PositiveInt = 64
    """Episodes in flight."""
    router_price: Annotated[float, Field(ge=0)] = 0.0
    """USD per 1M tokens that the policy itself writes, in `cost_total`; 0 for a machine that is paid for anyway."""
    router_prompt_price: Annotated[float, Field(ge=0)] = 0.0
    """USD per 1M tokens that it reads, each once: what an earlier turn held stays in its cache."""
    forced: Literal["best", "all", "none"] = "best"
    """Seen candidates onto which the trained policy is forced: the best by the profile, every one (slow), or none."""

    @field_validator("methods")
    @classmethod
    def _once(cls, methods: tuple[Method, ...]) -> tuple[Method, ...]:
        twice = sorted({name for name in methods if methods.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is there twice; name each method once")
        return methods
