"""The section `world`."""

from __future__ import annotations

from pydantic import PositiveInt

from stages.shared.params.section import Section


class WorldParams(Section):
    """The sandbox's generated world (synthetic)."""

    seed: int = 7
    """Everything in the world follows from it."""
    entities: PositiveInt = 240
    """Entities of each type."""
