"""The section `reward`."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from stages.shared.params.section import Section, Share


class RewardParams(Section):
    """R = R_format + (1 - a) * outcome + a * R_cost (paper, section 3.2)."""

    mode: Literal["paper", "upstream"] = "paper"
    """`upstream`: the released code's variant, which pays the cost term for a correct answer only."""
    outcome: Literal["em", "f1"] = "em"
    cost_coefficient: Share = 0.0
    """The paper's alpha."""
    normaliser: Literal["window", "fixed"] = "window"
    """What a cost is measured against: the paper's sliding window of recent costs, or the first `window` costs seen."""
    window: PositiveInt = 1000
    """Costs that the normaliser remembers."""

    @property
    def counts_cost(self) -> bool:
        """Whether what an episode cost is part of what it earns."""
        return self.cost_coefficient > 0
