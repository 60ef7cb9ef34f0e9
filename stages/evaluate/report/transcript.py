"""Transcripts as coloured pieces; whatever a candidate wrote stays text."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

Speaker = Literal["think", "search", "information", "answer", "loose"]
_BLOCK = re.compile(r"<(think|search|information|answer)>(.*?)</\1>", re.DOTALL)


@dataclass(frozen=True)
class Piece:
    """One block of a transcript, or loose text between blocks."""

    speaker: Speaker
    text: str


def pieces(transcript: str) -> list[Piece]:
    """Split a transcript at its blocks; text outside of any is kept as `loose`."""
    found: list[Piece] = []
    end = 0
    for block in _BLOCK.finditer(transcript):
        _add(found, "loose", transcript[end : block.start()])
        _add(found, block[1], block[2], keep_empty=True)
        end = block.end()
    _add(found, "loose", transcript[end:])
    return found


def visible(text: str) -> str:
    """Control and format characters (bidirectional overrides, zero-width, lone surrogates) as their code points."""
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp"):
        return character
    return f"[U+{ord(character):04X}]"


def _add(found: list[Piece], speaker: str, text: str, keep_empty: bool = False) -> None:
    plain = visible(text.strip())
    if plain or keep_empty:
        found.append(Piece(speaker, plain))  # type: ignore[arg-type]
