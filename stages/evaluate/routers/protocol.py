"""What every single-call baseline is: a choice of one candidate for a question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from stages.shared.questions import Question


class Router(Protocol):
    """Chooses by its own rule; the chosen candidate's reply then goes to the base policy, which answers."""

    @property
    def method(self) -> str:
        """Its name in the metrics."""
        ...

    def choose(self, questions: Sequence[Question]) -> list[str]:
        """One candidate's name a question."""
        ...
