"""From logits to the next token."""

import torch
from torch import Tensor

from stream.question import SamplingParams


def sample(
    logits: Tensor, likeliest: int, params: SamplingParams, generator: torch.Generator
) -> int:
    """Choose a token from logits [vocabulary] fp32.

    At temperature 0 it is the `likeliest`, else a draw from the smallest set of likeliest tokens
    whose probability reaches `top_p`.
    """
    if params.temperature == 0.0:
        return likeliest
    # Relative to the largest and in fp64, so that no temperature makes them overflow.
    logits = logits.cpu().double()
    probabilities = ((logits - logits.max()) / params.temperature).softmax(-1)
    ordered, ids = probabilities.sort(descending=True)
    before = ordered.cumsum(-1) - ordered
    ordered = ordered.masked_fill(before >= params.top_p, 0.0)
    return int(ids[torch.multinomial(ordered, 1, generator=generator)])
