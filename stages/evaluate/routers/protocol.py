"""What every single-call router or cascade is: a choice of candidates for a question, and its expected cost."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stages.evaluate.routers.history import History

Reply = Callable[[int, str], str]
"""(place of a question, candidate) -> what the candidate replies to it."""


@dataclass(frozen=True)
class Asked:
    """Questions to decide about."""

    questions: tuple[str, ...]
    vectors: np.ndarray
    """(questions, dimensions), of unit length."""
    reply: Reply | None = None
    """For routers that look at one reply before they ask another; None where only scores are known."""


@dataclass(frozen=True)
class Choice:
    """Who is asked about one question, in order, and whose reply is taken."""

    called: tuple[str, ...]
    taken: str
    cost: float
    """Expected of all calls, by the mean cost of each candidate in the records."""


class Router(Protocol):
    """Chooses by its own rule; the reply that it takes then goes to the base policy, which answers."""

    def decide(self, asked: Asked, thrift: float = 0.0) -> list[Choice]:
        """One choice a question. `thrift`: 0 looks at quality alone, 1 at cost alone."""
        ...


class FittedRouter(Router, Protocol):
    """A router that was fitted on records."""

    @property
    def history(self) -> History:
        """What it was fitted on."""
        ...

    def without(self, gone: Collection[str]) -> Router | None:
        """The same, as it stands, when candidates are taken away; None where it would have to be fitted again.

        Raises DataError where those that are left are too few for it.
        """
        ...


def single(history: History, places: Sequence[int] | np.ndarray) -> list[Choice]:
    """One call a question, to the candidate of that place in the history."""
    names, costs = history.candidates, history.mean_costs
    return [Choice((names[place],), names[place], float(costs[place])) for place in places]
