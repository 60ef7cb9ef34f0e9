"""GraphRouter: tasks, questions and candidates as a graph, and a network that predicts the edges of a new question.

Feng et al., GraphRouter: A Graph-Based Router for LLM Selections (ICLR 2025, arXiv 2410.03834), section 3. A question
hangs on its task, a task on its questions, a candidate on the questions that it answered, with its score on the edge;
the edges to be predicted are hidden while messages pass. Records name no tasks, so clusters of questions stand for
them, and a candidate starts from parameters of its own where the paper starts from its description.
"""

from __future__ import annotations

from typing import Any

import torch
from sklearn.cluster import KMeans

from stages.evaluate.routers.estimating import EstimatingRouter
from stages.evaluate.routers.history import History
from stages.evaluate.routers.learning import BATCH, learn, tensor
from stages.evaluate.routers.protocol import Asked
from stages.shared.params import EvaluateParams

WIDTH, TASKS, LEAST, SHOWN = 64, 14, 10, 256
"""Of a node; tasks at most, with so many questions at least; questions that pass messages in a step of learning."""


class Graph(torch.nn.Module):
    """One round of messages, then an edge for every question and candidate."""

    def __init__(self, width: int, candidates: int) -> None:
        super().__init__()
        self.question = torch.nn.Linear(width, WIDTH)
        self.candidates = torch.nn.Parameter(torch.randn(candidates, WIDTH) / WIDTH**0.5)
        self.from_task = torch.nn.Linear(WIDTH, WIDTH, bias=False)
        self.on_task = torch.nn.Linear(candidates, WIDTH)
        self.from_questions = torch.nn.Linear(WIDTH, WIDTH, bias=False)
        self.level = torch.nn.Linear(WIDTH, candidates)

    def forward(self, vectors: Any, task: Any, shown: Any, shown_scores: Any, shown_task: Any) -> Any:
        """P(right), (questions, candidates), from what the shown questions' edges tell."""
        hidden = torch.relu(self.question(shown))
        belongs = torch.nn.functional.one_hot(shown_task, TASKS).float()
        size = belongs.sum(dim=0).clamp(min=1)[:, None]
        mean_score = shown_scores.mean(dim=0)
        tasks = torch.relu(
            self.from_task(belongs.T @ hidden / size) + self.on_task(belongs.T @ (shown_scores - mean_score) / size)
        )
        answered = self.from_questions((shown_scores - mean_score).T @ hidden / len(shown))
        candidates = self.candidates + torch.relu(answered)
        questions = torch.relu(self.question(vectors)) + tasks[task]
        return torch.sigmoid(questions @ candidates.T / WIDTH**0.5 + self.level(tasks)[task])


def fit_graphrouter(history: History, params: EvaluateParams) -> EstimatingRouter:
    """Learn to predict hidden edges; when asked, every known edge is shown. Raises DataError on too few records."""
    history.require(2 * LEAST, "graphrouter")
    torch.manual_seed(params.seed)
    count = min(TASKS, len(history.questions) // LEAST)
    clusters = KMeans(count, n_init=1, random_state=params.seed).fit(history.vectors)
    vectors, scores = tensor(history.vectors), tensor(history.scores)
    task = torch.as_tensor(clusters.labels_, dtype=torch.long)
    graph = Graph(vectors.shape[1], len(history.candidates))

    def loss(rows: Any) -> Any:
        """Of the edges of one batch, hidden from the rest."""
        others = torch.randperm(len(vectors))[: SHOWN + BATCH]
        shown = others[~torch.isin(others, rows)]
        found = graph(vectors[rows], task[rows], vectors[shown], scores[shown], task[shown])
        return torch.nn.functional.binary_cross_entropy(found, scores[rows])

    def estimate(asked: Asked) -> Any:
        """P(right) of every candidate."""
        near = torch.as_tensor(clusters.predict(asked.vectors.astype(history.vectors.dtype)), dtype=torch.long)
        with torch.inference_mode():
            return graph(tensor(asked.vectors), near, vectors, scores, task).numpy()

    learn(graph, len(vectors), loss)
    return EstimatingRouter(history, estimate)
