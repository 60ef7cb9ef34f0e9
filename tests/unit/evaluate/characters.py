"""A tokenizer for scripted policies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Characters:
    """A tokenizer of one token a character."""

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return [ord(character) for character in text]

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        return "".join(map(chr, token_ids))

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> list[int]:
        return self.encode(conversation[0]["content"] + "\nassistant ")
