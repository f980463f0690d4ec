"""Muon by shapes takes the very steps of torch's Muon."""

import torch

from training.muon import Muon


def test_it_takes_the_steps_that_torchs_own_takes() -> None:
    shapes = [(64, 32), (64, 32), (32, 96), (16, 16)]
    start = [torch.randn(shape) for shape in shapes]
    ours, theirs = ([torch.nn.Parameter(t.clone()) for t in start] for _ in range(2))
    a = Muon(ours, lr=1e-2, weight_decay=0.05, momentum=0.95)
    b = torch.optim.Muon(
        theirs, lr=1e-2, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(5):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        a.step()
        b.step()
    for mine, other, before in zip(ours, theirs, start, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-6)
        assert (mine - before).abs().mean() > 1e-3
