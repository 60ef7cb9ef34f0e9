"""What the routers that learn by gradient share: a loop over batches, and a model as an estimate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from stages.evaluate.routers.estimating import Estimate
from stages.evaluate.routers.history import History
from stages.evaluate.routers.protocol import Asked

STEPS, BATCH, RATE, DECAY = 200, 64, 1e-2, 1e-2


def learn(
    model: Any, rows: int, loss: Callable[[Any], Any], steps: int = STEPS, rate: float = RATE, batch: int = BATCH
) -> None:
    """AdamW on batches drawn with replacement, the rate falling to nothing along a cosine; torch is seeded before."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    model.train()
    for _ in range(steps):
        optimiser.zero_grad(set_to_none=True)
        loss(torch.randint(rows, (min(batch, rows),))).backward()
        optimiser.step()
        schedule.step()
    model.eval()


def learn_scores(model: Any, history: History) -> Estimate:
    """Fit what a model says of question vectors, (questions, candidates), by cross-entropy against the scores."""
    vectors, scores = tensor(history.vectors), tensor(history.scores)

    def loss(rows: Any) -> Any:
        """Of one batch."""
        return torch.nn.functional.binary_cross_entropy(model(vectors[rows]), scores[rows])

    learn(model, len(vectors), loss)
    return predicted(model)


def tensor(values: np.ndarray) -> Any:
    """As 32-bit floats."""
    return torch.as_tensor(values, dtype=torch.float32)


def predicted(model: Any) -> Estimate:
    """What a model says of question vectors, as an estimate."""

    def estimate(asked: Asked) -> np.ndarray:
        """(questions, candidates)."""
        with torch.inference_mode():
            values: np.ndarray = model(tensor(asked.vectors)).numpy()
        return values

    return estimate
