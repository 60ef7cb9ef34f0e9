"""SFT: a copy of the base policy, tuned to answer the training questions by itself. No candidate is called.

Chung et al., Scaling Instruction-Finetuned Language Models (arXiv 2210.11416), as Router-R1 takes it for a baseline:
supervised fine-tuning from question to answer, without a thought between them. The prompt is the question alone, the
loss the mean cross-entropy of the tokens of the first gold answer and of the tag that closes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch

from stages.evaluate.attempt import Attempt, from_episode
from stages.evaluate.player import ANSWER, PolicyTokenizer
from stages.evaluate.routers.ground import Ground, Play
from stages.evaluate.routers.learning import learn
from stages.shared.episode.prompt import chat_ids
from stages.shared.episode.protocol import neutralise
from stages.shared.errors import DataError
from stages.shared.params import EvaluateParams
from stages.shared.questions import Question

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CLOSED = "</answer>"
UNTRAINED = -100
"""Label of a token that is read, not learned: what torch's cross-entropy leaves out."""
PROMPTS = {
    "compact": "question : {question}",
    "prose": "Answer the question in a few words, with no explanation.\n\nQuestion: {question}",
}


@dataclass(frozen=True)
class Example:
    """Token ids of a question and its answer."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


def set_up_sft(ground: Ground) -> Play:
    """Tune a copy of the base policy: `evaluate.sft` says for how long. Raises DataError without training questions."""
    style = ground.base.params.prompt
    player = ground.taught(partial(teach, params=ground.params, style=style))

    async def play(question: Question) -> Attempt:
        """One question: its turn is opened with `<answer>`, as it was in tuning."""
        prompt = asked(player.tokenizer, question.question, style)
        episode = await player.run(question, ground.line.roster, player.opened, max_calls=0, prompt=prompt)
        return from_episode(question, episode, ground.tariff)

    return play


def teach(
    model: PreTrainedModel, tokenizer: PolicyTokenizer, questions: Sequence[Question], params: EvaluateParams,
    style: Literal["compact", "prose"],
) -> None:  # fmt: skip
    """Tune every weight on batches drawn with replacement, the same for the same seed."""
    if not questions:
        raise DataError("sft learns from the training questions, and there are none; raise ingest.sizes.train")
    torch.manual_seed(params.seed)
    examples = [example(tokenizer, question, style) for question in questions]

    def loss(rows: Any) -> Any:
        """Of one batch."""
        ids, labels = (item.to(model.device) for item in padded([examples[row] for row in rows]))
        return model(input_ids=ids, labels=labels, use_cache=False).loss

    recipe = params.sft
    learn(model, len(examples), loss, steps=recipe.steps, rate=recipe.learning_rate, batch=recipe.batch)


def asked(tokenizer: PolicyTokenizer, question: str, style: Literal["compact", "prose"]) -> list[int]:
    """Token ids of the question alone, made inert, in the policy's chat template."""
    return chat_ids(tokenizer, PROMPTS[style].format(question=neutralise(" ".join(question.split()))))


def example(tokenizer: PolicyTokenizer, question: Question, style: Literal["compact", "prose"]) -> Example:
    """The opening tag belongs to the prompt, since it is written for the policy when it is asked too."""
    prompt = (*asked(tokenizer, question.question, style), *tokenizer.encode(ANSWER))
    return Example(prompt, tuple(tokenizer.encode(f" {neutralise(question.answers[0])} {CLOSED}")))


def padded(examples: Sequence[Example]) -> tuple[Any, Any]:
    """Ids and labels, both (examples, longest), padded on the right with a token of which nothing is learned."""
    rows = [(*item.prompt, *item.answer) for item in examples]
    longest = max(map(len, rows))
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    labels = torch.full_like(ids, UNTRAINED)
    for place, (row, item) in enumerate(zip(rows, examples, strict=True)):
        ids[place, : len(row)] = torch.tensor(row)
        labels[place, len(item.prompt) : len(row)] = torch.tensor(item.answer)
    return ids, labels
