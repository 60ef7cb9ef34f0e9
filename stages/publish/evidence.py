"""What a gate found: evidence, kept with the event of the promotion that it allowed."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


def _spelled(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


Text = Annotated[str, AfterValidator(_spelled)]
"""What cannot be written in UTF-8 is a `?`: such halves of characters come from terminals with another encoding and
from JSON, and a pointer with one in it could be written and never be read again."""


class Check(BaseModel):
    """One gate, evaluated."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    gate: Text
    """In words, as in `router em on average`."""
    wanted: Text
    """As in `at least 0.7`."""
    found: Text
    passed: bool
