"""The gated delta rule by flash-linear-attention's Triton kernels: what ours are compared with.

Imported only where CUDA is used: the library takes seconds to import. Dense batches only, since
its variable-length paths wait for the host.
"""

import torch
from fla.ops.gated_delta_rule import chunk_gated_delta_rule, fused_recurrent_gated_delta_rule
from torch import Tensor

RECURRENT_MAX_TOKENS = 64


def fla_gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Same arguments and results as `naive_gated_delta_rule`; products run in TF32 or bf16."""
    op = fused_recurrent_gated_delta_rule
    if q.shape[1] > RECURRENT_MAX_TOKENS:
        op = chunk_gated_delta_rule
    o, new_state = op(
        q.contiguous(),
        k.contiguous(),
        v.contiguous(),
        g=g,
        beta=beta,
        initial_state=state,
        output_final_state=True,
        use_qk_l2norm_in_kernel=True,
    )
    return o, new_state.to(torch.float32)
