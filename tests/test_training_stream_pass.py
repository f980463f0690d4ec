"""Training computes what streaming computes, and its gradients are right."""

import dataclasses

import pytest
import torch
from torch import Tensor

from kernels.gated_delta_rule.naive import naive_gated_delta_rule
from model.config import InfiniteVLConfig
from model.infinitevl import InfiniteVL
from tests.closeness import assert_close
from tests.small_models import LINEAR, SLIDING, SMALL, small_model
from training.delta_scan import Scan, delta_scan
from training.stream_pass import Branches, stream_pass

GRID = (2, 3)
FRAMES = 11


def streamed(
    vlm: InfiniteVL, image_tokens: Tensor, times_s: Tensor, branches: Branches
) -> list[Tensor]:
    """Last hidden vectors of each question, by slots and forks."""
    hidden: list[Tensor] = [torch.empty(0)] * len(branches.ids)
    pool = vlm.new_pool(2, max_append=8)
    one, two = torch.tensor([1]), torch.tensor([2])
    for b in range(image_tokens.shape[0]):
        vlm.start_stream(1, pool)
        for f in range(FRAMES):
            vlm.append_image_tokens(image_tokens[b, f][None], times_s[b, f][None], one, pool, GRID)
            for n, (stream, frame) in enumerate(zip(branches.stream, branches.frame, strict=True)):
                if (stream, frame) == (b, f):
                    pool.copy(1, 2)
                    ids = branches.ids[n : n + 1, : branches.lengths[n]]
                    hidden[n] = vlm._append_ids(ids, two, pool, None)[0]
    return hidden


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        dataclasses.replace(SMALL, sliding_window=7),
        dataclasses.replace(SMALL, sliding_window=500),
        dataclasses.replace(SMALL, layer_types=(LINEAR, SLIDING, LINEAR)),
    ],
    ids=["window 20", "window 7", "window 500", "other order"],
)
def test_one_pass_equals_streaming(config: InfiniteVLConfig) -> None:
    """Questions off two streams, after the first, a middle and the last frame, short and long."""
    vlm = small_model(config)
    with torch.no_grad():
        image_tokens = torch.randn(2, FRAMES, 6, 32)
        times_s = torch.arange(FRAMES, dtype=torch.float64)[None] / torch.tensor([[2.0], [5.0]])
        branches = Branches(
            ids=torch.randint(0, 60, (5, 8)),
            lengths=torch.tensor([8, 1, 5, 3, 8]),
            stream=torch.tensor([0, 1, 1, 0, 1]),
            frame=torch.tensor([0, 4, 10, 10, 0]),
        )
        expected = streamed(vlm, image_tokens, times_s, branches)
        got = stream_pass(vlm, image_tokens, times_s, branches, GRID)
    for n, hidden in enumerate(expected):
        assert_close(f"question {n}", hidden, got[n, : len(hidden)], 1e-4)


def test_the_scan_equals_the_recurrence() -> None:
    """Outputs everywhere, and the state after every chunk."""
    B, N, C, H, K, V = 2, 3, 5, 2, 4, 6
    q, k = torch.randn(2, B, N * C, H, K).unbind(0)
    v = torch.randn(B, N * C, H, V)
    g, beta = -torch.rand(B, N * C, H), torch.rand(B, N * C, H)
    o, states = delta_scan(q, k, v, g, beta, C)
    for n in range(1, N + 1):
        part = [x[:, : n * C] for x in (q, k, v, g, beta)]
        expected, state = naive_gated_delta_rule(*part, torch.zeros(B, H, K, V))
        assert_close("state", state, states[:, n - 1], 1e-5)
    assert_close("o", expected, o, 1e-5)


def test_the_scans_hand_written_gradient_is_right() -> None:
    """Against finite differences, in fp64."""
    A = torch.randn(1, 2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    U = torch.randn(1, 2, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Scan.apply, (A, U))


def test_every_weight_gets_a_gradient() -> None:
    """From a question's last token back to the patch kernel and the start token."""
    vlm = small_model().train().requires_grad_()
    patches = torch.randn(2 * FRAMES, 24, 588)
    image_tokens = vlm.encode_patches(patches, GRID).unflatten(0, (2, FRAMES))
    branches = Branches(
        torch.randint(0, 60, (2, 4)), torch.tensor([4, 4]), torch.arange(2), torch.tensor([3, 9])
    )
    times_s = torch.arange(FRAMES, dtype=torch.float64).expand(2, -1)
    hidden = stream_pass(vlm, image_tokens, times_s, branches, GRID)
    vlm.language_model.logits(hidden[:, -1]).square().sum().backward()
    without = [
        name for name, p in vlm.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]
    assert without == []
