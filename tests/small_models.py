"""Models of a few thousand weights, of every shape that matters."""

from dataclasses import replace

import torch

from model.config import InfiniteVLConfig, LayerType, VisionConfig
from model.infinitevl import InfiniteVL
from model.weights import random_weights

LINEAR: LayerType = "linear_attention"
SLIDING: LayerType = "sliding_attention"
FULL: LayerType = "full_attention"

SMALL = InfiniteVLConfig(
    vision=VisionConfig(
        depth=2,
        hidden_size=32,
        intermediate_size=52,
        num_heads=2,
        out_hidden_size=32,
        full_attention_blocks=(1,),
    ),
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    layer_types=(SLIDING, LINEAR, LINEAR, SLIDING),
    num_attention_heads=4,
    num_key_value_heads=2,
    mrope_section=(2, 1, 1),
    sliding_window=20,
    num_linear_heads=2,
    linear_head_dim=8,
    linear_value_dim=16,
    vision_start_token_id=60,
    vision_end_token_id=61,
)
FULL_ATTENTION = replace(SMALL, layer_types=(FULL, LINEAR, SLIDING, FULL))


def small_model(config: InfiniteVLConfig = SMALL, seed: int = 0) -> InfiniteVL:
    return random_weights(config, seed)


def slots(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers)
