"""Muon in fp32 for many small matrices at once.

torch.optim.Muon orthogonalises one matrix after another in bf16, which a CPU without bf16 instructions emulates: more
than half of a pre-training step went there. Here matrices of one shape are stacked and stay in fp32.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton-Schulz iteration (Jordan et al. 2024, "Muon")."""
ITERATIONS = 5
RMS = 0.2
"""Root mean square of an update relative to the learning rate, as in AdamW (Liu et al. 2025)."""


class Muon(torch.optim.Optimizer):
    """Momentum, then the nearest semi-orthogonal matrix as the update. For matrices only; no weight decay."""

    def __init__(self, matrices: Iterable[torch.nn.Parameter], rate: float, momentum: float = 0.95) -> None:
        super().__init__(list(matrices), {"lr": rate, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.nn.Parameter]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape.setdefault(matrix.shape, []).append(matrix)
            for matrices in by_shape.values():
                self._update(matrices, group["lr"], group["momentum"])

    def _update(self, matrices: list[torch.nn.Parameter], rate: float, momentum: float) -> None:
        """Nesterov momentum and step for matrices of one shape."""
        looks_ahead = []
        for matrix in matrices:
            average = self.state[matrix].setdefault("momentum", torch.zeros_like(matrix))
            average.lerp_(matrix.grad, 1 - momentum)
            looks_ahead.append(matrix.grad.lerp(average, momentum))
        scale = rate * RMS * max(matrices[0].shape) ** 0.5
        for matrix, update in zip(matrices, orthogonal(torch.stack(looks_ahead)), strict=True):
            matrix.sub_(update, alpha=scale)


def orthogonal(stack: torch.Tensor) -> torch.Tensor:
    """Each matrix of [matrices, rows, columns] with its singular values pushed towards 1 (Newton-Schulz)."""
    tall = stack.shape[1] > stack.shape[2]
    current = stack.mT if tall else stack
    current = current / (current.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = current @ current.mT
        current = a * current + (b * gram + c * gram @ gram) @ current
    return current.mT if tall else current
