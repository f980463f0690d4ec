"""Pictures of a training, an exam, a soak, of peers and of an open page, for the documentation.

    python -m benchmarks.plots training runs/nano/log.jsonl docs/images/training.png
    python -m benchmarks.plots exam answers.jsonl docs/images/exam.png
    python -m benchmarks.plots soak soak.jsonl docs/images/soak.png
    python -m benchmarks.plots peers peers.txt docs/images/peers.png
    python -m benchmarks.plots page page.jsonl docs/images/page-memory.png

The answers are what `benchmarks.exam --keep` wrote down, the soak what `benchmarks.soak` did, the
peers what `benchmarks.peers` printed, the page what `benchmarks.page --hours` did.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

from benchmarks.exam import read
from benchmarks.exam_report import distances, families
from training.questions import FAMILIES

matplotlib.use("Agg")
from matplotlib import pyplot, ticker

# Of two dozen losses those that tell most.
TELLING = (
    "answers", "classes", "motions", "distinct", "previous", "came_before", "last_at",
    "named_came_before", "named_last_at",
)  # fmt: skip


def training(log: Path, out: Path) -> None:
    """Losses, and the share of answers that were wholly right, over the seconds of training."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    seconds = [line["seconds"] for line in lines]
    for name in (n for n in TELLING if n in lines[-1]):
        left.plot(seconds, [line.get(name) for line in lines], label=name, linewidth=1)
    left.set(xlabel="seconds", ylabel="loss", yscale="log", title="Losses")
    for name, label in (
        ("perception", "perception"),
        ("memory", "memory within 4 windows"),
        ("far", "memory beyond 4 windows"),
    ):
        right.plot(seconds, [line[name] for line in lines], label=label, linewidth=1)
    right.set(xlabel="seconds", ylim=(0, 1), title="Answers wholly right, in training")
    _finish(figure, (left, right), out)


def exam(answers: list[Path], out: Path) -> None:
    """Accuracy by family, and of memory by distance at every frame rate."""
    answered = read(answers)
    found = families(answered)
    names = [n for group in ("memory", "perception") for n in FAMILIES[group] if n in found]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 8), width_ratios=(1, 1.3))
    colours = ["tab:blue" if n in FAMILIES["perception"] else "tab:orange" for n in names]
    left.barh(names, [found[n]["all"] for n in names], color=colours, label="right")
    left.plot([found[n]["majority"] for n in names], names, "k|", label="best guess")
    above = 2  # rows that the legend has to itself
    left.set(xlim=(0, 1), ylim=(-1, len(names) + above), title="By family (orange: memory)")
    left.tick_params(axis="y", labelsize=8)
    for fps, curve in distances(answered).items():
        points = [(float(d), *share) for d, share in curve.items() if share[1] >= 10]
        right.plot(
            [max(d, 2.5) for d, _, _ in points], [a for _, a, _ in points], "o-", label=f"{fps} fps"
        )
    right.set(
        xscale="log", ylim=(0, 1), xlabel="seconds since the evidence", title="Memory by distance"
    )
    ticks = [2, 5, 10, 20, 50, 100, 200, 500]
    right.set_xticks(ticks, [str(t) for t in ticks], minor=False)
    right.xaxis.set_minor_locator(ticker.NullLocator())
    _finish(figure, (left, right), out)


def soak(samples: Path, out: Path) -> None:
    """What a server holds over the minutes; its threads and descriptors and tasks beside memory."""
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    minutes = [line["s"] / 60 for line in lines]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    _resident(left, lines, "Its memory")
    for name in ("tasks", "fds", "threads", "children"):
        right.plot(minutes, [line[name] for line in lines], label=name, linewidth=1)
    right.set(xlabel="minutes", ylim=(0, None), title="What else it holds")
    _finish(figure, (left, right), out)


def peers(printed: Path, out: Path) -> None:
    """A frame's time and the memory allocated over the age of a stream, by model."""
    found = json.loads(printed.read_text().splitlines()[-1])["peers"]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    for name, rows in found.items():
        # The first frames pay for what is loaded and compiled.
        aged = [row for row in rows if row["frame"] >= 10]
        frames = [row["frame"] for row in aged]
        left.plot(frames, [row["frame_ms"] for row in aged], "o-", label=name)
        right.plot(frames, [row["allocated_bytes"] / 1e9 for row in aged], "o-", label=name)
    left.set(xlabel="frames watched", ylabel="ms", ylim=(0, None), title="Time of a frame")
    right.set(xlabel="frames watched", ylabel="GB", ylim=(0, None), title="Memory of all")
    _finish(figure, (left, right), out)


def page(samples: Path, out: Path) -> None:
    """What a page that stays open holds in its browser, and its server, over the minutes."""
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    minutes = [line["s"] / 60 for line in lines]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    left.plot(minutes, [line["heap_mb"] for line in lines], label="heap of the page", linewidth=1)
    left.set(xlabel="minutes", ylabel="MB", ylim=(0, None), title="The browser")
    _resident(right, lines, "The server")
    _finish(figure, (left, right), out)


def _resident(axis: Any, lines: list[dict[str, float]], title: str) -> None:
    """The memory of a process over the minutes."""
    minutes, resident = [line["s"] / 60 for line in lines], [line["rss_mb"] for line in lines]
    axis.plot(minutes, resident, label="resident memory", linewidth=1)
    axis.set(xlabel="minutes", ylabel="MB", ylim=(0, 1.2 * max(resident)), title=title)


def _finish(figure: Any, axes: tuple[Any, ...], out: Path) -> None:
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(out, dpi=110)
    print(out)


PLOTS = {"training": training, "soak": soak, "peers": peers, "page": page}


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw what was measured.")
    parser.add_argument("what", choices=[*PLOTS, "exam"])
    parser.add_argument("files", type=Path, nargs="+", help="what to read, then the picture")
    args = parser.parse_args()
    *sources, out = args.files
    if not sources:
        parser.error("name what to read, then the picture")
    if args.what == "exam":
        exam(sources, out)
    else:
        PLOTS[args.what](sources[0], out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
