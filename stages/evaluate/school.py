"""Where a copy of the base policy is taught something else than to route, and then put at play."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.evaluate.player import Player, PolicyTokenizer
from stages.shared.params import EpisodeParams
from stages.shared.pool.candidate import Pool
from stages.shared.questions import Question, read_questions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Teach = Callable[["PreTrainedModel", PolicyTokenizer, Sequence[Question]], None]
"""Changes the policy's weights in place, given the training questions."""


@dataclass(frozen=True)
class School:
    """The base policy and the questions that it was trained on."""

    policy: Path
    """Folder of the policy before PPO."""
    questions: Path
    """Of the training split."""
    params: EpisodeParams
    pool: Pool
    stack: AsyncExitStack
    """Ends the generators of those that were taught."""

    def taught(self, teach: Teach) -> Player:
        """A copy of the policy, taught and greedy. Raises DataError where the policy or the questions are missing."""
        from stages.shared.batching import BatchedGenerator
        from stages.shared.policy import load_policy, load_tokenizer

        tokenizer, model = load_tokenizer(self.policy), load_policy(self.policy)
        teach(model, tokenizer, read_questions(self.questions))
        generator = BatchedGenerator(model, tokenizer)
        self.stack.push_async_callback(generator.close)
        return Player(generator.sampler(temperature=0.0), tokenizer, self.params, self.pool)
