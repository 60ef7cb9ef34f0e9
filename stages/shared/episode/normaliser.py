"""The cost term of the reward: a cost against recent ones, or against the first ones."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

_LOW, _HIGH = 5.0, 95.0
_FLAT = 1e-8


class CostNormaliser:
    """R_cost from the 5th and 95th percentile of sqrt(cost) over the last `window` costs (paper, section 3.2).

    With `fixed`, over the first `window` costs instead. One instance belongs to one split of one trainer. Observe a
    whole batch before asking for its terms, and the terms do not depend on the order within the batch.
    """

    def __init__(self, window: int, *, fixed: bool = False) -> None:
        self._roots: deque[float] = deque(maxlen=window)
        self._window = window
        self._fixed = fixed

    def observe(self, cost: float) -> None:
        """Remember one episode's cost, in millionths of a dollar. Raises ValueError on a negative or non-finite one."""
        root = _root(cost)
        if not (self._fixed and len(self._roots) == self._window):
            self._roots.append(root)

    def term(self, cost: float) -> float:
        """R_cost = 1 - clip((sqrt(cost) - lo) / (hi - lo), 0, 1); 0.5 when the window is empty or flat."""
        root = _root(cost)
        if self.empty:
            return 0.5
        low, high = self.bounds()
        if high - low < _FLAT:
            return 0.5
        return 1.0 - min(max((root - low) / (high - low), 0.0), 1.0)

    @property
    def empty(self) -> bool:
        """Whether no cost was observed yet."""
        return not self._roots

    def bounds(self) -> tuple[float, float]:
        """The roots between which the term falls from 1 to 0; both 0 when the window is empty."""
        if self.empty:
            return 0.0, 0.0
        low, high = np.percentile(self._roots, (_LOW, _HIGH))
        return float(low), float(high)

    def state(self) -> list[float]:
        """The window, oldest first, as square roots of costs: plain JSON for a checkpoint."""
        return list(self._roots)

    def restore(self, state: Sequence[float]) -> None:
        """Take up a saved window; where it is longer than this one, its latest part."""
        self._roots.clear()
        self._roots.extend(float(root) for root in state)


def _root(cost: float) -> float:
    if not math.isfinite(cost) or cost < 0:
        raise ValueError(f"a cost must be finite and not negative, found {cost}")
    return math.sqrt(cost)
