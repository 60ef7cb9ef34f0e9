"""LLM-Blender: every candidate answers, and the replies are compared pair by pair.

Jiang, Ren and Lin, LLM-Blender: Ensembling Large Language Models with Pairwise Ranking and Generative Fusion (ACL 2023,
arXiv 2306.02561), section 3: PairRanker reads the question with two replies and says which is better; a reply's rank is
the sum of its logits against all others (MaxLogits). The paper's PairRanker is a cross-encoder; here it is a network on
the question's embedding and, of each reply, its letters, its candidate and how many others agree with it. GenFuser is
left out: as for every method here, the base policy writes the answer, from the reply that ranks first.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stages.evaluate.routers.consistency import agree
from stages.evaluate.routers.frugalgpt import LETTERS, letters
from stages.evaluate.routers.history import History
from stages.evaluate.routers.learning import learn, tensor
from stages.evaluate.routers.protocol import Asked, Choice
from stages.shared.errors import DataError
from stages.shared.params import EvaluateParams

WIDTH = 64


class PairRanker(torch.nn.Module):
    """How much better one reply is than another: the opposite when they change places."""

    def __init__(self, width: int, candidates: int) -> None:
        super().__init__()
        self.candidates = candidates
        self.question = torch.nn.Linear(width, WIDTH)
        self.first = torch.nn.Linear(LETTERS + candidates + 1, WIDTH)
        self.second = torch.nn.Linear(LETTERS + candidates + 1, WIDTH)
        self.head = torch.nn.Linear(WIDTH, 1)

    def forward(self, vectors: Any, one: Any, other: Any) -> Any:
        """Logits that `one` is better, for rows of questions and of two replies."""
        asked = self.question(vectors)
        ahead = self.head(torch.relu(asked + self.first(one) + self.second(other)))
        behind = self.head(torch.relu(asked + self.first(other) + self.second(one)))
        return (ahead - behind).squeeze(-1)


@dataclass(frozen=True)
class BlenderRouter:
    """Asks everyone and takes the reply that ranks first."""

    history: History
    ranker: PairRanker
    known: tuple[int, ...]
    """Of the history's candidates, their places among those that the ranker was fitted on."""

    def decide(self, asked: Asked, thrift: float = 0.0) -> list[Choice]:
        """A call of every candidate a question, whatever the thrift. Raises DataError without replies to rank."""
        if asked.reply is None:
            raise DataError("llm-blender ranks replies, and there are none")
        names, reply = self.history.candidates, asked.reply
        rows = [[reply(row, name) for name in names] for row in range(len(asked.questions))]
        told = described(rows, np.eye(self.ranker.candidates)[list(self.known)])
        cost = float(self.history.mean_costs.sum())
        return [Choice(names, names[place], cost) for place in logits(self.ranker, asked.vectors, told).argmax(axis=1)]

    def without(self, gone: Collection[str]) -> BlenderRouter:
        """The replies of the others are compared as before."""
        kept = self.history.kept(gone)
        return BlenderRouter(self.history.only(kept), self.ranker, tuple(self.known[place] for place in kept))


def fit_blender(history: History, params: EvaluateParams) -> BlenderRouter:
    """Learn from every pair of replies of which one scored better. Raises DataError without replies or such a pair."""
    if history.replies is None:
        raise DataError("llm-blender ranks replies, and these records hold scores only")
    better = history.scores[:, :, None] > history.scores[:, None, :]
    if not better.any():
        raise DataError("llm-blender learns from preferences, and no question tells two replies apart")
    torch.manual_seed(params.seed)
    question, winner, loser = (torch.as_tensor(places) for places in np.nonzero(better))
    vectors, told = tensor(history.vectors), tensor(described(history.replies, np.eye(len(history.candidates))))
    ranker = PairRanker(vectors.shape[1], len(history.candidates))

    def loss(rows: Any) -> Any:
        """Negative log-likelihood that the winner of each pair wins."""
        asked = question[rows]
        won = ranker(vectors[asked], told[asked, winner[rows]], told[asked, loser[rows]])
        return torch.nn.functional.softplus(-won).mean()

    learn(ranker, len(question), loss)
    return BlenderRouter(history, ranker, tuple(range(len(history.candidates))))


def described(replies: Sequence[Sequence[str]], names: np.ndarray) -> np.ndarray:
    """(questions, replies, letters + candidates + 1): letters, whose, the share of the others that agree.

    `names`: (replies, candidates), a row of which says whose reply stands there.
    """
    count, width = len(replies), len(replies[0])
    written = letters([text for row in replies for text in row]).reshape(count, width, LETTERS)
    whose = np.broadcast_to(names, (count, *names.shape))
    return np.concatenate([written, whose, np.array([support(row) for row in replies])[:, :, None]], axis=2)


def support(row: Sequence[str]) -> list[float]:
    """Of each reply to a question, the share of the others that agree with it."""
    others = max(1, len(row) - 1)
    return [
        sum(agree(text, other) for place, other in enumerate(row) if place != own) / others
        for own, text in enumerate(row)
    ]


def logits(ranker: PairRanker, vectors: np.ndarray, told: np.ndarray) -> np.ndarray:
    """(questions, candidates): the sum of a reply's logits against every other."""
    asked, replies = tensor(vectors), tensor(told)
    width, none = replies.shape[1], torch.zeros(len(asked))
    with torch.inference_mode():
        columns = [
            sum((ranker(asked, replies[:, own], replies[:, other]) for other in range(width) if other != own), none)
            for own in range(width)
        ]
        found: np.ndarray = torch.stack(columns, dim=1).numpy()
    return found
