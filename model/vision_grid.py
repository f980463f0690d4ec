"""The constants of one frame size: in what order patches are processed, and who sees whom.

R rows and C columns of merged tokens, P = 4 R C patches, N windows of L patches. A frame's patches
come in merged order (the 2 x 2 patches of a token together). The tower works in window order, so
that windowed attention is a dense batch; windows cut by the frame's edge are padded and masked.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import VisionConfig

ROPE_THETA = 10_000.0


@dataclass(frozen=True, slots=True)
class VisionGrid:
    """Index tensors and rotation tables of one frame size.

    Attributes:
        patch_order: [P] int64, the merged-order patch that stands at each place of window order.
        token_order: [P / 4] int64, the window-order token at each place of row-major order.
        cos, sin: [P, 1, head_dim] fp32, in window order.
        window_patches: [N, L] int64 places in window order, padding pointing at place 0; None if
            every window is whole, when window order itself is the batch.
        window_mask: [N, 1, 1, L] bool, False for padding; None if there is none.
        patch_places: [P] int64, each patch's place among the N * L; None likewise.
    """

    patch_order: Tensor
    token_order: Tensor
    cos: Tensor
    sin: Tensor
    window_length: int
    window_patches: Tensor | None
    window_mask: Tensor | None
    patch_places: Tensor | None

    @classmethod
    def build(
        cls, config: VisionConfig, rows: int, columns: int, device: torch.device | str = "cpu"
    ) -> "VisionGrid":
        """Make the constants of a frame of `rows` x `columns` merged tokens."""
        with torch.device(device):
            return cls._build(config, rows, columns)

    @classmethod
    def _build(cls, config: VisionConfig, rows: int, columns: int) -> "VisionGrid":
        merge = config.merge_size
        unit = merge * merge
        side = config.window_size // config.cell_size  # merged tokens along a window's side
        r = torch.arange(rows)[:, None].expand(rows, columns).flatten()
        c = torch.arange(columns).expand(rows, columns).flatten()
        window = (r // side) * -(-columns // side) + c // side  # [R * C]
        order = torch.argsort(window, stable=True)
        patch_order = (order[:, None] * unit + torch.arange(unit)).flatten()

        inner = torch.arange(merge)
        patch_row = (r[:, None, None] * merge + inner[:, None]).expand(-1, merge, merge).flatten()
        patch_column = (c[:, None, None] * merge + inner).expand(-1, merge, merge).flatten()
        angles = _rotary_angles(patch_row[patch_order], patch_column[patch_order], config.head_dim)
        length = side * side * unit
        patches, mask, places = _windows(window[order], unit, length)
        return cls(
            patch_order=patch_order,
            token_order=torch.argsort(order),
            cos=angles.cos().float().unsqueeze(1),
            sin=angles.sin().float().unsqueeze(1),
            window_length=length,
            window_patches=patches,
            window_mask=mask,
            patch_places=places,
        )


def _rotary_angles(rows: Tensor, columns: Tensor, head_dim: int) -> Tensor:
    """[P] and [P] -> [P, head_dim]: a quarter of the dims turns by row, a quarter by column."""
    quarter = head_dim // 4
    frequency = ROPE_THETA ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
    half = torch.cat([rows[:, None] * frequency, columns[:, None] * frequency], -1)
    return torch.cat([half, half], -1)


def _windows(
    window: Tensor, unit: int, length: int
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Dense batch of the windows that the sorted window numbers [R * C] of tokens describe."""
    window = window.repeat_interleave(unit)  # [P]
    _, sizes = torch.unique_consecutive(window, return_counts=True)
    if bool((sizes == length).all()):
        return None, None, None
    first = sizes.cumsum(0) - sizes
    inside = torch.arange(length)
    mask = inside < sizes[:, None]  # [N, L]
    patches = torch.where(mask, first[:, None] + inside, 0)
    return patches, mask[:, None, None], mask.flatten().nonzero().flatten()
