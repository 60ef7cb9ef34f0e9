"""BERT Router: a small encoder, tuned to predict every candidate's score from the question's text.

Ong et al., RouteLLM (ICLR 2025, arXiv 2406.18665), section 4.2, "BERT classifier": the encoder is trained with the
head. The paper chooses between two candidates from the [CLS] vector; here a score is predicted for each of any number,
from the mean of the tokens, as MiniLM was trained to be read. Its table of word vectors, half of its parameters, stays
as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from stages.evaluate.routers.encoder import fresh_encoder
from stages.evaluate.routers.estimating import EstimatingRouter
from stages.evaluate.routers.history import History
from stages.evaluate.routers.learning import learn, tensor
from stages.evaluate.routers.protocol import Asked
from stages.shared.params import EvaluateParams

STEPS, BATCH, RATE, LENGTH = 80, 16, 2e-4, 128
"""Of tuning; tokens of a question that are read."""


class Reader(torch.nn.Module):
    """Logits of every candidate from tokens."""

    def __init__(self, candidates: int) -> None:
        super().__init__()
        self.encoder, self.tokenizer = fresh_encoder()
        self.encoder.get_input_embeddings().requires_grad_(False)
        self.head = torch.nn.Linear(int(self.encoder.config.hidden_size), candidates)

    def forward(self, texts: Sequence[str]) -> Any:
        """(texts, candidates)."""
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
        hidden = self.encoder(**tokens).last_hidden_state
        mask = tokens["attention_mask"][:, :, None]
        return self.head((hidden * mask).sum(dim=1) / mask.sum(dim=1))


def fit_bert(history: History, params: EvaluateParams) -> EstimatingRouter:
    """Cross-entropy against scores between 0 and 1. Raises DataError where the records hold no texts."""
    history.require_texts("bert")
    torch.manual_seed(params.seed)
    reader, scores = Reader(len(history.candidates)), tensor(history.scores)

    def loss(rows: Any) -> Any:
        """Of one batch."""
        found = reader([history.questions[row] for row in rows])
        return torch.nn.functional.binary_cross_entropy_with_logits(found, scores[rows])

    def estimate(asked: Asked) -> np.ndarray:
        """P(right) of every candidate, texts of like length together."""
        order = np.argsort([len(text) for text in asked.questions], kind="stable")
        values = np.empty((len(order), len(history.candidates)))
        with torch.inference_mode():
            for rows in np.array_split(order, max(1, len(order) // (4 * BATCH))):
                values[rows] = torch.sigmoid(reader([asked.questions[row] for row in rows])).numpy()
        return values

    learn(reader, len(history.questions), loss, steps=STEPS, rate=RATE, batch=BATCH)
    return EstimatingRouter(history, estimate)
