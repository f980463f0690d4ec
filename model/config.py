"""The shape of an InfiniteVL-Online model, read from a published-style `config.json`.

Frozen, checked once, and the only place that knows the file's key names and defaults
(arXiv 2512.08829, section 3, and the published checkpoints).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, cast

LayerType = Literal["sliding_attention", "linear_attention", "full_attention"]
LAYER_TYPES = ("sliding_attention", "linear_attention", "full_attention")
MODEL_TYPE = "infinite_vl"


class ConfigError(ValueError):
    """A `config.json` that does not describe a model this code can run."""


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """The vision tower: patches of `patch_size` pixels, merged `merge_size` by `merge_size`."""

    depth: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    out_hidden_size: int
    full_attention_blocks: tuple[int, ...]
    window_size: int = 112
    patch_size: int = 14
    merge_size: int = 2
    temporal_patch_size: int = 2
    tokens_per_second: int = 2

    def __post_init__(self) -> None:
        _at_least_one(self)
        if self.hidden_size % (4 * self.num_heads):
            raise ConfigError(
                f"vision_config.hidden_size {self.hidden_size} is not a multiple of four times "
                f"num_heads {self.num_heads}"
            )
        if self.window_size < self.cell_size:
            raise ConfigError(
                f"vision_config.window_size {self.window_size} is less than one token's "
                f"{self.cell_size} pixels"
            )

    @property
    def cell_size(self) -> int:
        """Pixels on the side of one merged token."""
        return self.patch_size * self.merge_size

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def padded_intermediate_size(self) -> int:
        """The MLP's width rounded up to a multiple of 64, for the matrix units."""
        return -(-self.intermediate_size // 64) * 64


@dataclass(frozen=True, slots=True)
class InfiniteVLConfig:
    """The decoder's numbers, the special tokens, and the vision tower's config."""

    vision: VisionConfig
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layer_types: tuple[LayerType, ...]
    num_attention_heads: int
    num_key_value_heads: int
    mrope_section: tuple[int, int, int]
    sliding_window: int
    num_linear_heads: int
    linear_head_dim: int
    linear_value_dim: int
    rope_theta: float = 1_000_000.0
    rms_norm_eps: float = 1e-6
    linear_norm_eps: float = 1e-5
    conv_size: int = 4
    max_position_embeddings: int = 128_000
    vision_start_token_id: int = 151652
    vision_end_token_id: int = 151653

    def __post_init__(self) -> None:
        _at_least_one(self)
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads "
                f"{self.num_attention_heads}"
            )
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        if 2 * sum(self.mrope_section) != self.head_dim:
            raise ConfigError(
                f"mrope_section {list(self.mrope_section)} must add up to half of the head "
                f"dimension {self.head_dim}"
            )
        if self.vision.out_hidden_size != self.hidden_size:
            raise ConfigError(
                f"vision_config.out_hidden_size {self.vision.out_hidden_size} differs from "
                f"hidden_size {self.hidden_size}"
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def has_full_attention(self) -> bool:
        return "full_attention" in self.layer_types

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "InfiniteVLConfig":
        """Read a `config.json`'s keys; raises ConfigError naming the key that is wrong."""
        if raw.get("model_type") != MODEL_TYPE:
            raise ConfigError(
                f"model_type is {raw.get('model_type')!r}, this program runs {MODEL_TYPE!r}"
            )
        text = {**raw, **_mapping(raw, "text_config")}
        num_layers = _integer(text, "num_hidden_layers")
        layer_types = _layer_types(text.get("layer_types"), num_layers)
        linear_heads = _integer(text, "num_linear_heads", 16)
        linear_dim = _integer(text, "linear_head_dim", 128)
        _refuse_unsupported(text, linear_heads)
        return cls(
            vision=_vision_config(raw),
            vocab_size=_integer(text, "vocab_size"),
            hidden_size=_integer(text, "hidden_size"),
            intermediate_size=_integer(text, "intermediate_size"),
            layer_types=layer_types,
            num_attention_heads=_integer(text, "num_attention_heads"),
            num_key_value_heads=_integer(text, "num_key_value_heads"),
            mrope_section=_mrope_section(text),
            sliding_window=_sliding_window(text, layer_types),
            num_linear_heads=linear_heads,
            linear_head_dim=linear_dim,
            linear_value_dim=int(linear_dim * _number(text, "expand_v", 2.0)),
            rope_theta=_number(text, "rope_theta", 1e6),
            rms_norm_eps=_number(text, "rms_norm_eps", 1e-6),
            linear_norm_eps=_number(text, "norm_eps", 1e-5),
            conv_size=_integer(text, "conv_size", 4),
            max_position_embeddings=_integer(text, "max_position_embeddings", 128_000),
            vision_start_token_id=_integer(raw, "vision_start_token_id", 151652),
            vision_end_token_id=_integer(raw, "vision_end_token_id", 151653),
        )

    @classmethod
    def from_file(cls, path: Path) -> "InfiniteVLConfig":
        """Read a `config.json`; raises ConfigError naming the file and the key that is wrong."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ConfigError(f"{path} is not valid JSON: {error}") from error
        if not isinstance(raw, dict):
            raise ConfigError(f"{path} must hold a JSON object")
        try:
            return cls.from_dict(raw)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error


def _at_least_one(config: "VisionConfig | InfiniteVLConfig") -> None:
    """Sizes and counts of 0 describe nothing."""
    for field in fields(config):
        value = getattr(config, field.name)
        if type(value) is int and value < 1 and not field.name.endswith(("_id", "depth")):
            raise ConfigError(f"{field.name} must be at least 1")


def _number(raw: Mapping[str, Any], key: str, default: float) -> float:
    value = raw.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigError(f"{key} must be a number above 0, not {value!r}")
    return float(value)


def _mapping(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = raw.get(key, {})
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key} must be an object, not {value!r}")
    return value


def _integers(value: object, key: str) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or any(type(i) is not int or i < 0 for i in value):
        raise ConfigError(f"{key} must be a list of whole numbers, not {value!r}")
    return tuple(value)


def _integer(raw: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = raw.get(key, default)
    if value is None:
        raise ConfigError(f"the key {key!r} is missing")
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{key} must be a whole number, not {value!r}")
    return value


def _vision_config(raw: Mapping[str, Any]) -> VisionConfig:
    vision = raw.get("vision_config")
    if not isinstance(vision, Mapping):
        raise ConfigError("the key 'vision_config' is missing")
    return VisionConfig(
        depth=_integer(vision, "depth"),
        hidden_size=_integer(vision, "hidden_size"),
        intermediate_size=_integer(vision, "intermediate_size"),
        num_heads=_integer(vision, "num_heads"),
        out_hidden_size=_integer(vision, "out_hidden_size"),
        full_attention_blocks=_integers(
            vision.get("fullatt_block_indexes", (7, 15, 23, 31)), "fullatt_block_indexes"
        ),
        window_size=_integer(vision, "window_size", 112),
        patch_size=_integer(vision, "patch_size", 14),
        merge_size=_integer(vision, "spatial_merge_size", 2),
        temporal_patch_size=_integer(vision, "temporal_patch_size", 2),
        tokens_per_second=_integer(vision, "tokens_per_second", 2),
    )


def published_layer_types(num_layers: int) -> tuple[LayerType, ...]:
    """The published default has period 4: one sliding-window layer, then three linear ones."""
    return tuple("linear_attention" if i % 4 else "sliding_attention" for i in range(num_layers))


def _layer_types(given: object, num_layers: int) -> tuple[LayerType, ...]:
    if given is None:
        return published_layer_types(num_layers)
    if not isinstance(given, list) or len(given) != num_layers:
        raise ConfigError(f"layer_types must list {num_layers} layers")
    for layer_type in given:
        if layer_type not in LAYER_TYPES:
            raise ConfigError(f"layer_types holds {layer_type!r}, known are {list(LAYER_TYPES)}")
    return cast(tuple[LayerType, ...], tuple(given))


def _sliding_window(text: Mapping[str, Any], layer_types: tuple[LayerType, ...]) -> int:
    """The window; asked for only if a layer has one."""
    if "sliding_attention" not in layer_types:
        return 1
    if text.get("use_sliding_window", True) is not True:
        raise ConfigError("use_sliding_window must be true where layer_types has sliding_attention")
    return _integer(text, "sliding_window")


def _mrope_section(text: Mapping[str, Any]) -> tuple[int, int, int]:
    scaling = _mapping(text, "rope_scaling")
    section = _integers(scaling.get("mrope_section"), "rope_scaling.mrope_section")
    if len(section) != 3:
        raise ConfigError("rope_scaling.mrope_section must hold three whole numbers")
    rope_type = scaling.get("rope_type", scaling.get("type", "default"))
    if rope_type not in ("default", "mrope"):
        raise ConfigError(f"rope_scaling.rope_type {rope_type!r} is not supported, only 'default'")
    return section[0], section[1], section[2]


def _refuse_unsupported(text: Mapping[str, Any], linear_heads: int) -> None:
    expected: dict[str, object] = {
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "num_linear_key_value_heads": linear_heads,
        "use_gate": True,
        "use_short_conv": True,
        "conv_bias": False,
    }
    for key, value in expected.items():
        if text.get(key, value) != value:
            raise ConfigError(f"{key} is {text[key]!r}, this program needs {value!r}")
