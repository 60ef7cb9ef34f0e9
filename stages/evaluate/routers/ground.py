"""What a method that a policy plays is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from stages.evaluate.attempt import Attempt
from stages.evaluate.measure import Line
from stages.evaluate.own import Own, Tariff
from stages.evaluate.player import Player
from stages.evaluate.routers.corpus import Corpus
from stages.evaluate.routers.encoder import Encoder
from stages.evaluate.routers.protocol import Router
from stages.evaluate.school import Teach
from stages.shared.params import EvaluateParams
from stages.shared.questions import Question

Play = Callable[[Question], Awaitable[Attempt]]


@dataclass(frozen=True)
class Ground:
    """The policies at play, the candidates that they may call, and what else a method may learn from."""

    base: Player
    """The policy before PPO, which answers for the baselines."""
    trained: Player
    tariff: Tariff
    line: Line
    params: EvaluateParams
    encode: Encoder
    knn: Callable[[], Router]
    """The KNN router of these candidates. Raises DataError where there are not enough records."""
    corpus: Callable[[], Corpus]
    """What can be searched. Raises ConfigurationError where there is nothing."""
    taught: Callable[[Teach], Player]
    """A copy of the base policy that was taught so. Raises ConfigurationError where there is nowhere to."""

    def own(self, read: int, written: int) -> Own:
        """So many tokens of the policy, with their cost."""
        return Own(read, written, read * self.tariff.prompt_price + written * self.tariff.price)
