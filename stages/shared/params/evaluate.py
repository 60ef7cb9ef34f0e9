"""The section `evaluate`."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, PositiveInt, field_validator

from stages.shared.params.section import Section

RecordsMethod = Literal[
    "knn", "mlp", "routerdc", "graphrouter", "routellm-mf", "hybrid-llm", "irt-router", "correctness", "avengers-pro",
    "frugalgpt", "consistency-cascade", "cascade-routing",
]  # fmt: skip
"""Routers that are fitted on the profile's records."""
RECORDS_METHODS: tuple[RecordsMethod, ...] = get_args(RecordsMethod)


def known_method(name: Any) -> Any:
    """The name. Raises ValueError with the closest method for one that is not known."""
    if name in RECORDS_METHODS:
        return name
    near = difflib.get_close_matches(str(name), RECORDS_METHODS, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(RECORDS_METHODS)}"
    raise ValueError(f"no method is called {name!r}; {hint}")


class EvaluateParams(Section):
    """What is measured beside the router, and how sure we are."""

    seed: int = 7
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    resamples: PositiveInt = 2000
    """Bootstrap resamples of the questions."""
    methods: tuple[Annotated[RecordsMethod, BeforeValidator(known_method)], ...] = RECORDS_METHODS
    """Baselines fitted on the profile's records, beside those that need none."""
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
    def _once(cls, methods: tuple[RecordsMethod, ...]) -> tuple[RecordsMethod, ...]:
        twice = sorted({name for name in methods if methods.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is there twice; name each method once")
        return methods
