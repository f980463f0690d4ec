"""The vision tower: patches of a frame to the decoder's image tokens (Qwen2.5-VL's encoder).

B frames, P patches, H heads, D head dim, N windows of L patches.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels.fp8_linear.naive import Quantised
from kernels.ops import PLAIN, Ops
from kernels.rotary.naive import rotate
from kernels.vision_attention.naive import attend
from model.config import VisionConfig
from model.layers import GatedMLP, RMSNorm, project
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

    def forward(self, x: Tensor | Quantised, grid: VisionGrid, ops: Ops = PLAIN) -> Tensor:
        """x [B, P, hidden] in window order -> the same shape."""
        qkv = project(self.qkv, x, ops)
        if self.whole_frame:
            o = ops.vision_attention(qkv, grid.cos, grid.sin, self.num_heads, qkv.shape[1])
        elif grid.window_patches is None:
            o = ops.vision_attention(qkv, grid.cos, grid.sin, self.num_heads, grid.window_length)
        else:
            o = self._within_cut_windows(qkv, grid)
        return project(self.proj, o, ops)

    def _within_cut_windows(self, qkv: Tensor, grid: VisionGrid) -> Tensor:
        """[B, P, 3 hidden] -> [B, P, hidden], with windows that the frame's edge cuts padded."""
        assert grid.window_patches is not None
        B, P, _ = qkv.shape
        H, D = self.num_heads, self.head_dim
        heads = qkv.view(B, P, 3 * H, D)
        q, k = rotate(heads[:, :, : 2 * H], grid.cos, grid.sin).split(H, 2)
        v = heads[:, :, 2 * H :]
        N, L = grid.window_patches.shape
        index, mask = grid.window_patches.flatten(), grid.window_mask
        q, k, v = (t[:, index].view(B * N, L, H, D) for t in (q, k, v))
        o = attend(q, k, v, None if mask is None else mask.repeat(B, 1, 1, 1))
        return o.reshape(B, N * L, H, D)[:, grid.patch_places].reshape(B, P, H * D)


class VisionBlock(nn.Module):
    """Norm, attention, norm, MLP, each added to the residual stream."""

    def __init__(self, config: VisionConfig, *, whole_frame: bool) -> None:
        super().__init__()
        self.norm1 = RMSNorm(config.hidden_size, NORM_EPS)
        self.attn = VisionAttention(config, whole_frame=whole_frame)
        self.norm2 = RMSNorm(config.hidden_size, NORM_EPS)
        # Zero columns added to the MLP change nothing and keep its products on fast kernels.
        self.mlp = GatedMLP(config.hidden_size, config.padded_intermediate_size, bias=True)

    def forward(
        self, x: Tensor, delta: Tensor | None, grid: VisionGrid, ops: Ops = PLAIN
    ) -> tuple[Tensor, Tensor]:
        """The residual stream and this block's output, apart, as of the block before."""
        x, normed = self.norm1.after(x, delta, ops)
        x, normed = self.norm2.after(x, self.attn(normed, grid, ops), ops)
        return x, self.mlp(normed, ops)


class PatchMerger(nn.Module):
    """Four neighbouring patches to one image token of the decoder's width."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.width = config.hidden_size * config.merge_size**2
        self.ln_q = RMSNorm(config.hidden_size, NORM_EPS)
        self.up = nn.Linear(self.width, self.width)
        self.down = nn.Linear(self.width, config.out_hidden_size)

    def forward(self, x: Tensor, delta: Tensor, ops: Ops = PLAIN) -> Tensor:
        """The last block's x and delta [B, P, hidden] -> [B, P / 4, out_hidden]."""
        _, normed = self.ln_q.after(x, delta, ops)
        assert isinstance(normed, Tensor)
        return self.down(F.gelu(self.up(normed.view(x.shape[0], -1, self.width))))


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

    def forward(self, patches: Tensor, grid: VisionGrid, ops: Ops = PLAIN) -> Tensor:
        """Patches in merged order -> image tokens, row by row.

        Args:
            patches: [B, P, 588] (one frame each) or [B, P, 1176] (a pair in time each).
            grid: the constants of their frame size.

        Returns:
            [B, P / 4, out_hidden].
        """
        x, delta = self.patch_embed(patches[:, grid.patch_order]), None
        for block in self.blocks:
            x, delta = block(x, delta, grid, ops)
        return self.merger(x, delta, ops)[:, grid.token_order]
