"""The section `evaluate`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from stages.shared.params.section import Section


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
    router_price: Annotated[float, Field(ge=0)] = 0.0
    """USD per 1M tokens that the policy itself writes, in `cost_total`; 0 for a machine that is paid for anyway."""
    router_prompt_price: Annotated[float, Field(ge=0)] = 0.0
    """USD per 1M tokens that it reads, each once: what an earlier turn held stays in its cache."""
    forced: Literal["best", "all", "none"] = "best"
    """Seen candidates onto which the trained policy is forced: the best by the profile, every one (slow), or none."""
