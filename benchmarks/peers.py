"""What do a frame and the memory of a stream cost as the stream grows, beside a growing cache?

    python -m benchmarks.peers --frames 10 50 100 200
    python -m benchmarks.peers --published InfiniteVL/infinitevl/infinitevl_streaming

In one run on one GPU: ours (replayed graphs, a bounded state), then Qwen2.5-VL-3B as `transformers`
runs it, its cache keeping every frame, then on request the published code of our model's shape
(`benchmarks/published.py`). All have random weights of the published shape in bf16 and see
448 x 448 pictures, 256 tokens each, one after the other. A frame's time is the median of a few that
end there; memory is what is allocated on the device afterwards: weights, state, all else.

Needs `transformers`, which nothing else here does (`--published` needs 4.57). It launches every
kernel from Python, and no one has tuned it for this: it shows how a growing cache behaves, not how
fast that model can be.
"""

import argparse
import gc
import inspect
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import published
from benchmarks.loading import load
from benchmarks.report import in_ms, quantile, show
from model.rope import frame_positions
from stream.graphs import make_steps
from ui.words import milliseconds

GRID = (16, 16)
PIXELS = 448
FPS = 25
# The frames whose median is a row, if there are so many since the row before.
BLOCK = 9
PEER = "Qwen2.5-VL-3B, transformers"
OURS = "ours"
PUBLISHED = "InfiniteVL as published, eager"
Watch = Callable[[int], None]


def ours() -> Watch:
    """Lets our model see frame after frame of one stream."""
    model = load("random:4b")
    pool = model.vlm.new_pool(2, max_append=GRID[0] * GRID[1])
    steps = make_steps(model.vlm, pool, time.perf_counter, 1, 1)
    steps.warm_up(GRID)
    steps.start(1)
    shape = (8, PIXELS, PIXELS, 3)
    pictures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def watch(number: int) -> None:
        picture = steps.stage(pictures[number % 8], GRID).picture
        steps.watch([picture], [number / FPS], [1], GRID)

    return watch


def qwen() -> Watch:
    """Lets Qwen2.5-VL-3B see frame after frame: through its tower, then onto its cache."""
    from transformers import DynamicCache, Qwen2_5_VLConfig, Qwen2_5_VLModel

    config: Any = Qwen2_5_VLConfig(text_config=TEXT, vision_config=VISION)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = Qwen2_5_VLModel._from_config(config, attn_implementation="sdpa").eval()
        pixels = torch.randn(4 * GRID[0] * GRID[1], 3 * 2 * 14 * 14)
        patches = torch.tensor([[1, 2 * GRID[0], 2 * GRID[1]]])
    torch.set_default_dtype(torch.float32)
    text, cache = model.language_model, DynamicCache(config=config.text_config)
    # The name of this argument has changed between versions.
    names = inspect.signature(type(text).forward).parameters
    name = "past_key_values" if "past_key_values" in names else "cache"

    def watch(number: int) -> None:
        seen = model.visual(pixels, grid_thw=patches)
        tokens = seen if isinstance(seen, Tensor) else seen.pooler_output
        time_s = torch.tensor([number / FPS], dtype=torch.float64, device="cuda")
        positions = frame_positions(time_s, *GRID, VISION["tokens_per_second"]).permute(2, 0, 1)
        text(inputs_embeds=tokens[None], position_ids=positions, use_cache=True, **{name: cache})
        torch.cuda.synchronize()

    return watch


def as_published(folder: Path) -> dict[str, Callable[[], Watch]]:
    """The published code as a peer, by its name."""
    build = published.find(folder)
    name = PUBLISHED if published.has_flash_attn() else f"{PUBLISHED}, SDPA"
    return {name: lambda: published.watch(build, GRID, FPS)}


# As published in the checkpoint's config.json.
TEXT: dict[str, Any] = {
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 128000,
    # transformers 4 and 5 both read these.
    "rope_theta": 1e6,
    "rope_scaling": {"rope_type": "default", "mrope_section": [16, 24, 24]},
}
VISION: dict[str, Any] = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "out_hidden_size": 2048,
    "tokens_per_second": 2,
    "fullatt_block_indexes": [7, 15, 23, 31],
}
PEERS: dict[str, Callable[[], Watch]] = {OURS: ours, PEER: qwen}


def grow(watch: Watch, marks: Iterable[int], most_bytes: float) -> list[dict[str, Any]]:
    """Time and memory at each mark, until all are reached or memory is about to run out."""
    times: list[float] = []
    rows: list[dict[str, Any]] = []
    for mark in marks:
        before = len(times)
        while len(times) < mark:
            start_s = time.perf_counter()
            watch(len(times))
            times.append(time.perf_counter() - start_s)
            if torch.cuda.max_memory_allocated() > most_bytes:
                return rows
        frame_s = quantile(times[max(before, mark - BLOCK) :], 0.5)
        allocated = torch.cuda.memory_allocated()
        rows.append({"frame": mark, "frame_ms": in_ms(frame_s), "allocated_bytes": allocated})
    return rows


@torch.inference_mode()
def measure(make: Callable[[], Watch], marks: list[int]) -> list[dict[str, Any]]:
    """The rows of one peer, alone on the device."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    most_bytes = 0.9 * torch.cuda.get_device_properties(0).total_memory
    return grow(make(), marks, most_bytes)


def main(argv: list[str] | None = None) -> int:
    """0, or 2 without a GPU or `transformers`, or if the published code cannot be run."""
    parser = argparse.ArgumentParser(description="A bounded state beside a growing cache.")
    parser.add_argument("--frames", type=int, nargs="+", default=[10, 50, 100, 200])
    of_clone = "also measure the published code, infinitevl/infinitevl_streaming of its clone"
    parser.add_argument("--published", type=Path, metavar="FOLDER", help=of_clone)
    args = parser.parse_args(argv)
    try:
        peers = PEERS | (as_published(args.published) if args.published else {})
    except published.UnusableError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not torch.cuda.is_available():
        print("error: torch sees no CUDA device here", file=sys.stderr)
        return 2
    try:
        import transformers
    except ImportError:
        print("error: transformers is not installed: pip install transformers", file=sys.stderr)
        return 2
    marks = sorted(set(args.frames))
    found = {name: measure(make, marks) for name, make in peers.items()}
    rows = [
        [f"{name}, frame {row['frame']}", milliseconds(row["frame_ms"] / 1e3),
         f"{row['allocated_bytes'] / 1e9:.2f} GB"]
        for name, measured in found.items()
        for row in measured
    ]  # fmt: skip
    result = {
        "benchmark": "peers",
        "tokens_a_frame": GRID[0] * GRID[1],
        "transformers": transformers.__version__,
        "peers": found,
    }
    show("A frame as the stream grows", ["", "frame", "allocated"], rows, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
