"""What a gate found: evidence, kept with the event of the promotion that it allowed."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Check(BaseModel):
    """One gate, evaluated."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    gate: str
    """In words, as in `router em on average`."""
    wanted: str
    """As in `at least 0.7`."""
    found: str
    passed: bool
