"""Search-R1: the trained policy with a search in the place of every candidate.

Jin et al., Search-R1: Training LLMs to Reason and Leverage Search Engines with Reinforcement Learning (arXiv
2503.09516), of which Router-R1's protocol is the child: the same driver, the same turns. The paper trains with the
search; here the policy is the one that was trained to call candidates.
"""

from __future__ import annotations

from dataclasses import replace

from stages.evaluate.attempt import Attempt, from_episode
from stages.evaluate.routers.ground import Ground, Play
from stages.evaluate.routers.searching import SearchPool, search_roster
from stages.shared.questions import Question


def set_up_search_r1(ground: Ground) -> Play:
    """Raises ConfigurationError without a corpus."""
    style = ground.trained.params.prompt
    player = replace(ground.trained, pool=SearchPool(ground.corpus(), style))
    roster = search_roster(ground.line.roster, style)

    async def play(question: Question) -> Attempt:
        """One question."""
        return from_episode(question, await player.play(question, roster), ground.tariff)

    return play
