"""GraphRouter: tasks, questions and candidates as a graph, and a network that predicts the edges of a new question.

Feng et al., GraphRouter: A Graph-Based Router for LLM Selections (ICLR 2025, arXiv 2410.03834), section 3. A question
hangs on its task, a task on its questions, a candidate on the questions that it answered, with its score on the edge;
the edges to be predicted are hidden while messages pass, and some of the others too. A candidate starts from the
embedding of its description, and nothing is learned of its place: one that is new joins with the edges that it has, or
with none. Records name no tasks, so that clusters of questions stand for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans

from stages.evaluate.routers.descriptions import Newcomer, Scale
from stages.evaluate.routers.estimating import Enlarged, EstimatingRouter
from stages.evaluate.routers.history import History
from stages.evaluate.routers.learning import BATCH, learn, tensor
from stages.evaluate.routers.protocol import Asked
from stages.shared.params import EvaluateParams

WIDTH, TASKS, LEAST, SHOWN = 64, 14, 10, 256
"""Of a node; tasks at most, with so many questions at least; questions that pass messages in a step of learning."""


@dataclass(frozen=True)
class Edges:
    """What is known: questions that were answered, by whom, and how well."""

    described: Any
    """(candidates, dimensions)."""
    questions: Any
    """(questions, dimensions)."""
    task: Any
    """(questions,)."""
    scores: Any
    """(questions, candidates), less the mean of all scores; 0 where there is no edge."""
    there: Any
    """(questions, candidates): 1 where there is an edge, 0 elsewhere."""

    def shown(self, rows: Any, share: Any) -> Edges:
        """Those of some questions, of which each candidate keeps about its share, (candidates,)."""
        kept = self.there[rows] * (torch.rand(len(rows), len(share)) < share)
        return replace(
            self, questions=self.questions[rows], task=self.task[rows], scores=self.scores[rows] * kept, there=kept
        )

    def beside(self, described: Any, questions: Any, task: Any, scores: Any) -> Edges:
        """With one more candidate, and the questions, if any, that it answered."""
        count, width = self.there.shape
        corner = torch.zeros(len(questions), width)
        column = torch.cat([torch.zeros(count), scores])[:, None]
        there = torch.cat([torch.zeros(count), torch.ones(len(questions))])[:, None]
        return Edges(
            torch.cat([self.described, described]), torch.cat([self.questions, questions]),
            torch.cat([self.task, task]), torch.cat([torch.cat([self.scores, corner]), column], dim=1),
            torch.cat([torch.cat([self.there, corner]), there], dim=1),
        )  # fmt: skip


class Graph(torch.nn.Module):
    """One round of messages, then an edge for every question and candidate."""

    def __init__(self, width: int, described: int) -> None:
        super().__init__()
        self.question = torch.nn.Linear(width, WIDTH)
        self.candidate = torch.nn.Linear(described, WIDTH)
        self.from_task = torch.nn.Linear(WIDTH, WIDTH, bias=False)
        self.on_task = torch.nn.Linear(WIDTH, WIDTH, bias=False)
        self.from_questions = torch.nn.Linear(WIDTH, WIDTH, bias=False)
        self.level = torch.nn.Linear(WIDTH, 1)

    def forward(self, vectors: Any, task: Any, known: Edges) -> Any:
        """P(right), (questions, candidates), from what the known edges tell."""
        hidden, start = torch.relu(self.question(known.questions)), self.candidate(known.described)
        belongs = torch.nn.functional.one_hot(known.task, TASKS).float()
        size = belongs.sum(dim=0).clamp(min=1)[:, None]
        did = (belongs.T @ known.scores) / (belongs.T @ known.there).clamp(min=1)
        tasks = torch.relu(self.from_task(belongs.T @ hidden / size) + self.on_task(did @ start))
        answered = self.from_questions(known.scores.T @ hidden / known.there.sum(dim=0).clamp(min=1)[:, None])
        candidates = start + torch.relu(answered)
        questions = torch.relu(self.question(vectors)) + tasks[task]
        return torch.sigmoid(questions @ candidates.T / WIDTH**0.5 + self.level(candidates).T)


@dataclass(frozen=True)
class GraphRouter(EstimatingRouter):
    """Estimates any candidate that is described, the better the more edges it has."""

    graph: Graph
    clusters: KMeans
    scale: Scale
    edges: Edges

    def joined(self, new: Sequence[Newcomer]) -> Enlarged:
        """With candidates beside those that it was fitted on, by their descriptions and such records as they have."""
        known, edges = self.history, self.edges
        for item in new:
            edges = edges.beside(self.scale(item.described[None]), *self._answered(item.records))
        return Enlarged(
            (*known.candidates, *(item.name for item in new)),
            np.array([*known.mean_costs, *(item.cost for item in new)]),
            lambda asked: chances(self.graph, self.clusters, asked, edges),
        )

    def _answered(self, records: History | None) -> tuple[Any, Any, Any]:
        if records is None:
            return self.edges.questions[:0], self.edges.task[:0], torch.zeros(0)
        scores = tensor(records.scores[:, 0] - self.history.scores.mean())
        return tensor(records.vectors), tasks_of(self.clusters, records.vectors), scores


def fit_graphrouter(history: History, params: EvaluateParams) -> GraphRouter:
    """Learn to predict hidden edges; when asked, every known edge is shown. Raises DataError on too few records."""
    history.require(2 * LEAST, "graphrouter")
    torch.manual_seed(params.seed)
    count = min(TASKS, len(history.questions) // LEAST)
    clusters = KMeans(count, n_init=1, random_state=params.seed).fit(history.vectors)
    scale, scores = Scale.of(history.described), tensor(history.scores)
    task = torch.as_tensor(clusters.labels_, dtype=torch.long)
    centred = tensor(history.scores - history.scores.mean())
    edges = Edges(scale(history.described), tensor(history.vectors), task, centred, torch.ones_like(scores))
    graph = Graph(history.vectors.shape[1], history.described.shape[1])

    def loss(rows: Any) -> Any:
        """Of the edges of one batch, hidden from the rest."""
        others = torch.randperm(len(scores))[: SHOWN + BATCH]
        shown = edges.shown(others[~torch.isin(others, rows)], torch.rand(scores.shape[1]))
        found = graph(edges.questions[rows], task[rows], shown)
        return torch.nn.functional.binary_cross_entropy(found, scores[rows])

    learn(graph, len(scores), loss)
    return GraphRouter(history, lambda asked: chances(graph, clusters, asked, edges), graph, clusters, scale, edges)


def chances(graph: Graph, clusters: KMeans, asked: Asked, edges: Edges) -> np.ndarray:
    """(questions, candidates)."""
    with torch.inference_mode():
        found: np.ndarray = graph(tensor(asked.vectors), tasks_of(clusters, asked.vectors), edges).numpy()
    return found


def tasks_of(clusters: KMeans, vectors: np.ndarray) -> Any:
    """The nearest cluster of each question."""
    return torch.as_tensor(clusters.predict(vectors.astype(clusters.cluster_centers_.dtype)), dtype=torch.long)
