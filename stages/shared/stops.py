"""Stop strings, found in token ids: decoded only when a token could complete one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARGIN = 8
"""Tokens decoded beyond the stop string's length in characters: markers of unfinished bytes and word starts."""


class StopFinder:
    """Knows of every token id whether a stop string could end in it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> None:
        self._tokenizer = tokenizer
        pieces = tokenizer.convert_ids_to_tokens(list(range(min(vocabulary, len(tokenizer)))))
        self._pieces = [piece or "" for piece in pieces]
        self._ending: dict[str, frozenset[int]] = {}

    def completes(self, token: int, tokens: Sequence[int], start: int, stops: Sequence[str]) -> bool:
        """Whether `token`, the newest of `tokens`, completes a stop string within `tokens[start:]`."""
        for stop in stops:
            if token in self._endings(stop):
                tail = tokens[max(start, len(tokens) - len(stop) - MARGIN) :]
                if stop in self._tokenizer.decode(tail, skip_special_tokens=False):
                    return True
        return False

    def _endings(self, stop: str) -> frozenset[int]:
        """Ids whose piece holds the stop's last character; every id where that is not ASCII: pieces may be bytes."""
        if stop not in self._ending:
            last = stop[-1]
            ids = (i for i, piece in enumerate(self._pieces) if not last.isascii() or last in piece)
            self._ending[stop] = frozenset(ids)
        return self._ending[stop]
