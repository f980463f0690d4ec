"""Products of 8-bit floats (e4m3) with a scale for every row of both factors: the specification."""

from typing import NamedTuple

import torch
from torch import Tensor

FP8 = torch.float8_e4m3fn
FP8_MAX = 448.0


class Quantised(NamedTuple):
    """Rows [..., K] as values in FP8 times a scale [...] fp32; `wide` is what they were made of."""

    values: Tensor
    scale: Tensor
    wide: Tensor | None = None


def quantise(x: Tensor) -> Quantised:
    """Each row by its largest magnitude: the error of a value is at most 1 / 16 of itself, or
    1 / 200,000 of the row's largest."""
    wide = x.float()
    scale = wide.abs().amax(-1).clamp_min(1e-12) / FP8_MAX
    return Quantised((wide / scale[..., None]).to(FP8), scale, x)


def fp8_linear(x: Quantised, weight: Quantised, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """x [..., K] times weight [N, K], plus bias [N]: [..., N] in `dtype`, summed in fp32."""
    product = torch.einsum("...k,nk->...n", x.values.float(), weight.values.float())
    product = product * x.scale[..., None] * weight.scale
    return (product if bias is None else product + bias.float()).to(dtype)
