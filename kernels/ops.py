"""Which version of the ops serves a model: the plain ones anywhere, the fused ones on CUDA.

A model's layers are given one `Ops` and know nothing of devices.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from torch import Tensor

from kernels.fp8_linear.naive import Quantised, fp8_linear, quantise
from kernels.gated_delta_net.naive import gated_delta_net
from kernels.rms_norm.naive import add_rms_norm, quantised_rms_norm, rms_norm
from kernels.silu_mul.naive import gated_product, quantised_silu_mul, silu_mul
from kernels.vision_attention.naive import vision_attention
from kernels.window_attention.sdpa import append_attention


@dataclass(frozen=True, slots=True)
class Ops:
    """One version of every op; each is described at its plain version.

    fused: they are Triton kernels, for sizes of which `supports` is true.
    """

    fused: bool
    rms_norm: Callable[..., Tensor]
    add_rms_norm: Callable[..., tuple[Tensor, Tensor]]
    silu_mul: Callable[[Tensor], Tensor]
    gated_product: Callable[..., Tensor]
    gated_delta_net: Callable[..., Tensor]
    append_attention: Callable[..., Tensor]
    vision_attention: Callable[..., Tensor]
    quantise: Callable[[Tensor], Quantised]
    quantised_rms_norm: Callable[..., tuple[Tensor, Quantised]]
    quantised_silu_mul: Callable[[Tensor], Quantised]
    fp8_linear: Callable[..., Tensor]


PLAIN = Ops(
    fused=False,
    rms_norm=rms_norm,
    add_rms_norm=add_rms_norm,
    silu_mul=silu_mul,
    gated_product=gated_product,
    gated_delta_net=gated_delta_net,
    append_attention=append_attention,
    vision_attention=vision_attention,
    quantise=quantise,
    quantised_rms_norm=quantised_rms_norm,
    quantised_silu_mul=quantised_silu_mul,
    fp8_linear=fp8_linear,
)


@cache
def fused_ops() -> Ops:
    """The Triton kernels; imported only where they are used, since that takes a second."""
    from kernels.fp8_linear import fused as fp8
    from kernels.gated_delta_net import fused as delta_net
    from kernels.rms_norm import fused as norm
    from kernels.silu_mul import fused as activation
    from kernels.vision_attention import fused as vision
    from kernels.window_attention import fused as ring

    return Ops(
        fused=True,
        rms_norm=norm.rms_norm,
        add_rms_norm=norm.add_rms_norm,
        silu_mul=activation.silu_mul,
        gated_product=activation.gated_product,
        gated_delta_net=delta_net.gated_delta_net,
        append_attention=ring.append_attention,
        vision_attention=vision.vision_attention,
        quantise=fp8.quantise,
        quantised_rms_norm=norm.quantised_rms_norm,
        quantised_silu_mul=activation.quantised_silu_mul,
        fp8_linear=fp8.fp8_linear,
    )
