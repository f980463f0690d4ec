"""Positions of tokens, and their rotary embedding.

A token's position has three axes: time, row, column. Text moves along all three at once; within
a frame only row and column move, and from frame to frame only time (Qwen2.5-VL's multimodal RoPE).
"""

import torch
from torch import Tensor


def frame_positions(times_s: Tensor, rows: int, columns: int, tokens_per_second: int) -> Tensor:
    """Positions of image tokens.

    Args:
        times_s: [B] float64, seconds since the stream's first frame.
        rows, columns: of the merged grid.
        tokens_per_second: how far the time axis moves in one second; it moves at whole seconds.

    Returns:
        [B, rows * columns, 3] int64. All axes start at 1, since `<vision_start>` is at 0.
    """
    device = times_s.device
    t = 1 + times_s.floor().long() * tokens_per_second
    r = 1 + torch.arange(rows, device=device)
    c = 1 + torch.arange(columns, device=device)
    B = times_s.shape[0]
    grid = torch.stack(torch.meshgrid(r, c, indexing="ij"), -1).view(1, rows * columns, 2)
    time = t[:, None, None].expand(B, rows * columns, 1)
    return torch.cat([time, grid.expand(B, -1, -1)], -1)


def text_positions(next_position: Tensor, num_tokens: int) -> Tensor:
    """Positions of text that follows: [B] int64 -> [B, num_tokens, 3] int64."""
    steps = torch.arange(num_tokens, device=next_position.device)
    return (next_position[:, None] + steps)[..., None].expand(-1, -1, 3)


def multimodal_rope(
    positions: Tensor, section: tuple[int, int, int], theta: float
) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotation angles.

    Args:
        positions: [B, T, 3] int64.
        section: how many of the D / 2 frequencies turn with time, row and column.

    Returns:
        cos, sin [B, T, D] fp32. Angles are made in fp64: after days of stream an fp32 product of
        time and frequency would be off by a visible part of a turn.
    """
    device = positions.device
    half = sum(section)
    exponent = torch.arange(half, device=device, dtype=torch.float64) / half
    # No tensor is made from host numbers: that could not be captured in a CUDA graph.
    axis = torch.cat([torch.full((n,), i, device=device) for i, n in enumerate(section)])
    angles = positions[..., axis].double() * theta**-exponent
    angles = torch.cat([angles, angles], -1)
    return angles.cos().float(), angles.sin().float()
