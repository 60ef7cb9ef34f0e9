"""Questions as verl reads them: prompts rendered with a roster drawn for each, in training order."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from stages.shared.episode.prompt import chat_ids, render_prompt
from stages.shared.episode.roster import draw_roster
from stages.shared.errors import ConfigurationError, DataError
from stages.shared.files import atomic_path
from stages.shared.params import EpisodeParams, PpoParams, RosterParams
from stages.shared.pool.candidate import Descriptor
from stages.shared.questions import SCHEMA, Question, row
from stages.train.ppo.columns import dump_roster

if TYPE_CHECKING:
    from stages.shared.episode.prompt import ChatTokenizer

COLUMNS = SCHEMA.append(pa.field("roster", pa.string()))
EASY_SHARE = 7 / 8
"""Share of single-hop questions in a step of the curriculum."""


def training_order(questions: Sequence[Question], ppo: PpoParams, seed: int) -> list[Question]:
    """`steps` x `questions` of them: shuffled passes, the first `curriculum` of the steps mostly single-hop.

    Raises DataError when there is none.
    """
    if not questions:
        raise DataError("the training split is empty; run the ingest stage with more questions")
    rng = random.Random(f"order {seed}")
    single = _passes([question for question in questions if question.hops == 1] or questions, rng)
    multiple = _passes([question for question in questions if question.hops > 1] or questions, rng)
    mixed = _passes(questions, rng)
    easy_steps = round(ppo.curriculum * ppo.steps)
    easy = round(EASY_SHARE * ppo.questions)
    order: list[Question] = []
    for step in range(ppo.steps):
        if step < easy_steps:
            order += [next(single) for _ in range(easy)] + [next(multiple) for _ in range(ppo.questions - easy)]
        else:
            order += [next(mixed) for _ in range(ppo.questions)]
    return order


def _passes(questions: Sequence[Question], rng: random.Random) -> Iterator[Question]:
    """Every question once in a random order, again and again."""
    while True:
        yield from rng.sample(questions, len(questions))


def write_rows(
    path: Path,
    questions: Sequence[Question],
    descriptors: Sequence[Descriptor],
    roster: RosterParams,
    names: Sequence[str],
    episode: EpisodeParams,
    seed: str,
) -> list[str]:
    """Write questions as verl's parquet, a roster drawn for each; returns the prompts."""
    rng = random.Random(seed)
    rows, prompts = [], []
    for index, question in enumerate(questions):
        drawn = draw_roster(descriptors, rng, roster, names)
        prompts.append(render_prompt(question.question, drawn, episode.prompt, episode.max_calls))
        rows.append({**row(question, index, prompts[-1]), "roster": dump_roster(drawn)})
    with atomic_path(path) as part:
        pq.write_table(pa.Table.from_pylist(rows, schema=COLUMNS), part)
    return prompts


def check_lengths(prompts: Sequence[str], tokenizer: ChatTokenizer, episode: EpisodeParams) -> None:
    """Raise ConfigurationError when a prompt is longer than `episode.prompt_tokens`."""
    longest = max(sorted(prompts, key=len)[-20:], key=lambda prompt: len(chat_ids(tokenizer, prompt)))
    count = len(chat_ids(tokenizer, longest))
    if count > episode.prompt_tokens:
        raise ConfigurationError(
            f"a training prompt has {count} tokens, episode.prompt_tokens allows "
            f"{episode.prompt_tokens}; raise it to {count}"
        )
