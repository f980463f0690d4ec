"""Checkpoints load whole, in either key layout, or are refused by the tensor that is wrong."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.infinitevl import InfiniteVL
from model.key_map import LM_HEAD, destinations, published_shapes
from model.presets import PUBLISHED_4B
from model.weights import CheckpointError, empty_model, load_weights, random_weights

ROOT = Path(__file__).parent.parent
TINY = ROOT / "tests" / "data" / "tiny"
EMBEDDING = "model.language_model.embed_tokens.weight"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy of the small checkpoint that a test may damage."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((TINY / name).read_bytes())
    return tmp_path


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    file = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    save_file(change(tensors), file, {"format": "pt"})


def older_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The key layout before the vision tower moved under `model`."""
    renamed = {}
    for name, tensor in tensors.items():
        name = re.sub(r"^model\.visual\.", "visual.", name)
        renamed[re.sub(r"^model\.language_model\.", "model.", name)] = tensor
    return renamed


def same(a: InfiniteVL, b: InfiniteVL) -> bool:
    pairs = zip(a.named_parameters(), b.named_parameters(), strict=True)
    return all(n == m and torch.equal(x, y) for (n, x), (m, y) in pairs)


def test_the_full_model_has_exactly_the_published_tensors() -> None:
    """987 names with their shapes, built without memory."""
    shapes = published_shapes(empty_model(PUBLISHED_4B, "meta", torch.bfloat16))
    assert len(shapes) == 987
    language, vision = "model.language_model.layers.", "model.visual."
    for name, shape in {
        LM_HEAD: (151936, 2048),
        EMBEDDING: (151936, 2048),
        "model.language_model.norm.weight": (2048,),
        f"{language}0.self_attn.q_proj.weight": (2048, 2048),
        f"{language}0.self_attn.k_proj.bias": (256,),
        f"{language}35.self_attn.v_proj.weight": (4096, 2048),
        f"{language}35.self_attn.a_proj.weight": (16, 2048),
        f"{language}35.self_attn.g_proj.weight": (4096, 2048),
        f"{language}35.self_attn.k_conv1d.weight": (2048, 1, 4),
        f"{language}1.self_attn.o_norm.weight": (256,),
        f"{language}1.self_attn.A_log": (16,),
        f"{language}7.mlp.down_proj.weight": (2048, 11008),
        f"{vision}patch_embed.proj.weight": (1280, 3, 2, 14, 14),
        f"{vision}blocks.31.mlp.up_proj.weight": (3420, 1280),
        f"{vision}blocks.31.mlp.down_proj.weight": (1280, 3420),
        f"{vision}blocks.0.attn.qkv.bias": (3840,),
        f"{vision}merger.mlp.0.weight": (5120, 5120),
        f"{vision}merger.mlp.2.weight": (2048, 5120),
    }.items():
        assert shapes.pop(name) == shape, name
    parameters = sum(torch.Size(shape).numel() for shape in published_shapes_without_head())
    assert abs(parameters - 4.41e9) < 0.01e9


def published_shapes_without_head() -> list[tuple[int, ...]]:
    vlm = empty_model(PUBLISHED_4B, "meta", torch.bfloat16)
    return [destination.shape for destination in destinations(vlm).values()]


def test_every_weight_of_a_model_comes_from_a_tensor() -> None:
    """The destinations cover every parameter but for the MLP's zero padding, none twice."""
    vlm = empty_model(PUBLISHED_4B, "meta", torch.bfloat16)
    covered = sum(d.view.numel() for d in destinations(vlm).values())
    width = PUBLISHED_4B.vision.padded_intermediate_size - 3420
    padding = PUBLISHED_4B.vision.depth * width * (3 * 1280 + 2)
    assert covered == sum(p.numel() for p in vlm.parameters()) - padding


def test_both_key_layouts_load_the_same_model(checkpoint: Path) -> None:
    """Names from before and after the vision tower moved mean the same tensors."""
    expected = load_weights(TINY)
    rewrite(checkpoint, older_names)
    assert "visual.merger.ln_q.weight" in load_file(checkpoint / "model.safetensors")
    assert same(expected, load_weights(checkpoint))


def test_what_is_loaded_is_what_the_file_holds() -> None:
    """Every tensor of the file is found again in the part of a parameter it belongs to."""
    vlm = load_weights(TINY)
    found = destinations(vlm)
    for name, tensor in load_file(TINY / "model.safetensors").items():
        assert torch.equal(found[name].view, tensor.float().view(found[name].view.shape)), name


def test_shards_load_by_their_index(checkpoint: Path) -> None:
    """A checkpoint in several files is the same checkpoint."""
    tensors = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, checkpoint / file)
    weight_map = {name: file for file, part in shards.items() for name in part}
    index = checkpoint / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert same(load_weights(TINY), load_weights(checkpoint))
    (checkpoint / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"b\.safetensors is missing"):
        load_weights(checkpoint)
    index.write_text("{}")
    with pytest.raises(CheckpointError, match="has no readable 'weight_map'"):
        load_weights(checkpoint)


def test_a_stored_head_is_tied_to_the_embedding(checkpoint: Path) -> None:
    """`lm_head.weight` may be there; its shape must be right, its values are the embedding's."""
    rewrite(checkpoint, lambda t: t | {LM_HEAD: t[EMBEDDING].clone()})
    assert same(load_weights(TINY), load_weights(checkpoint))
    rewrite(checkpoint, lambda t: t | {LM_HEAD: torch.zeros(3, 64)})
    with pytest.raises(CheckpointError, match=r"'lm_head.weight' has shape \[3, 64\]"):
        load_weights(checkpoint)


def without(name: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {k: v for k, v in tensors.items() if k != name}


A_LOG = "model.language_model.layers.1.self_attn.A_log"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without(A_LOG), f"lacks the tensor '{A_LOG}'"),
        (lambda t: t | {"model.visual.extra": torch.zeros(1)}, "holds 'model.visual.extra', which"),
        (
            lambda t: t | {A_LOG: torch.zeros(5)},
            rf"'{A_LOG}' has shape \[5\], the config asks for \[4\]",
        ),
        (
            lambda t: t | {"model.embed_tokens.weight": torch.zeros(320, 64)},
            f"'{EMBEDDING}' is there twice",
        ),
    ],
    ids=["missing", "extra", "misshapen", "twice"],
)
def test_a_wrong_tensor_is_named(
    checkpoint: Path,
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    message: str,
) -> None:
    """One sentence names the tensor and what is wrong with it."""
    rewrite(checkpoint, change)
    with pytest.raises(CheckpointError, match=message):
        load_weights(checkpoint)


def test_a_truncated_file_is_named(checkpoint: Path) -> None:
    """A download that broke off is not loaded in part."""
    file = checkpoint / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged or not a safetens"):
        load_weights(checkpoint)
    file.write_text("not tensors at all")
    with pytest.raises(CheckpointError, match="is damaged or not a safetensors file"):
        load_weights(checkpoint)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        load_weights(checkpoint)


def test_a_wrong_model_type_is_named(checkpoint: Path) -> None:
    """Another family's checkpoint is refused before a tensor is read."""
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))
    with pytest.raises(CheckpointError, match="model_type is 'llama'"):
        load_weights(checkpoint)


def test_loading_needs_little_more_than_the_model(tmp_path: Path) -> None:
    """Peak memory is that of the model and one tensor, not of a second copy."""
    from dataclasses import replace

    config = replace(PUBLISHED_4B, layer_types=PUBLISHED_4B.layer_types[:1], vocab_size=16_000)
    config = replace(config, vision=replace(config.vision, depth=1, full_attention_blocks=()))
    vlm = random_weights(config, 0)
    tensors = {n: d.view.reshape(d.shape).clone() for n, d in destinations(vlm).items()}
    model_bytes = sum(p.numel() * 4 for p in vlm.parameters())
    largest = max(t.numel() * 4 for t in tensors.values())
    del vlm
    save_file(tensors, tmp_path / "model.safetensors")
    del tensors
    published = json.loads((TINY / "config.json").read_text())
    vision = published["vision_config"] | {
        "depth": 1, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
        "out_hidden_size": 2048, "fullatt_block_indexes": [],
    }  # fmt: skip
    published |= {
        "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 1,
        "num_attention_heads": 16, "num_key_value_heads": 2, "vocab_size": 16_000,
        "rope_scaling": {"mrope_section": [16, 24, 24]}, "sliding_window": 8192,
        "num_linear_heads": 16, "num_linear_key_value_heads": 16, "linear_head_dim": 128,
        "vision_config": vision,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(published))
    before = psutil.Process().memory_info().rss
    loaded = load_weights(tmp_path)
    # Pages of the mapped file count as resident until the file is closed, as here.
    grown = psutil.Process().memory_info().rss - before
    assert sum(p.numel() * 4 for p in loaded.parameters()) == model_bytes
    assert grown < 1.2 * model_bytes + largest


def test_random_weights_are_the_same_for_the_same_seed() -> None:
    """A seed is a model."""
    from tests.small_models import SMALL

    assert same(random_weights(SMALL, 1), random_weights(SMALL, 1))
    assert not same(random_weights(SMALL, 1), random_weights(SMALL, 2))


def test_a_model_is_made_without_torchs_compiler() -> None:
    """Its import would add two seconds to every start."""
    code = (
        "import sys; from model.checkpoint import load_model; load_model('random:tiny');"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
