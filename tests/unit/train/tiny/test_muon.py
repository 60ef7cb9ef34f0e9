"""Muon: an update is the nearest semi-orthogonal matrix, whatever the gradient's scale."""

import pytest
import torch

from stages.train.tiny.muon import ITERATIONS, Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 8), (24, 8), (8, 24)])
def test_singular_values_are_pushed_towards_one(shape: tuple[int, int]) -> None:
    stack = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)) * 50

    values = torch.linalg.svdvals(orthogonal(stack))

    assert ITERATIONS == 5
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_it_takes_the_step_that_torch_takes() -> None:
    """torch's own works in bf16, so the two agree to about two digits."""
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(24, 8, generator=generator)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    muon = Muon([ours], 0.01)
    reference = torch.optim.Muon([theirs], lr=0.01, momentum=0.95, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        gradient = torch.randn(24, 8, generator=generator)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        muon.step()
        reference.step()

    moved = (ours - start).norm()
    assert (ours - theirs).norm() < 0.03 * moved
