"""Do other clients, however they behave, delay the frames of a stream?

    python -m benchmarks.neighbours --rounds 3 --seconds 40

One server, one run: the shipped clip plays as a live stream at 25 FPS, by turns with nobody else
there and with the neighbours of `benchmarks.neighbours_clients` (100 idle clients that read the
statistics of every second, one that floods, one that never reads), which are a process of their
own. Lateness is from a frame's tick to its committed state; a dropped frame is infinitely late.
The load of the machine is taken before each turn.
"""

import argparse
import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch

from benchmarks.report import in_ms, quantile, show
from benchmarks.serving import looped_clip, serving
from model.checkpoint import DEFAULT_MODEL, default_threads
from stream.events import Event, FrameDone, FrameDropped
from stream.monitor import ON_TIME_PERIODS
from ui.words import milliseconds, percent

FPS = 25.0
# Between turns: what one has left behind is not the next one's.
SETTLE_S = 2.0
ALONE, CROWDED = "alone", "neighbours"
HEADER = ["turn", "frames", "on time", "late p50", "p95", "p99", "worst", "dropped", "load"]


class Lateness:
    """How late every frame of a turn was; a listener of the stream."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._late_s: list[float] | None = None

    def hear(self, event: Event) -> None:
        match event:
            case FrameDone(done_s=done_s, due_s=float(due_s)):
                late_s = max(done_s - due_s, 0.0)
            case FrameDropped(tick=int()):
                late_s = math.inf
            case _:
                return
        with self._lock:
            if self._late_s is not None:
                self._late_s.append(late_s)

    def of(self, seconds: float) -> list[float]:
        """Those of the next so many seconds."""
        with self._lock:
            self._late_s = []
        time.sleep(seconds)
        with self._lock:
            late_s, self._late_s = self._late_s, None
        return late_s


@contextmanager
def neighbours(url: str) -> Iterator[dict[str, int]]:
    """They come within this; what they have counted is there when they are gone."""
    command = [sys.executable, "-m", "benchmarks.neighbours_clients", url]
    counts: dict[str, int] = {}
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(SETTLE_S)
        process.stdin.write("come\n")
        process.stdin.flush()
        yield counts
        process.stdin.close()
        counts |= json.loads(process.stdout.readline())


def measure(
    model: str, rounds: int, seconds: float
) -> tuple[dict[str, list[list[float]]], list[float], list[dict[str, int]]]:
    """Lateness by kind and turn, the load before every turn, and what the neighbours counted."""
    turns: dict[str, list[list[float]]] = {ALONE: [], CROWDED: []}
    loads, counted = [], []
    with serving(model, {"cam": looped_clip()}) as served:
        lateness = Lateness()
        served.streams.subscribe(lateness.hear)
        lateness.of(SETTLE_S)  # warm-up
        for _ in range(rounds):
            loads.append(psutil.getloadavg()[0])
            turns[ALONE].append(lateness.of(seconds))
            loads.append(psutil.getloadavg()[0])
            with neighbours(served.url) as counts:
                turns[CROWDED].append(lateness.of(seconds))
            counted.append(counts)
            time.sleep(SETTLE_S)
    return turns, loads, counted


def summary(late_s: list[float]) -> dict[str, Any]:
    on_time = sum(late <= ON_TIME_PERIODS / FPS for late in late_s)
    return {
        "frames": len(late_s),
        "on_time_ratio": on_time / len(late_s),
        **{f"late_ms_p{round(q * 100)}": in_ms(quantile(late_s, q)) for q in (0.5, 0.95, 0.99)},
        "late_ms_worst": in_ms(max(late_s)),
        "dropped": sum(map(math.isinf, late_s)),
    }


def row(name: str, result: dict[str, Any], load: str) -> list[str]:
    late = [result[f"late_ms_{q}"] / 1e3 for q in ("p50", "p95", "p99", "worst")]
    return [
        name,
        str(result["frames"]),
        percent(result["on_time_ratio"]),
        *map(milliseconds, late),
        str(result["dropped"]),
        load,
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A stream with and without bad neighbours.")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--threads", type=int, default=default_threads())
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    turns, loads, counted = measure(args.model, args.rounds, args.seconds)
    each = {name: [summary(late_s) for late_s in kind] for name, kind in turns.items()}
    total = {name: summary([s for late_s in kind for s in late_s]) for name, kind in turns.items()}
    rows = []
    for number in range(args.rounds):
        for place, name in enumerate((ALONE, CROWDED)):
            load = f"{loads[2 * number + place]:.2f}"
            rows.append(row(f"{name} {number + 1}", each[name][number], load))
    rows += [row(f"{name}, all", total[name], "") for name in (ALONE, CROWDED)]
    difference = round(total[CROWDED]["late_ms_p99"] - total[ALONE]["late_ms_p99"], 2)
    change = f"{difference:+.1f} ms" if math.isfinite(difference) else "more than can be told"
    print(f"Neighbours change the p99 lateness of frames by {change}.")
    result = {
        "benchmark": "neighbours",
        "model": args.model,
        "seconds": args.seconds,
        "p99_difference_ms": difference,
        "total": total,
        "turns": each,
        "loads": [round(load, 2) for load in loads],
        "neighbours": counted,
    }
    show(f"{args.model} with and without neighbours", HEADER, rows, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
