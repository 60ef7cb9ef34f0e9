"""The policy's own tokens, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stages.shared.episode.types import Episode


@dataclass(frozen=True, slots=True)
class Own:
    """Tokens that the policy read and wrote, and their cost in millionths of a dollar."""

    read: int = 0
    written: int = 0
    cost: float = 0.0

    def __add__(self, other: Own) -> Own:
        """Both together."""
        return Own(self.read + other.read, self.written + other.written, self.cost + other.cost)


@dataclass(frozen=True)
class Tariff:
    """Prices of the policy's tokens, USD per 1M. Each token counts once: what a turn held stays in the cache."""

    prompt_price: float
    """Of those that it reads: its prompt and the observations."""
    price: float
    """Of those that it writes."""

    def own(self, episode: Episode, *, scripted: bool = False) -> Own:
        """Of a whole episode. `scripted`: its first turn was written for the policy, which only read it."""
        given = _end_of_turn(episode.response_mask, 0) if scripted else 0
        written = sum(episode.response_mask) - given
        return self._own(len(episode.prompt_ids) + len(episode.response_mask) - written, written)

    def choosing(self, episode: Episode) -> Own:
        """Up to the first call, or to the end where there is none; without the prompt."""
        mask = episode.response_mask
        turns = [index for index, turn in enumerate(episode.turns) if turn.call is not None]
        mask = mask[: _end_of_turn(mask, turns[0])] if turns else mask
        return self._own(mask.count(0), mask.count(1))

    def _own(self, read: int, written: int) -> Own:
        return Own(read, written, read * self.prompt_price + written * self.price)


def _end_of_turn(mask: Sequence[int], index: int) -> int:
    """Where the policy's turn of that index ends: an observation lies between any two turns."""
    after = (*mask[1:], 0)
    return [place + 1 for place, wrote in enumerate(mask) if wrote and not after[place]][index]
