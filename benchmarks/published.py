"""The published InfiniteVL code, from a clone of it: the peer of `benchmarks.peers --published`.

Its classes are imported from the clone's `infinitevl/infinitevl_streaming` while this runs; weights
are random, of the shape and dtype in its config.json. Frames come as in the clone's streaming demo:
a vision start token and an image, then image after image onto its preallocated cache, positions in
time moving on at whole seconds.

Eager is what is measured. The demo replays a CUDA graph of its second frame from there on, but how
much the cache holds is a Python number: each replay has the one of that frame, so the windows stay
at the first frame and the newest.

The decoder asks for flash-attn. Where that is missing PyTorch's attention sees the same keys, and
the peer's name says so; vision uses PyTorch's either way.
"""

import importlib
import sys
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FILES = ("config.json", "configuration_infinitevl.py", "modeling_infinitevl.py")
PACKAGES = ("einops", "fla", "transformers")
# flash-linear-attention 0.6 needs transformers 5, whose models are built in another way.
NEEDS = "it needs 4.57, and with it flash-linear-attention before 0.6"
SDPA = "sdpa_of_a_window"
Build = Callable[[], Any]
Watch = Callable[[int], None]


class UnusableError(Exception):
    """The folder's code cannot be run here; says why."""


def find(folder: Path) -> Build:
    """What builds a model on the current default device, found to fit what is installed."""
    for name in FILES:
        if not (folder / name).is_file():
            raise UnusableError(f"{folder / name} is missing: give infinitevl_streaming of a clone")
    for package in PACKAGES:
        if find_spec(package) is None:
            raise UnusableError(f"the published code needs {package}, which is not installed")
    try:
        config, model = _classes(folder)

        def build() -> Any:
            built = model._from_config(config.from_pretrained(folder)).eval()
            if not has_flash_attn():
                _attend_by_sdpa(built)
            return built

        # What other versions of transformers do not take mostly shows here, not on import.
        with torch.device("meta"):
            build()
    except Exception as error:  # which one, foreign code on other versions decides
        found = f"transformers {version('transformers')} ({NEEDS})"
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UnusableError(f"the published code does not run with {found}: {said}") from error
    return build


def has_flash_attn() -> bool:
    """Whether the decoder's own attention can run."""
    return find_spec("flash_attn") is not None


def watch(build: Build, grid: tuple[int, int], fps: int, device: str = "cuda") -> Watch:
    """Lets a model see frame after frame of one stream; `grid` is rows and columns of tokens."""
    rows, columns = grid
    with torch.device(device):
        model = build()
        pixels = torch.randn(4 * rows * columns, 3 * 2 * 14 * 14)
        patches = torch.tensor([[1, 2 * rows, 2 * columns]])
        image = torch.full((1, rows * columns), model.config.image_token_id)
        ids = torch.cat([torch.tensor([[model.config.vision_start_token_id]]), image], dim=1)
    model.visual.set_graph_bucket(patches)
    model.visual.precompute_window_buffers()
    model.visual.precompute_full_cu_seqlens()
    positions, _ = model.model.get_rope_index(input_ids=ids, image_grid_thw=patches)
    cache = model.allocate_inference_cache(batch_size=1)
    seen = 0

    def see(number: int) -> None:
        nonlocal seen
        # Only the first image follows a vision start token.
        skipped = 1 if seen else 0
        at = positions[:, :, skipped:].clone()
        at[0] += int(number / fps) * model.config.vision_config.tokens_per_second
        end = seen + at.shape[2]
        model(
            input_ids=ids[:, skipped:],
            position_ids=at,
            pixel_values=pixels,
            image_grid_thw=patches,
            use_cache=True,
            past_key_values=cache,
            cache_position=torch.arange(seen, end, device=device),
        )
        seen = end
        if device == "cuda":
            torch.cuda.synchronize()

    return see


def _classes(folder: Path) -> tuple[Any, Any]:
    """Those of the configuration and of the model."""
    sys.path.insert(0, str(folder.resolve()))
    try:
        modeling = importlib.import_module("modeling_infinitevl")
    finally:
        sys.path.remove(str(folder.resolve()))
    return modeling.InfiniteVLConfig, modeling.InfiniteVLQwen2_5_VLForConditionalGeneration


def _attend_by_sdpa(model: Any) -> None:
    """Gives the decoder PyTorch's attention in place of flash-attn.

    By the name "sdpa" it would get a mask without a window, and none once the window is full. By a
    name that has no masks it always gets none, as flash-attn does, and makes its own.
    """
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def attend(module: Any, q: Tensor, k: Tensor, v: Tensor, _: None, **rest: Any) -> Any:
        keys = torch.arange(k.shape[2], device=k.device)
        back = keys[-q.shape[2] :, None] - keys
        visible = (back >= 0) & (back < rest["sliding_window"])
        return sdpa_attention_forward(module, q, k, v, visible, **rest)

    AttentionInterface.register(SDPA, attend)
    model.config.text_config._attn_implementation = SDPA
