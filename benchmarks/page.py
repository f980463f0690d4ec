"""What a visitor's browser sees of a stream, and what the page costs over hours.

    python -m benchmarks.page --seconds 30
    python -m benchmarks.page --hours 2 --samples page.jsonl

The program runs in a process of its own and the page in a headless Chromium, both on this machine.
The first form counts, by bar codes in the pictures, how many different frames a second the canvas
shows, at rest and while the visitor never stops asking; and how many pictures of the visitor's own
camera the engine takes. The second asks a question a minute and samples the browser's heap and the
server's memory.
"""

import argparse
import json
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO

import psutil
from PIL import Image
from playwright.sync_api import Page
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from benchmarks.browsing import ask, browsing, visit
from benchmarks.report import show
from benchmarks.soak import growth
from model.checkpoint import DEFAULT_MODEL
from tests.clips import numbered_picture, write_numbered
from tests.page_program import program

SIZE = 640, 360
NUMBERS = 250
QUESTION = "What do you see?"
LOOKS: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
LOOK = """() => {
  const { canvas } = window.ivl.live;
  const context = canvas.getContext("2d");
  window.seen = [];
  let last = -1;
  const look = () => {
    const row = context.getImageData(0, 0, canvas.width, 1).data;
    let number = 0;
    for (let bit = 0; bit < 8; bit++) {
      if (row[4 * Math.floor(((2 * bit + 1) * canvas.width) / 16)] > 150) number |= 1 << bit;
    }
    if (number !== last) window.seen.push(performance.now());
    last = number;
    requestAnimationFrame(look);
  };
  look();
}"""
SAMPLED = ("heap_mb", "nodes", "rss_mb", "fds", "threads")


def seen(page: Page, seconds: float, *, asking: bool) -> dict[str, float]:
    """Different frames a second on the canvas, and the longest time without a new one."""
    page.evaluate("window.seen.length = 0")
    until_s, answers = time.monotonic() + seconds, 0
    while time.monotonic() < until_s:
        if asking:
            ask(page, QUESTION)
            answers += 1
        page.wait_for_timeout(100)
    moments = page.evaluate("window.seen")
    gaps = [after - before for before, after in pairwise(moments)]
    return {
        "fps": 1e3 * len(gaps) / (moments[-1] - moments[0]),
        "longest_gap_ms": max(gaps),
        "answers": answers,
    }


def camera(page: Page, url: str, seconds: float) -> dict[str, float]:
    """Pictures of the visitor's camera a second that are part of what its stream remembers."""
    page.get_by_text("Watch something of your own").click()
    page.get_by_role("button", name="Use my camera").click()
    page.wait_for_function("window.ivl.live.name.startsWith('visitor-') && window.ivl.live.newest")
    name = page.evaluate("window.ivl.live.name")
    page.wait_for_timeout(2000)
    address = url.replace("http", "ws", 1) + "v1/stream"
    with connect(address, subprotocols=[Subprotocol("ivl.v1")]) as socket:
        subscribe = {"type": "stream.subscribe", "stream": name, "channels": ["stats"]}
        socket.send(json.dumps(subscribe))
        counts: list[tuple[float, dict[str, Any]]] = []
        while not counts or counts[-1][0] - counts[0][0] < seconds:
            message = json.loads(socket.recv())
            if message["type"] == "stats":
                counts.append((time.monotonic(), message))
            page.wait_for_timeout(10)
    (first_s, first), (last_s, last) = counts[0], counts[-1]
    return {
        "fps": (last["processed"] - first["processed"]) / (last_s - first_s),
        "granted_fps": last["target_fps"],
        "dropped": sum(last["dropped"].values()),
    }


def rates(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        clip = write_numbered(Path(folder) / "numbers.mp4", NUMBERS, size=SIZE)
        film = Path(folder) / "camera.mjpeg"
        with film.open("wb") as out:
            for number in range(100):
                Image.fromarray(numbered_picture(number, *SIZE)).save(out, "JPEG")
        source = ["--source", str(clip), "--loop", "--on-full", "drop_oldest"]
        with (
            program(*source, "--model", args.model) as served,
            browsing(f"--use-file-for-fake-video-capture={film}", **LOOKS) as page,
        ):
            visit(page, served.url)
            page.evaluate(LOOK)
            idle = seen(page, args.seconds, asking=False)
            busy = seen(page, args.seconds, asking=True)
            own = camera(page, served.url, args.seconds)
    rows = [
        ["at rest", f"{idle['fps']:.1f}", f"{idle['longest_gap_ms']:.0f}", "-"],
        [
            "while asking",
            f"{busy['fps']:.1f}",
            f"{busy['longest_gap_ms']:.0f}",
            f"{busy['answers']}",
        ],
        ["own camera, in the engine", f"{own['fps']:.1f}", "-", "-"],
    ]
    result = {"benchmark": "page", "model": args.model, "idle": idle, "asking": busy, "camera": own}
    show("Frames a second", ["", "frames a second", "longest gap ms", "answers"], rows, result)
    return 0


def hours(args: argparse.Namespace) -> int:
    source = ["--source", "assets/demo.mp4", "--loop", "--on-full", "drop_oldest"]
    samples: list[dict[str, float]] = []
    with (
        program(*source, "--model", args.model) as served,
        browsing(**LOOKS) as page,
        args.samples.open("w") as out,
    ):
        visit(page, served.url)
        began_s, minute = time.monotonic(), 0
        while (now_s := time.monotonic() - began_s) < args.hours * 3600:
            if now_s >= 60 * minute:
                ask(page, QUESTION)
                minute += 1
            if minute % 2:
                keep(samples, page, served.pid, now_s, out)
            page.wait_for_timeout(15_000)
    found = {name: growth(samples, name) for name in SAMPLED}
    rows = [[name, *(f"{value:.2f}" for value in found[name].values())] for name in SAMPLED]
    result = {"benchmark": "page", "model": args.model, "hours": args.hours, **found}
    header = ["", "first", "second third", "last third", "grew", "an hour", "last"]
    show(f"{args.hours:g} hours of an open page", header, rows, result)
    return 0


def keep(samples: list[dict[str, float]], page: Page, pid: int, now_s: float, out: TextIO) -> None:
    """Sample the browser's heap, after a collection, and what the server holds."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("HeapProfiler.collectGarbage")
    devtools.send("Performance.enable")
    browser = {m["name"]: m["value"] for m in devtools.send("Performance.getMetrics")["metrics"]}
    devtools.detach()
    server = psutil.Process(pid)
    samples.append(
        {
            "s": round(now_s, 1),
            "heap_mb": browser["JSHeapUsedSize"] / 1e6,
            "nodes": browser["Nodes"],
            "rss_mb": server.memory_info().rss / 1e6,
            "fds": server.num_fds(),
            "threads": server.num_threads(),
            "frames": page.evaluate("window.ivl.live.drawn"),
        }
    )
    print(json.dumps(samples[-1]), file=out, flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What a browser sees of a stream.")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument(
        "--hours", type=float, default=0.0, help="sample memory for so long instead"
    )
    parser.add_argument("--samples", type=Path, default=Path("page.jsonl"))
    args = parser.parse_args(argv)
    return hours(args) if args.hours else rates(args)


if __name__ == "__main__":
    sys.exit(main())
