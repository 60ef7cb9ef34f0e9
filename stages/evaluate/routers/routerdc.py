"""RouterDC: question and candidates in one space, drawn together and apart by two contrastive losses.

Chen et al., RouterDC: Query-Based Router by Dual Contrastive Learning (NeurIPS 2024, arXiv 2409.19886), section 3. The
paper tunes an encoder; here a linear map on frozen MiniLM vectors is learned in its place. Of candidates that did the
same, who counts among the best or the worst is drawn anew in each batch: in a fixed order some would never be drawn
towards the questions that they answer as well as others.
"""

from __future__ import annotations

from typing import Any

import torch
from sklearn.cluster import KMeans

from stages.evaluate.routers.estimating import EstimatingRouter
from stages.evaluate.routers.history import History
from stages.evaluate.routers.learning import learn, predicted, tensor
from stages.shared.params import EvaluateParams

WIDTH, BEST, WORST, GROUPS, OTHERS, WRONG, TEMPERATURE = 128, 3, 3, 5, 3, 0.5, 0.2
"""The paper takes three positives, three negatives (none better than a half), five groups and three questions of other
groups; its similarities are not divided by a temperature, which a linear map needs to tell near from far."""

TIE = 1e-6
"""Less than any two scores differ by."""


class Space(torch.nn.Module):
    """Similarity of questions to candidates, -1 to 1."""

    def __init__(self, width: int, candidates: int) -> None:
        super().__init__()
        self.map = torch.nn.Linear(width, WIDTH)
        self.candidates = torch.nn.Parameter(torch.randn(candidates, WIDTH))

    def place(self, vectors: Any) -> Any:
        """Questions in the common space, unit vectors."""
        return torch.nn.functional.normalize(self.map(vectors), dim=-1)

    def forward(self, vectors: Any) -> Any:
        """(questions, candidates)."""
        return self.place(vectors) @ torch.nn.functional.normalize(self.candidates, dim=-1).T


def fit_routerdc(history: History, params: EvaluateParams) -> EstimatingRouter:
    """Minimise the sample-LLM and the sample-sample loss (equations 3 to 5). Raises DataError on few questions."""
    history.require(2 * GROUPS, "routerdc")
    torch.manual_seed(params.seed)
    groups = KMeans(GROUPS, n_init=1, random_state=params.seed).fit_predict(history.vectors)
    space = Space(history.vectors.shape[1], len(history.candidates))
    vectors, scores, group = tensor(history.vectors), tensor(history.scores), torch.as_tensor(groups)

    def loss(rows: Any) -> Any:
        """Both losses of one batch, weighed alike."""
        return to_candidates(space(vectors[rows]), scores[rows]) + to_questions(space.place(vectors[rows]), group[rows])

    learn(space, len(vectors), loss)
    return EstimatingRouter(history, predicted(space))


def to_candidates(similarity: Any, scores: Any) -> Any:
    """Sample-LLM loss: each of the best candidates against the worst; a candidate as good as it is not against it."""
    drawn = scores + torch.rand_like(scores) * TIE
    best = drawn.topk(min(BEST, scores.shape[1])).indices
    worst = drawn.topk(min(WORST, scores.shape[1]), largest=False).indices
    near, far = similarity.gather(1, best) / TEMPERATURE, similarity.gather(1, worst) / TEMPERATURE
    low = scores.gather(1, worst)[:, None, :]
    worse = (scores.gather(1, best)[:, :, None] > low) & (low <= WRONG)
    against = far[:, None, :].expand(worse.shape).masked_fill(~worse, float("-inf"))
    losses = torch.logsumexp(torch.cat([near[:, :, None], against], dim=2), dim=2) - near
    counts = worse.any(dim=2)
    return (losses * counts).sum() / counts.sum().clamp(min=1)


def to_questions(placed: Any, group: Any) -> Any:
    """Sample-sample loss: a question against `OTHERS` of other groups, beside one of its own."""
    similarity = placed @ placed.T / TEMPERATURE
    same = group[:, None] == group[None, :]
    alike = same & ~torch.eye(len(group), dtype=torch.bool)
    usable = alike.any(dim=1) & ((~same).sum(dim=1) >= OTHERS)
    if not usable.any():
        return similarity.sum() * 0.0
    similarity, same, alike = similarity[usable], same[usable], alike[usable]
    near = similarity.gather(1, torch.multinomial(alike.float(), 1))
    far = similarity.gather(1, torch.multinomial((~same).float(), OTHERS))
    return (torch.logsumexp(torch.cat([near, far], dim=1), dim=1) - near[:, 0]).mean()
