"""The vision tower: patches of a frame to the decoder's image tokens (Qwen2.5-VL's encoder).

B frames, P patches, H heads, D head dim, N windows of L patches.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import VisionConfig
from model.layers import GatedMLP, RMSNorm
from model.rope import rotate
from model.vision_grid import VisionGrid

NORM_EPS = 1e-6
CHANNELS = 3


class PatchEmbed(nn.Module):
    """A patch's pixels to its first hidden vector.

    The published kernel spans two frames in time. A live frame stands for both, so its two
    temporal halves are summed: once at load (`fold`), or at every call while they are trained.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.time = config.temporal_patch_size
        self.pixels = config.patch_size**2
        width = CHANNELS * self.time * self.pixels
        self.weight = nn.Parameter(torch.empty(config.hidden_size, width))
        frame_weight = torch.empty(config.hidden_size, CHANNELS * self.pixels)
        self.register_buffer("frame_weight", frame_weight, persistent=False)
        self.frame_weight: Tensor

    def fold(self) -> None:
        """Sum the kernel over time; to be called whenever `weight` has changed."""
        self.frame_weight = self._summed().detach()

    def forward(self, patches: Tensor) -> Tensor:
        """Patches [B, P, 3 * 196] of one frame, or [B, P, 3 * 2 * 196] of a pair in time."""
        if patches.shape[-1] == self.weight.shape[1]:
            return F.linear(patches, self.weight)
        return F.linear(patches, self._summed() if self.training else self.frame_weight)

    def _summed(self) -> Tensor:
        shape = (-1, CHANNELS, self.time, self.pixels)
        return self.weight.float().view(shape).sum(2).flatten(1).to(self.weight.dtype)


class VisionAttention(nn.Module):
    """Attention among the patches of a window, or of the whole frame."""

    def __init__(self, config: VisionConfig, *, whole_frame: bool) -> None:
        super().__init__()
        self.num_heads, self.head_dim = config.num_heads, config.head_dim
        self.whole_frame = whole_frame
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, grid: VisionGrid) -> Tensor:
        """x [B, P, hidden] in window order -> the same shape."""
        B, P, _ = x.shape
        H, D = self.num_heads, self.head_dim
        qkv = self.qkv(x).view(B, P, 3 * H, D)
        q, k = rotate(qkv[:, :, : 2 * H], grid.cos, grid.sin).split(H, 2)
        v = qkv[:, :, 2 * H :]
        if self.whole_frame:
            o = _attend(q, k, v, None)
        elif grid.window_patches is None:
            q, k, v = (t.reshape(-1, grid.window_length, H, D) for t in (q, k, v))
            o = _attend(q, k, v, None)
        else:
            N, L = grid.window_patches.shape
            index, mask = grid.window_patches.flatten(), grid.window_mask
            q, k, v = (t[:, index].view(B * N, L, H, D) for t in (q, k, v))
            o = _attend(q, k, v, None if mask is None else mask.repeat(B, 1, 1, 1))
            o = o.reshape(B, N * L, H, D)[:, grid.patch_places]
        return self.proj(o.reshape(B, P, H * D))


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """[B, P, H, D] each -> [B, P, H, D]."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


class VisionBlock(nn.Module):
    """Norm, attention, norm, MLP, each added to the residual stream."""

    def __init__(self, config: VisionConfig, *, whole_frame: bool) -> None:
        super().__init__()
        self.norm1 = RMSNorm(config.hidden_size, NORM_EPS)
        self.attn = VisionAttention(config, whole_frame=whole_frame)
        self.norm2 = RMSNorm(config.hidden_size, NORM_EPS)
        # Zero columns added to the MLP change nothing and keep its products on fast kernels.
        self.mlp = GatedMLP(config.hidden_size, config.padded_intermediate_size, bias=True)

    def forward(self, x: Tensor, grid: VisionGrid) -> Tensor:
        x = x + self.attn(self.norm1(x), grid)
        return x + self.mlp(self.norm2(x))


class PatchMerger(nn.Module):
    """Four neighbouring patches to one image token of the decoder's width."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.width = config.hidden_size * config.merge_size**2
        self.ln_q = RMSNorm(config.hidden_size, NORM_EPS)
        self.up = nn.Linear(self.width, self.width)
        self.down = nn.Linear(self.width, config.out_hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """[B, P, hidden] -> [B, P / 4, out_hidden]."""
        x = self.ln_q(x).view(x.shape[0], -1, self.width)
        return self.down(F.gelu(self.up(x)))


class VisionTower(nn.Module):
    """Patch embedding, blocks, merger."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(
            VisionBlock(config, whole_frame=i in config.full_attention_blocks)
            for i in range(config.depth)
        )
        self.merger = PatchMerger(config)

    def forward(self, patches: Tensor, grid: VisionGrid) -> Tensor:
        """Patches in merged order -> image tokens, row by row.

        Args:
            patches: [B, P, 588] (one frame each) or [B, P, 1176] (a pair in time each).
            grid: the constants of their frame size.

        Returns:
            [B, P / 4, out_hidden].
        """
        x = self.patch_embed(patches[:, grid.patch_order])
        for block in self.blocks:
            x = block(x, grid)
        return self.merger(x)[:, grid.token_order]
