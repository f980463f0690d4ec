"""How long do websocket clients wait, and does the stream keep up meanwhile?

    python -m benchmarks.serve --clients 1 4 8 16 --seconds 30

The shipped clip plays over and over as a live stream at 25 FPS; clients in a process of their own
ask all at once, again as soon as a session may. Times are the clients': from asking to the first
text and to the end of the answer, over loopback.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time

import torch

from benchmarks.report import in_ms, quantile, show
from benchmarks.serving import looped_clip, serving
from model.checkpoint import DEFAULT_MODEL, default_threads
from stream.client import Client
from ui.words import milliseconds, percent

QUESTION = "What do you see?"
PAUSE_S = 1.0  # as fast as the limit of a session allows
HEADER = ["clients", "on time", "p99 frame", "first text p50", "p95", "p99", "answer p50", "p95",
          "p99", "answers"]  # fmt: skip


async def one_client(url: str, until_s: float) -> list[tuple[float, float]]:
    """Ask again and again: seconds to the first text and to the end of each answer."""
    times = []
    async with Client(url) as client:
        while time.monotonic() < until_s:
            began_s, first_s = time.monotonic(), None
            answer = await client.ask(QUESTION)
            async for _ in answer:
                first_s = first_s or time.monotonic() - began_s
            if first_s is not None:
                times.append((first_s, time.monotonic() - began_s))
            await asyncio.sleep(max(0.0, began_s + PAUSE_S - time.monotonic()))
    return times


async def all_clients(url: str, count: int, seconds: float) -> list[tuple[float, float]]:
    until_s = time.monotonic() + seconds
    each = await asyncio.gather(*(one_client(url, until_s) for _ in range(count)))
    return [times for client in each for times in client]


def measure(model_name: str, count: int, seconds: float) -> dict[str, object]:
    """Serve, let clients ask, and say how both fared."""
    with serving(model_name, {"cam": looped_clip()}) as served:
        command = [sys.executable, "-m", "benchmarks.serve", "--ask", served.url]
        command += ["--clients", str(count), "--seconds", str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        times = json.loads(done.stdout)
        report = served.streams.get("cam").report()
    result: dict[str, object] = {
        "clients": count,
        "answers": len(times),
        "on_time_ratio": report.on_time_ratio,
        "due": report.due,
        "frame_ms_p99": in_ms(report.latency_p99_s),
    }
    for name, column in (("first_ms", 0), ("answer_ms", 1)):
        for q in (0.5, 0.95, 0.99):
            value = quantile([one[column] for one in times], q)
            result[f"{name}_p{round(q * 100)}"] = in_ms(value)
    return result


def row(result: dict[str, object]) -> list[str]:
    def cell(name: str) -> str:
        value = result[name]
        return milliseconds(value / 1e3 if isinstance(value, float) else None)

    ratio = result["on_time_ratio"]
    names = [f"{kind}_p{q}" for kind in ("first_ms", "answer_ms") for q in (50, 95, 99)]
    on_time = percent(ratio if isinstance(ratio, float) else None)
    return [
        str(result["clients"]),
        on_time,
        cell("frame_ms_p99"),
        *map(cell, names),
        str(result["answers"]),
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Websocket clients of one stream.")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--ask", metavar="URL", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.ask:
        print(json.dumps(asyncio.run(all_clients(args.ask, args.clients[0], args.seconds))))
        return 0
    torch.set_num_threads(args.threads)
    measure(args.model, 1, 2.0)  # warm-up
    results = [measure(args.model, count, args.seconds) for count in args.clients]
    show(
        f"{args.model}, asked over websockets",
        HEADER,
        [row(result) for result in results],
        {"benchmark": "serve", "model": args.model, "results": results},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
