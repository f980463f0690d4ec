"""A `config.json` is read whole or refused by the key that is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from model.config import ConfigError, InfiniteVLConfig
from model.presets import PUBLISHED_4B

TINY = Path(__file__).parent / "data" / "tiny" / "config.json"


def raw(**changes: Any) -> dict[str, Any]:
    return json.loads(TINY.read_text()) | changes


def test_the_published_keys_are_read() -> None:
    """Every number of the file is where it belongs, defaults fill what is absent."""
    config = InfiniteVLConfig.from_file(TINY)
    assert (config.hidden_size, config.head_dim, config.sliding_window) == (64, 16, 64)
    assert config.layer_types == ("sliding_attention", *["linear_attention"] * 3) * 2
    assert (config.num_linear_heads, config.linear_head_dim, config.linear_value_dim) == (4, 16, 32)
    assert (config.linear_norm_eps, config.conv_size) == (1e-5, 4)
    assert config.vision.full_attention_blocks == (1, 3)
    assert (config.vision_start_token_id, config.vision_end_token_id) == (313, 314)


def test_absent_linear_keys_take_the_published_defaults() -> None:
    """The published file names no linear-attention keys at all."""
    given = raw()
    for key in ("num_linear_heads", "linear_head_dim", "num_linear_key_value_heads"):
        del given[key]
    config = InfiniteVLConfig.from_dict(given)
    assert (config.num_linear_heads, config.linear_head_dim, config.linear_value_dim) == (
        PUBLISHED_4B.num_linear_heads,
        PUBLISHED_4B.linear_head_dim,
        PUBLISHED_4B.linear_value_dim,
    )


def test_layer_types_may_be_given() -> None:
    """A Base model lists full attention itself."""
    kinds = ["full_attention", "linear_attention"] * 4
    config = InfiniteVLConfig.from_dict(raw(layer_types=kinds))
    assert config.layer_types == tuple(kinds) and config.has_full_attention


def test_a_nested_text_config_is_read() -> None:
    """Newer files keep the decoder's keys one level down."""
    flat = raw()
    nested = {k: flat.pop(k) for k in ("hidden_size", "num_hidden_layers", "sliding_window")}
    assert InfiniteVLConfig.from_dict(flat | {"text_config": nested}).hidden_size == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "qwen2_5_vl"}, "model_type is 'qwen2_5_vl', this program runs"),
        ({"hidden_size": None}, "the key 'hidden_size' is missing"),
        ({"hidden_size": "64"}, "hidden_size must be a whole number, not '64'"),
        ({"vocab_size": -1}, "vocab_size must be a whole number"),
        ({"num_attention_heads": 5}, "hidden_size 64 is not a multiple of num_attention_heads 5"),
        ({"num_key_value_heads": 3}, "not a multiple of num_key_value_heads 3"),
        ({"layer_types": ["linear_attention"]}, "layer_types must list 8 layers"),
        ({"layer_types": ["mamba"] * 8}, "layer_types holds 'mamba'"),
        ({"rope_scaling": {"mrope_section": [1, 2, 3]}}, "must add up to half of the head"),
        ({"rope_scaling": {}}, "rope_scaling.mrope_section must be a list of whole numbers"),
        ({"rope_scaling": {"mrope_section": [8]}}, "must hold three whole numbers"),
        ({"rope_scaling": "yes"}, "rope_scaling must be an object, not 'yes'"),
        ({"text_config": None}, "text_config must be an object"),
        ({"rope_theta": None}, "rope_theta must be a number above 0, not None"),
        ({"expand_v": "2"}, "expand_v must be a number above 0, not '2'"),
        ({"expand_v": -1}, "expand_v must be a number above 0, not -1"),
        (
            {"rope_scaling": {"mrope_section": [2, 3, 3], "rope_type": "yarn"}},
            "rope_scaling.rope_type 'yarn' is not supported",
        ),
        ({"vision_config": None}, "the key 'vision_config' is missing"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False, this program needs True"),
        ({"num_linear_key_value_heads": 2}, "num_linear_key_value_heads is 2"),
        ({"use_sliding_window": False}, "use_sliding_window must be true where"),
        ({"sliding_window": 0}, "sliding_window must be at least 1"),
        ({"num_attention_heads": 0}, "num_attention_heads must be at least 1"),
    ],
)
def test_a_wrong_key_is_named(changes: dict[str, Any], message: str) -> None:
    """One sentence says which key is wrong and what it should be."""
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        InfiniteVLConfig.from_dict(raw(**changes))


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    """The message names the file."""
    file = tmp_path / "config.json"
    file.write_text("{broken")
    with pytest.raises(ConfigError, match=r"config\.json is not valid JSON"):
        InfiniteVLConfig.from_file(file)
    file.write_text("[]")
    with pytest.raises(ConfigError, match="must hold a JSON object"):
        InfiniteVLConfig.from_file(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 0}, "num_heads must be at least 1"),
        ({"num_heads": 3}, "not a multiple of four times num_heads 3"),
        ({"window_size": 10}, "window_size 10 is less than one token's 28 pixels"),
        ({"fullatt_block_indexes": 3}, "fullatt_block_indexes must be a list of whole numbers"),
        ({"tokens_per_second": 0}, "tokens_per_second must be at least 1"),
        ({"patch_size": 0}, "patch_size must be at least 1"),
    ],
)
def test_a_wrong_vision_key_is_named(changes: dict[str, Any], message: str) -> None:
    """The tower's keys are checked like the decoder's."""
    given = raw()
    with pytest.raises(ConfigError, match=message):
        InfiniteVLConfig.from_dict(given | {"vision_config": given["vision_config"] | changes})


def test_a_model_without_sliding_layers_needs_no_window() -> None:
    """The window's keys are asked for only where a layer has one."""
    given = raw(layer_types=["full_attention", "linear_attention"] * 4, use_sliding_window=False)
    del given["sliding_window"]
    assert InfiniteVLConfig.from_dict(given).has_full_attention
