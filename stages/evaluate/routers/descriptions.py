"""What is said of a candidate to routers that read descriptions, and what these are told of one that is new."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.evaluate.routers.history import History
from stages.evaluate.routers.learning import tensor
from stages.shared.pool.candidate import Descriptor


@dataclass(frozen=True)
class Newcomer:
    """A candidate that a router was not fitted on."""

    name: str
    described: np.ndarray
    """The embedding of its description, (dimensions,)."""
    cost: float
    """Expected of a question: by its records, or by its price where it has none."""
    records: History | None = None
    """Of it alone; None where nobody has asked it anything."""


def describe(known: Descriptor) -> str:
    """Price, latency, skills from the best to the worst, and summary; its name says nothing and is left out."""
    skills = sorted(known.skill.items(), key=lambda item: (-item[1].em, item[0]))
    right = ", ".join(f"{topic} {100 * skill.em:.0f}%" for topic, skill in skills)
    parts = [f"Right answers, best first: {right}." if right else "", known.summary]
    price = f"{known.price:g} USD per million output tokens, about {known.latency_s:.1f} s a call."
    return " ".join(part for part in (*parts, price) if part)


@dataclass(frozen=True)
class Scale:
    """Puts embeddings of descriptions, which are all much alike, apart: from their middle, in their mean distance."""

    middle: np.ndarray
    spread: float

    @staticmethod
    def of(described: np.ndarray) -> Scale:
        """`described`: (candidates, dimensions), those that a router is fitted on."""
        middle = described.mean(axis=0)
        return Scale(middle, float(np.linalg.norm(described - middle, axis=1).mean()) or 1.0)

    def __call__(self, described: np.ndarray) -> Any:
        """As 32-bit floats, of about unit length."""
        return tensor((described - self.middle) / self.spread)
