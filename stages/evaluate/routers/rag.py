"""RAG: the passages that fit the question best, and the base policy answers from them.

Lewis et al., Retrieval-Augmented Generation (NeurIPS 2020, arXiv 2005.11401), as Router-R1 takes it for a baseline: one
retrieval with the question as it stands, no tuning. Passages stand where a candidate's reply stands.
"""

from __future__ import annotations

from dataclasses import replace

from stages.evaluate.attempt import Attempt, from_episode
from stages.evaluate.routers.ground import Ground, Play
from stages.evaluate.routers.searching import SEARCH, SearchPool, search_roster
from stages.shared.questions import Question


def set_up_rag(ground: Ground) -> Play:
    """Raises ConfigurationError without a corpus."""
    style = ground.base.params.prompt
    player = replace(ground.base, pool=SearchPool(ground.corpus(), style))
    roster = search_roster(ground.line.roster, style)

    async def play(question: Question) -> Attempt:
        """One question."""
        return from_episode(question, await player.answer_with(question, SEARCH, roster), ground.tariff, scripted=True)

    return play
