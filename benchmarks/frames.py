"""How long does a frame take, by stage, with the window full and nothing else to do?

    python -m benchmarks.frames --model random:4b --frames 200
    python -m benchmarks.frames --model random:4b --frames 20000   # does age show?

Frames of the model's own size go through the steps that the engine takes (replayed graphs on CUDA),
one after the other, and then single tokens for 1, 8 and 32 questions. Times are the host's, until
the state is committed; the stages are the device's own.
"""

import argparse
import sys
import time
from typing import Any

import numpy as np
import torch

from benchmarks.loading import load
from benchmarks.report import in_ms, quantile, show
from model.checkpoint import DEFAULT_MODEL, LoadedModel, default_threads
from model.state import StatePool
from stream.graphs import make_steps
from stream.steps import Steps
from ui.arguments import frame_size
from ui.words import milliseconds

STREAM = 1
DECODED = 64
Times = dict[str, list[float]]


@torch.inference_mode()
def watch(
    steps: Steps, frames: int, warm_up: int, size: tuple[int, int], grid: tuple[int, int]
) -> tuple[Times, list[int]]:
    """Feed random pictures: times of the frames after the warm-up, and the device's bytes."""
    width, height = size
    pictures = np.random.default_rng(0).integers(0, 256, (8, height, width, 3), dtype=np.uint8)
    times: Times = {}
    allocated = []
    for number in range(warm_up + frames):
        start_s = time.perf_counter()
        picture, staged_s = steps.stage(pictures[number % 8], grid)
        stages_s = staged_s | steps.watch([picture], [number / 25], [STREAM], grid).stages_s
        taken_s = time.perf_counter() - start_s
        if number >= warm_up:
            for name, value in (stages_s | {"frame": taken_s}).items():
                times.setdefault(name, []).append(value)
            allocated.append(torch.cuda.memory_allocated() if torch.cuda.is_available() else 0)
    return times, allocated


@torch.inference_mode()
def decode(steps: Steps, pool: StatePool, count: int) -> list[float]:
    """Times of single tokens of so many forks of the stream, after a few to warm up."""
    slots = list(range(STREAM + 1, STREAM + 1 + count))
    for slot in slots:
        pool.copy(STREAM, slot)
    ids, taken = [1] * count, []
    for _ in range(DECODED + 8):
        start_s = time.perf_counter()
        ids = steps.decode(ids, slots).argmax(-1).tolist()
        taken.append(time.perf_counter() - start_s)
    return taken[8:]


def ages(frames: list[float], allocated: list[int]) -> dict[str, Any]:
    """The first hundred frames against the last: time and bytes."""
    young, old = (quantile(part, 0.5) for part in (frames[:100], frames[-100:]))
    assert young and old
    return {
        "frames": len(frames),
        "young_ms_p50": in_ms(young),
        "old_ms_p50": in_ms(old),
        "slower_percent": round(100 * (old / young - 1), 2),
        "bytes_grown": allocated[-1] - allocated[min(99, len(allocated) - 1)],
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Milliseconds a frame and a token.")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--frame-size", type=frame_size, default=None, metavar="WxH")
    parser.add_argument("--askers", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--precision", choices=["best", "fp8"], default="best")
    parser.add_argument("--threads", type=int, default=default_threads())
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    model: LoadedModel = load(args.model, args.precision)
    cell = model.vlm.config.vision.cell_size
    side = round(model.frame_tokens**0.5) * cell
    width, height = args.frame_size or (side, side)
    grid = height // cell, width // cell
    pool = model.vlm.new_pool(1 + max(args.askers), max_append=grid[0] * grid[1])
    steps = make_steps(model.vlm, pool, time.perf_counter, 1, max(args.askers))
    with torch.inference_mode():
        steps.warm_up(grid)
        model.vlm.start_stream(STREAM, pool)
    warm_up = model.vlm.config.sliding_window // (grid[0] * grid[1]) + 2
    times, allocated = watch(steps, args.frames, warm_up, (width, height), grid)
    for count in args.askers:
        times[f"token of {count}"] = decode(steps, pool, count)
    quantiles = {name: [quantile(t, q) for q in (0.5, 0.95, 0.99)] for name, t in times.items()}
    peak = torch.cuda.max_memory_allocated() if model.vlm.device.type == "cuda" else None
    rows = [[name, *map(milliseconds, values)] for name, values in quantiles.items()]
    result = {
        "benchmark": "frames",
        "model": args.model,
        "precision": args.precision,
        "frame_size": [width, height],
        "tokens_a_frame": grid[0] * grid[1],
        **ages(times["frame"], allocated),
        "slot_bytes": pool.slot_bytes,
        "gpu_peak_bytes": peak,
        "ms_p50_p95_p99": {name: list(map(in_ms, values)) for name, values in quantiles.items()},
    }
    show(f"{args.model}, window full", ["stage", "p50", "p95", "p99"], rows, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
