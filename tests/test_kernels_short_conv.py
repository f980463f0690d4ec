"""The short convolution carries its last inputs."""

import pytest
import torch
import torch.nn.functional as F

from kernels.short_conv.naive import short_conv
from tests.closeness import assert_close


def test_equals_a_causal_depthwise_convolution() -> None:
    """From an empty state it is torch's grouped convolution, padded on the left, then SiLU."""
    x, weight = torch.randn(2, 9, 6), torch.randn(6, 4)
    y, _ = short_conv(x, weight, torch.zeros(2, 3, 6))
    padded = F.pad(x.transpose(1, 2), (3, 0))
    expected = F.silu(F.conv1d(padded, weight.unsqueeze(1), groups=6)).transpose(1, 2)
    assert_close("y", expected, y, 1e-5)


@pytest.mark.parametrize("pieces", [(1,) * 9, (2, 7), (8, 1), (4, 0, 5)])
def test_in_pieces_equals_at_once(pieces: tuple[int, ...]) -> None:
    """However the tokens are cut, outputs and final state are the same."""
    x, weight, state = torch.randn(2, 9, 6), torch.randn(6, 4), torch.randn(2, 3, 6)
    y, end = short_conv(x, weight, state)
    outputs = []
    for piece in x.split(pieces, 1):
        out, state = short_conv(piece, weight, state)
        outputs.append(out)
    assert_close("y", y, torch.cat(outputs, 1), 1e-6)
    assert torch.equal(end, state)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 9])
def test_padding_does_not_enter_the_state(length: int) -> None:
    """With lengths given, the state is that of the unpadded row."""
    x, weight, state = torch.randn(1, 9, 6), torch.randn(6, 4), torch.randn(1, 3, 6)
    y, end = short_conv(x[:, :length], weight, state)
    padded_y, padded_end = short_conv(x, weight, state, torch.tensor([length]))
    assert_close("y", y, padded_y[:, :length], 1e-6)
    assert torch.equal(end, padded_end)
