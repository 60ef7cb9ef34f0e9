"""Where a gold answer stands in a text, so that a demonstration can copy it as it is written there."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence

from stages.shared.scoring import exact_match, normalise

_WORD = re.compile(r"\S+")
_EDGES = string.punctuation + string.whitespace


def find_answer(text: str, answers: Sequence[str]) -> str | None:
    """The first run of whole words of `text` that is an exact match of a gold answer, without punctuation around it.

    Longer golds are looked for first, so that "New York City" is not cut to "York".
    """
    place = locate(text, answers)
    if place is None:
        return None
    bare = text[slice(*place)].strip(_EDGES)
    return bare if exact_match(bare, answers) else text[slice(*place)]


def replace_answer(text: str, answers: Sequence[str], other: str) -> str:
    """The text with its first mention of a gold answer written as `other`; unchanged where there is none."""
    place = locate(text, answers)
    if place is None:
        return text
    start, end = place
    mention = text[start:end]
    return text[:start] + mention.replace(mention.strip(_EDGES), other) + text[end:]


def locate(text: str, answers: Sequence[str]) -> tuple[int, int] | None:
    """Start and end, in characters, of the first run of whole words that normalises to a gold answer."""
    words = [(word, found.span()) for found in _WORD.finditer(text) for word in [normalise(found[0])] if word]
    golds = sorted({tuple(normalise(answer).split()) for answer in answers}, key=lambda gold: (-len(gold), gold))
    return next((place for gold in golds if gold for place in _runs(words, gold)), None)


def _runs(words: list[tuple[str, tuple[int, int]]], gold: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    for at in range(len(words) - len(gold) + 1):
        run = words[at : at + len(gold)]
        if tuple(word for word, _ in run) == gold:
            yield run[0][1][0], run[-1][1][1]
