"""The section `evaluate`."""

from __future__ import annotations

from typing import Annotated

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
