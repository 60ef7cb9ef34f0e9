"""What an episode earns: format, outcome and cost (paper, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stages.shared.episode.normaliser import CostNormaliser
from stages.shared.episode.types import Episode
from stages.shared.params import RewardParams
from stages.shared.scoring import exact_match, f1


@dataclass(frozen=True)
class Reward:
    """The parts of one episode's reward. `em`, `f1` and `cost` are measured whatever the reward makes of them."""

    total: float | None
    """Between -1 and 1; None when the infrastructure failed: neither rewards nor punishes."""
    format: float
    """0 for a well-formed episode, else -1."""
    outcome: float
    """EM or F1, before its weight; 0 when the format voids it."""
    cost_term: float
    """R_cost between 0 and 1, before its weight; 0 when it is not paid."""
    em: float
    f1: float
    cost: float
    """Millionths of a dollar, every attempted call billed."""


def score(episode: Episode, answers: Sequence[str], params: RewardParams, normaliser: CostNormaliser) -> Reward:
    """R = R_format + (1 - a) * outcome + a * R_cost, the last two void when R_format = -1.

    `upstream` pays the cost term for an exact match only. The normaliser is asked, not fed: the caller observes.
    """
    prediction = episode.answer or ""
    em, overlap = exact_match(prediction, answers), f1(prediction, answers)
    valid = episode.well_formed
    outcome = (em if params.outcome == "em" else overlap) if valid else 0.0
    paid = valid and (params.mode == "paper" or em == 1.0)
    cost_term = normaliser.term(episode.cost) if paid else 0.0
    weight = params.cost_coefficient
    format_term = 0.0 if valid else -1.0
    total = format_term + (1.0 - weight) * outcome + weight * cost_term
    failed = episode.ending == "infrastructure"
    return Reward(None if failed else total, format_term, outcome, cost_term, em, overlap, episode.cost)
