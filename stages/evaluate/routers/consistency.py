"""Answer-consistency cascade: cheap candidates first, and a dear one where they do not agree.

Yue et al., Large Language Model Cascades with Mixture of Thoughts Representations (ICLR 2024, arXiv 2310.03094),
section 3: samples of a weak candidate vote, and agreement decides whether to go on. Records hold one reply a candidate,
so that the votes are those of several cheap candidates instead of several samples of one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from stages.evaluate.routers.history import History
from stages.evaluate.routers.protocol import Asked, Choice, Reply
from stages.shared.errors import DataError
from stages.shared.params import EvaluateParams
from stages.shared.scoring import contains

PANEL = 3
"""Cheap candidates that vote, at most; two that agree end it."""


@dataclass(frozen=True)
class ConsistencyRouter:
    """A panel, asked one after the other until two agree; otherwise the strongest candidate."""

    history: History
    panel: tuple[int, ...]
    strong: int

    def decide(self, asked: Asked, thrift: float = 0.0) -> list[Choice]:
        """One to four calls a question, whatever the thrift. Raises DataError without replies to compare."""
        if asked.reply is None:
            raise DataError("consistency-cascade compares replies, and there are none")
        return [self._one(index, asked.reply) for index in range(len(asked.questions))]

    def without(self, gone: Collection[str]) -> ConsistencyRouter:
        """The next cheapest vote, the next strongest decides: that is read off the records, nothing is learned."""
        return seated(self.history.only(self.history.kept(gone)))

    def _one(self, index: int, reply: Reply) -> Choice:
        names = self.history.candidates
        for place, asked in enumerate(self.panel):
            before = [
                earlier
                for earlier in self.panel[:place]
                if agree(reply(index, names[earlier]), reply(index, names[asked]))
            ]
            if before:
                return self._choice(self.panel[: place + 1], before[0])
        return self._choice((*self.panel, self.strong), self.strong)

    def _choice(self, called: tuple[int, ...], taken: int) -> Choice:
        names = self.history.candidates
        return Choice(
            tuple(names[place] for place in called), names[taken], float(self.history.mean_costs[list(called)].sum())
        )


def fit_consistency(history: History, params: EvaluateParams) -> ConsistencyRouter:
    """Nothing is learned. Raises DataError without replies, or with too few candidates."""
    return seated(history)


def seated(history: History) -> ConsistencyRouter:
    """The cheapest candidates but the strongest vote. Raises DataError without replies, or with too few candidates."""
    strong = history.strongest
    panel = tuple(place for place in range(len(history.candidates)) if place != strong)[:PANEL]
    if history.replies is None:
        raise DataError("consistency-cascade compares replies, and these records hold scores only")
    if len(panel) < 2:
        raise DataError("consistency-cascade needs two candidates beside the strongest")
    return ConsistencyRouter(history, panel, strong)


def agree(one: str, other: str) -> bool:
    """Whether one reply holds the other, as whole words after normalisation."""
    return contains(one, (other,)) or contains(other, (one,))
