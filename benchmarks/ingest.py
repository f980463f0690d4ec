"""Is a live source that breaks found out, found again, and nothing left behind?

    python -m benchmarks.ingest                          # every fault, about five minutes
    python -m benchmarks.ingest --only stall --only 404
    python -m benchmarks.ingest --only flaps --flaps 100

Real servers on this machine break in every way of docs/ingest.md, and a source opened as
`run_stream.py` opens it, with the patience it has there, is watched going through it. Needs what
the tests of network sources need: Debian's Python with the RTSP server of GStreamer.
"""

import argparse
import sys
from dataclasses import asdict

from benchmarks.ingest_cases import Case, Outcome, measure, staged_case
from benchmarks.ingest_faults import STAGES
from benchmarks.ingest_longer import flaps, missing_segment, normal, slow_reader
from benchmarks.report import show
from tests.rig.rtsp import missing_rtsp

HEADER = ["fault", "told", "waits", "live", "less wait", "frames", "lost", "closed", "left", ""]


def main(argv: list[str] | None = None) -> int:
    """0 if everything is as promised."""
    parser = argparse.ArgumentParser(description="The faults of live sources.")
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--flaps", type=int, default=20)
    args = parser.parse_args(argv)
    cases = all_cases(args.flaps)
    if unknown := set(args.only) - set(cases):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(cases)}")
    if missing := missing_rtsp():
        parser.error(missing)
    # The first connection loads what stays loaded.
    measure("warm-up", staged_case(STAGES["TCP reset"]))
    outcomes = []
    for name in args.only or cases:
        outcome = measure(name, cases[name])
        outcomes.append(outcome)
        print(in_words(outcome), flush=True)
    met = not any(outcome.misses for outcome in outcomes)
    result = {"benchmark": "ingest", "met": met, "faults": [asdict(o) for o in outcomes]}
    show("faults of live sources, seconds", HEADER, [row(o) for o in outcomes], result)
    return 0 if met else 1


def all_cases(num_flaps: int) -> dict[str, Case]:
    """Everything that can be measured, by name."""
    staged = {name: staged_case(stage) for name, stage in STAGES.items()}
    return {
        "normal": normal,
        **staged,
        "HLS, 1 s missing": missing_segment(1.0),
        "HLS, 4 s missing": missing_segment(4.0),
        "slow reader": slow_reader,
        "flaps": flaps(num_flaps),
    }


def in_words(outcome: Outcome) -> str:
    """What does not fit a table."""
    lines = [f"{outcome.fault}: {'NOT MET' if outcome.misses else 'met'}"]
    lines += [f"  told: {outcome.told}"] if outcome.told else []
    lines += [f"  {note}" for note in outcome.notes]
    lines += [f"  NOT MET: {miss}" for miss in outcome.misses]
    return "\n".join(lines)


def row(outcome: Outcome) -> list[str]:
    after_s = None if outcome.live_s is None else outcome.live_s - outcome.waited_s
    lost = ", ".join(f"{count} {reason}" for reason, count in outcome.lost.items())
    left = ", ".join(f"{count} {what}" for what, count in outcome.left.items() if count)
    return [
        outcome.fault,
        seconds(outcome.detected_s),
        seconds(outcome.backoff_s),
        seconds(outcome.live_s),
        seconds(after_s),
        f"{outcome.frames_before} / {outcome.frames_after}",
        lost or "0",
        seconds(outcome.close_s),
        left or "0",
        "NOT MET" if outcome.misses else "met",
    ]


def seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
