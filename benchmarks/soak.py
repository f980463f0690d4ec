"""Does a server leave anything behind when clients come and go for a long time?

    python -m benchmarks.soak --minutes 30 --samples soak.jsonl
    python -m benchmarks.plots soak soak.jsonl docs/images/soak.png

The shipped clip plays as a live stream at 25 FPS, another stream takes pictures that are pushed,
and the clients of `benchmarks.soak_clients`, a process of their own, come, ask, cancel, flood, read
nothing, break off and come back at random. Every few seconds the server's memory, descriptors,
threads, children and asyncio tasks are written down. What grows is the mean of the last third less
that of the third before; `per_hour` is a line fitted through both. Exits 1 if the end of an answer
was lost.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import psutil
import torch

from benchmarks.report import show
from benchmarks.serving import Served, looped_clip, serving
from model.checkpoint import DEFAULT_MODEL, default_threads
from sources.pushed import PushedSource
from stream.events import AnswerDone, Event, QuestionAccepted

SETTLE_S = 5.0
SAMPLED = ("rss_mb", "fds", "threads", "children", "tasks")
HEADER = ["", "before", "middle third", "last third", "grew", "an hour", "after"]


class Ends:
    """How often each accepted question ended; a listener of all streams."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[tuple[str, int]] = set()
        self.counts: Counter[str] = Counter()

    def hear(self, event: Event) -> None:
        with self._lock:
            match event:
                case QuestionAccepted():
                    self.counts["accepted"] += 1
                    self._open.add((event.stream, event.question_id))
                case AnswerDone():
                    self.counts[f"ended: {event.status}"] += 1
                    if (key := (event.stream, event.question_id)) in self._open:
                        self._open.remove(key)
                    else:
                        self.counts["twice"] += 1

    @property
    def num_open(self) -> int:
        with self._lock:
            return len(self._open)


def sample(served: Served, process: psutil.Process, began_s: float) -> dict[str, float]:
    """What the server holds now; the process of the clients is one of its children."""
    return {
        "s": round(time.monotonic() - began_s, 1),
        "rss_mb": process.memory_info().rss / 1e6,
        "fds": process.num_fds(),
        "threads": process.num_threads(),
        "children": len(process.children(recursive=True)),
        "tasks": served.server.num_tasks,
    }


def soak(
    served: Served, seconds: float, every_s: float, out: TextIO
) -> tuple[list[dict[str, float]], dict[str, int]]:
    """Samples before, while clients come and go, and after; and what the clients counted."""
    process, began_s = psutil.Process(), time.monotonic()
    samples: list[dict[str, float]] = []

    def keep() -> None:
        samples.append(sample(served, process, began_s))
        print(json.dumps(samples[-1]), file=out, flush=True)

    time.sleep(SETTLE_S)
    keep()
    command = [sys.executable, "-m", "benchmarks.soak_clients", served.url]
    command += ["--seconds", str(seconds)]
    with subprocess.Popen(command, stdout=-1, text=True) as clients:
        while clients.poll() is None:
            time.sleep(every_s)
            keep()
        assert clients.stdout is not None
        counted = json.loads(clients.stdout.read())
    time.sleep(SETTLE_S)
    keep()
    return samples, counted


def growth(samples: list[dict[str, float]], name: str) -> dict[str, float]:
    """The value before, by thirds, and after; how much it grew, and by the hour."""
    before, *during, after = samples
    third = len(during) // 3
    middle, last = during[third : 2 * third], during[2 * third :]
    means = [float(np.mean([one[name] for one in part])) for part in (middle, last)]
    both = [*middle, *last]
    slope = np.polyfit([one["s"] for one in both], [one[name] for one in both], 1)[0]
    return {
        "before": before[name],
        "middle": means[0],
        "last": means[1],
        "grew": means[1] - means[0],
        "per_hour": float(slope) * 3600,
        "after": after[name],
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Clients that come and go for a long time.")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=5.0, metavar="SECONDS")
    parser.add_argument("--samples", type=Path, default=Path("soak.jsonl"))
    parser.add_argument("--threads", type=int, default=default_threads())
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    ends = Ends()
    with serving(args.model, {"cam": looped_clip(), "robot": PushedSource("robot")}) as served:
        served.streams.subscribe(ends.hear)
        with args.samples.open("w") as out:
            samples, counted = soak(served, args.minutes * 60, args.every, out)
        report = served.streams.get("cam").report()
    found = {name: growth(samples, name) for name in SAMPLED}
    lost = (
        counted.get("missing", 0) + counted.get("twice", 0) + ends.num_open + ends.counts["twice"]
    )
    result: dict[str, Any] = {
        "benchmark": "soak",
        "model": args.model,
        "minutes": args.minutes,
        **found,
        "lost_ends": lost,
        "server": dict(ends.counts),
        "clients": counted,
        "on_time_ratio": report.on_time_ratio,
        "due": report.due,
    }
    rows = [[name, *(f"{value:.2f}" for value in found[name].values())] for name in SAMPLED]
    print(f"{lost} ends of answers were lost of {ends.counts['accepted']} accepted questions.")
    show(f"{args.minutes:g} minutes of clients that come and go", HEADER, rows, result)
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
