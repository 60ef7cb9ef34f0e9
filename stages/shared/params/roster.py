"""The part `train.roster`, which the episode's roster reads too."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stages.shared.params.section import Section


class RosterParams(Section):
    """How the pool is shown in a training prompt, so that the policy reads it instead of learning names."""

    shuffle: bool = True
    rename: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the questions that show the candidates under names drawn anew."""
    smallest: Annotated[int, Field(ge=2)] | None = None
    """Show a random subset of at least so many candidates; null shows all."""
