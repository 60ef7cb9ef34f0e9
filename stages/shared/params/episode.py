"""The section `episode`."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt, model_validator

from stages.shared.params.section import Section


class EpisodeParams(Section):
    """Limits of one episode, and the form of its prompt (paper, section 3 and appendix)."""

    max_calls: PositiveInt = 4
    """Routed turns; one more generation follows without routing."""
    prompt_tokens: PositiveInt = 2048
    response_tokens: PositiveInt = 2048
    """The policy's own tokens and the candidates' replies together."""
    turn_tokens: PositiveInt = 1024
    """Tokens that the policy may write in one turn."""
    reply_tokens: PositiveInt = 600
    """A candidate's reply is cut to so many policy tokens."""
    prompt: Literal["compact", "prose"] = "prose"
    """`compact`: a table that a small policy can read; `prose`: the paper's instructions."""

    @model_validator(mode="after")
    def _holds_a_call(self) -> EpisodeParams:
        least = self.turn_tokens + self.reply_tokens
        if self.response_tokens < least:
            raise ValueError(
                f"response_tokens ({self.response_tokens}) does not hold one call and its reply: turn_tokens + "
                f"reply_tokens = {least}; raise it, or lower one of the two"
            )
        return self
