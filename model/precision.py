"""Weights as 8-bit floats where that costs little: the big projections of both towers.

Embedding and head, norms, convolutions, the gates of the delta rule, the vision tower's ends and
all state keep their precision.
"""

from torch import nn

from kernels.fp8_linear.naive import quantise
from model.decoder import DecoderLayer
from model.delta_net import GatedDeltaNet
from model.infinitevl import InfiniteVL
from model.layers import Fp8Linear, GatedMLP
from model.vision import VisionBlock


def use_fp8(vlm: InfiniteVL) -> InfiniteVL:
    """Quantise the weights in place, each output row by its largest magnitude, and let norms and
    activations before them quantise what they give."""
    for layer in vlm.language_model.layers:
        assert isinstance(layer, DecoderLayer)
        mixer = layer.self_attn
        if isinstance(mixer, GatedDeltaNet):
            gates = 2 * mixer.num_heads
            layer.input_layernorm.wide = True
            mixer.gate_weight = mixer.in_proj.weight[-gates:].clone()
            _quantise(mixer, "in_proj", mixer.in_proj.out_features - gates)
        else:
            _quantise(mixer, "qkv_proj")
        _quantise(mixer, "o_proj")
        _quantise_mlp(layer.mlp)
        layer.input_layernorm.quantised = layer.post_attention_layernorm.quantised = True
    for block in vlm.visual.blocks:
        assert isinstance(block, VisionBlock)
        _quantise(block.attn, "qkv")
        _quantise(block.attn, "proj")
        _quantise_mlp(block.mlp)
        block.norm1.quantised = block.norm2.quantised = True
    return vlm


def _quantise_mlp(mlp: GatedMLP) -> None:
    _quantise(mlp, "gate_up_proj")
    _quantise(mlp, "down_proj")


def _quantise(module: nn.Module, name: str, rows: int | None = None) -> None:
    """Replace a linear layer by one of the first so many of its rows in 8 bits."""
    linear = module.get_submodule(name)
    assert isinstance(linear, nn.Linear)
    weight = quantise(linear.weight.detach()[:rows])._replace(wide=None)
    bias = None if linear.bias is None else linear.bias.detach()[:rows]
    setattr(module, name, Fp8Linear(weight, bias, linear.weight.dtype))
