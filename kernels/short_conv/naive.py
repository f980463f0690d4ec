"""The short causal depthwise convolution that carries its last inputs from call to call.

B batch, T tokens, C channels, W width. The carried state is the last W - 1 inputs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def short_conv(
    x: Tensor, weight: Tensor, state: Tensor, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Convolve each channel with its own W weights over past and present inputs, then SiLU.

    Args:
        x: [B, T, C].
        weight: [C, W], oldest input first.
        state: [B, W - 1, C], the inputs before x; not written to.
        lengths: [B] int64, how many of the T tokens count; all of them if None.

    Returns:
        y [B, T, C], and the new state [B, W - 1, C]: the last W - 1 inputs that count.
    """
    T, C = x.shape[1:]
    W = weight.shape[1]
    inputs = torch.cat([state.to(x.dtype), x], 1)  # [B, W - 1 + T, C]
    if lengths is None:
        new_state = inputs[:, T:]
    else:
        index = lengths[:, None] + torch.arange(W - 1, device=x.device)
        new_state = inputs.gather(1, index[..., None].expand(-1, -1, C))
    # A step in time has its weights side by side, or a CPU gathers them one by one.
    wide, taps = inputs.float(), weight.float().T.contiguous()
    y = wide[:, :T] * taps[0]
    for i in range(1, W):
        y = torch.addcmul(y, wide[:, i : i + T], taps[i])
    return F.silu(y).to(x.dtype), new_state
