"""Where every published tensor goes: the checkpoint's names as data.

The modules keep fused projections; a checkpoint keeps them apart. `destinations` gives, for each
published name, the published shape and the part of a parameter that it fills.
"""

import re
from dataclasses import dataclass

from torch import Tensor

from model.attention import RingAttention
from model.decoder import DecoderLayer
from model.delta_net import GatedDeltaNet
from model.infinitevl import InfiniteVL
from model.layers import GatedMLP
from model.vision import VisionBlock, VisionTower

LM_HEAD = "lm_head.weight"


@dataclass(frozen=True, slots=True)
class Destination:
    """A published tensor's shape, and the view of a parameter with as many elements."""

    shape: tuple[int, ...]
    view: Tensor


Destinations = dict[str, Destination]


def current_name(name: str) -> str:
    """A tensor's published name, whichever of the two key layouts it was written in."""
    if name.startswith("visual."):
        return "model." + name
    if re.match(r"model\.(?!language_model\.|visual\.)", name):
        return "model.language_model." + name.removeprefix("model.")
    return name


def destinations(vlm: InfiniteVL) -> Destinations:
    """Every tensor a checkpoint must hold; the tied head is not among them."""
    decoder = vlm.language_model
    prefix = "model.language_model."
    found = _vision(vlm.visual)
    found[prefix + "embed_tokens.weight"] = _whole(decoder.embed_tokens.weight)
    found[prefix + "norm.weight"] = _whole(decoder.norm.weight)
    for i, layer in enumerate(decoder.layers):
        assert isinstance(layer, DecoderLayer)
        name = f"{prefix}layers.{i}."
        found[name + "input_layernorm.weight"] = _whole(layer.input_layernorm.weight)
        found[name + "post_attention_layernorm.weight"] = _whole(
            layer.post_attention_layernorm.weight
        )
        found |= _mlp(name + "mlp.", layer.mlp, layer.mlp.down_proj.in_features)
        mixer = layer.self_attn
        if isinstance(mixer, GatedDeltaNet):
            found |= _delta_net(name + "self_attn.", mixer)
        else:
            found |= _attention(name + "self_attn.", mixer)
    return found


def published_shapes(vlm: InfiniteVL) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published checkpoint of this model, the tied head included."""
    shapes = {name: destination.shape for name, destination in destinations(vlm).items()}
    shapes[LM_HEAD] = tuple(vlm.language_model.embed_tokens.weight.shape)
    return shapes


def _whole(parameter: Tensor) -> Destination:
    return Destination(tuple(parameter.shape), parameter)


def _rows(parameter: Tensor, names: list[str], sizes: list[int]) -> Destinations:
    """Consecutive rows of a fused parameter."""
    parts = parameter.split(sizes)
    return {name: _whole(part) for name, part in zip(names, parts, strict=True)}


def _attention(prefix: str, mixer: RingAttention) -> Destinations:
    D, G = mixer.head_dim, mixer.num_key_value_heads
    sizes = [mixer.num_heads * D, G * D, G * D]
    found = {prefix + "o_proj.weight": _whole(mixer.o_proj.weight)}
    for kind in ("weight", "bias"):
        names = [f"{prefix}{part}_proj.{kind}" for part in "qkv"]
        found |= _rows(getattr(mixer.qkv_proj, kind), names, sizes)
    return found


def _delta_net(prefix: str, mixer: GatedDeltaNet) -> Destinations:
    keys = mixer.num_heads * mixer.key_dim
    values = mixer.num_heads * mixer.value_dim
    sizes = [keys, keys, values]
    names = [f"{prefix}{part}_proj.weight" for part in "qkvgab"]
    found = _rows(mixer.in_proj.weight, names, [*sizes, *mixer.in_sizes[1:]])
    for part, rows in zip("qkv", mixer.conv_weight.split(sizes), strict=True):
        found[f"{prefix}{part}_conv1d.weight"] = Destination(
            (rows.shape[0], 1, rows.shape[1]), rows
        )
    for name in ("A_log", "dt_bias"):
        found[prefix + name] = _whole(getattr(mixer, name))
    found[prefix + "o_norm.weight"] = _whole(mixer.o_norm.weight)
    found[prefix + "o_proj.weight"] = _whole(mixer.o_proj.weight)
    return found


def _mlp(prefix: str, mlp: GatedMLP, width: int) -> Destinations:
    """A gated MLP of `width` columns; more that the module may have stay zero."""
    padded = mlp.down_proj.in_features
    found = {prefix + "down_proj.weight": _whole(mlp.down_proj.weight[:, :width])}
    for kind in ("weight", "bias"):
        fused = getattr(mlp.gate_up_proj, kind)
        if fused is not None:
            found[f"{prefix}gate_proj.{kind}"] = _whole(fused[:width])
            found[f"{prefix}up_proj.{kind}"] = _whole(fused[padded : padded + width])
    if mlp.down_proj.bias is not None:
        found[prefix + "down_proj.bias"] = _whole(mlp.down_proj.bias)
    return found


def _vision(visual: VisionTower) -> Destinations:
    config, prefix = visual.config, "model.visual."
    patch, time = config.patch_size, config.temporal_patch_size
    kernel = (config.hidden_size, 3, time, patch, patch)
    found = {prefix + "patch_embed.proj.weight": Destination(kernel, visual.patch_embed.weight)}
    for i, block in enumerate(visual.blocks):
        assert isinstance(block, VisionBlock)
        name = f"{prefix}blocks.{i}."
        for part in ("norm1.weight", "norm2.weight", "attn.qkv.weight", "attn.qkv.bias"):
            found[name + part] = _whole(block.get_parameter(part))
        for part in ("attn.proj.weight", "attn.proj.bias"):
            found[name + part] = _whole(block.get_parameter(part))
        found |= _mlp(name + "mlp.", block.mlp, config.intermediate_size)
    merger = visual.merger
    found[prefix + "merger.ln_q.weight"] = _whole(merger.ln_q.weight)
    for number, linear in ((0, merger.up), (2, merger.down)):
        for kind in ("weight", "bias"):
            found[f"{prefix}merger.mlp.{number}.{kind}"] = _whole(getattr(linear, kind))
    return found
