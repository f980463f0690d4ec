"""How long does a frame take, by stage, with the window full and nothing else to do?

    python -m benchmarks.frames --model random:4b --frames 200 --frame-size 448x448

Calls the model's verbs directly, eagerly, frame after frame, and then decodes single tokens.
"""

import argparse
import sys
import time

import torch

from benchmarks.by_hand import load
from benchmarks.report import show
from benchmarks.stream import in_ms, quantile
from model.checkpoint import DEFAULT_MODEL, LoadedModel
from model.state import StatePool
from run_stream import default_threads
from ui.arguments import frame_size
from ui.words import milliseconds

STREAM, FORK = 1, 2
DECODED = 64


class StageClock:
    """Collects the time between marks, waiting for the device at each."""

    def __init__(self, device: torch.device) -> None:
        self.times: dict[str, list[float]] = {}
        self._cuda = device.type == "cuda"
        self.restart()

    def restart(self) -> None:
        self._last_s = self._now()

    def mark(self, stage: str) -> None:
        now = self._now()
        self.times.setdefault(stage, []).append(now - self._last_s)
        self._last_s = now

    def _now(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter()


@torch.inference_mode()
def watch(
    model: LoadedModel, frames: int, warm_up: int, size: tuple[int, int]
) -> tuple[StageClock, StatePool]:
    """Feed random pictures; times of the frames after the warm-up, which fills the window."""
    vlm, (width, height) = model.vlm, size
    cell = vlm.config.vision.cell_size
    grid = height // cell, width // cell
    pool = vlm.new_pool(2, max_append=grid[0] * grid[1])
    vlm.start_stream(STREAM, pool)
    slots = torch.tensor([STREAM], device=vlm.device)
    pictures = torch.randint(0, 256, (8, 1, height, width, 3), dtype=torch.uint8)
    clock = StageClock(vlm.device)
    for number in range(warm_up + frames):
        if number == warm_up:
            clock.times.clear()
        time_s = torch.tensor([number / 25], dtype=torch.float64, device=vlm.device)
        clock.restart()
        picture = pictures[number % 8].to(vlm.device)
        vlm.append_frames(picture, time_s, slots, pool, grid, clock.mark)
    return clock, pool


@torch.inference_mode()
def decode(model: LoadedModel, pool: StatePool) -> list[float]:
    """Times of single tokens on a fork of the stream, after a few to warm up."""
    vlm = model.vlm
    pool.copy(STREAM, FORK)
    slots = torch.tensor([FORK], device=vlm.device)
    ids = torch.tensor([1], device=vlm.device)
    clock = StageClock(vlm.device)
    for _ in range(DECODED + 8):
        clock.restart()
        ids = vlm.decode(ids, slots, pool).argmax(-1)
        clock.mark("token")
    return clock.times["token"][8:]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Milliseconds a frame and a token, eagerly.")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--frame-size", type=frame_size, default=None, metavar="WxH")
    parser.add_argument("--threads", type=int, default=default_threads())
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    model = load(args.model)
    side = round(model.frame_tokens**0.5) * model.vlm.config.vision.cell_size
    size = args.frame_size or (side, side)
    tokens = size[0] * size[1] // model.vlm.config.vision.cell_size**2
    warm_up = model.vlm.config.sliding_window // tokens + 2
    clock, pool = watch(model, args.frames, warm_up, size)
    frames = zip(*clock.times.values(), strict=True)
    times = clock.times | {"frame": [sum(stages) for stages in frames]}
    times["token"] = decode(model, pool)
    quantiles = {name: [quantile(t, q) for q in (0.5, 0.95, 0.99)] for name, t in times.items()}
    peak = torch.cuda.max_memory_allocated() if model.vlm.device.type == "cuda" else None
    rows = [[name, *map(milliseconds, values)] for name, values in quantiles.items()]
    result = {
        "benchmark": "frames",
        "model": args.model,
        "frame_size": list(size),
        "tokens_a_frame": tokens,
        "frames": args.frames,
        "slot_bytes": pool.slot_bytes,
        "gpu_peak_bytes": peak,
        "ms_p50_p95_p99": {name: list(map(in_ms, values)) for name, values in quantiles.items()},
    }
    show(f"{args.model}, eager, window full", ["stage", "p50", "p95", "p99"], rows, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
