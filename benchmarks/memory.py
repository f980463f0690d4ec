"""Does anything grow?

    python -m benchmarks.memory --frames 10000

Watches N frames with a question now and then, through the engine, and compares bytes and addresses
of the state and the resident memory of the process between frame 10 and frame N. Exits 1 if the
state changed size or place.
"""

import argparse
import contextlib
import ctypes
import gc
import sys
import time

import psutil
import torch

from benchmarks.by_hand import STREAM, HandDriven
from benchmarks.loading import load
from benchmarks.report import show
from model.checkpoint import DEFAULT_MODEL, default_threads
from stream.dialogues import MAX_TURNS
from stream.question import Question, SamplingParams
from ui.words import megabytes

FIRST = 10
QUESTION_EVERY = 100


def addresses(hand: HandDriven) -> list[tuple[int, int]]:
    return [(t.data_ptr(), t.numel() * t.element_size()) for t in hand.engine.pool.tensors()]


def resident_bytes() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def held_bytes() -> int:
    """Resident memory once glibc's allocator has given back what is free; elsewhere as it is."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
    return resident_bytes()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="State and resident memory over many frames.")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=default_threads())
    args = parser.parse_args(argv)
    if args.frames <= FIRST:
        parser.error(f"--frames must be more than {FIRST}, where the count begins")
    torch.set_num_threads(args.threads)
    hand = HandDriven(load(args.model), 1, time.perf_counter)
    marks = sorted({FIRST, *(args.frames * n // 10 for n in range(1, 11))})
    resident: dict[int, int] = {}
    held: list[int] = []
    before: list[tuple[int, int]] = []
    for number in range(1, args.frames + 1):
        hand.give_frame()
        if number == 1 or number % QUESTION_EVERY == 0:
            ask(hand, number)
        hand.engine.step()
        if number == 1:
            warm_up(hand)
        if number in marks:
            resident[number] = resident_bytes()
            before = before or addresses(hand)
            held.append(held_bytes() if number in (FIRST, args.frames) else 0)
        hand.answers.clear()
    constant = before == addresses(hand)
    growth = resident[args.frames] - resident[FIRST]
    rows = [
        [str(n), megabytes(hand.engine.pool.nbytes), megabytes(rss)] for n, rss in resident.items()
    ]
    result = {
        "benchmark": "memory",
        "model": args.model,
        "frames": args.frames,
        "state_bytes": hand.engine.pool.nbytes,
        "slot_bytes": hand.engine.pool.slot_bytes,
        "state_constant": constant,
        "resident_bytes": resident,
        "resident_growth_bytes": growth,
        "held_growth_bytes": held[-1] - held[0],
    }
    print(
        f"Resident memory grew by {growth / 1e6:.2f} MB from frame {FIRST} to {args.frames}, "
        f"by {(held[-1] - held[0]) / 1e6:.2f} MB without what the allocator keeps for reuse."
    )
    show(f"Memory of {args.model}", ["frame", "state", "process"], rows, result)
    return 0 if constant else 1


def warm_up(hand: HandDriven) -> None:
    """Ask until the asker's dialogue is as long as it gets: what is first used stays resident."""
    for number in range(2 * MAX_TURNS):
        while hand.engine.step():
            pass
        ask(hand, -number)
    while hand.engine.step():
        pass


def ask(hand: HandDriven, number: int) -> None:
    sampling = SamplingParams(max_tokens=8)
    hand.engine.ask(
        Question(number, STREAM, "me", "What now?", time.perf_counter(), None, sampling)
    )


if __name__ == "__main__":
    sys.exit(main())
