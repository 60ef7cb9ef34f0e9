"""The section `profile`."""

from __future__ import annotations

from pydantic import PositiveInt

from stages.shared.params.section import Section


class ProfileParams(Section):
    """How candidates are measured."""

    questions: PositiveInt
    """Profiling questions asked of every candidate, at most (sub-questions of a multi-hop question come on top)."""
    renewed: PositiveInt | None = None
    """Since when candidates were others than those profiled, seconds since 1970: they are measured anew for that."""
