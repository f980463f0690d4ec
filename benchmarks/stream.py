"""Does a paced stream keep up while questions are answered?

    python -m benchmarks.stream --seconds 60 --fps 25 --question-every 5
    python -m benchmarks.stream --camera --model random:tiny --seconds 600   # over RTSP

Plays the shipped clip over and over as a live source (what comes too late is dropped), or watches a
real RTSP server on this machine, through the same session and engine as `run_stream.py`, after a
short warm-up. `frame_ms` is arrival to committed state over all due ticks, `ttft_ms` from asking to
the first token; `unexplained` frames are neither processed nor dropped for a reason.
"""

import argparse
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.loading import load
from benchmarks.report import in_ms, quantile, show
from model.checkpoint import DEFAULT_MODEL, default_threads
from sources.open import SourceOptions, open_source
from stream.buffer import FullPolicy
from stream.engine import Engine, EngineConfig
from stream.events import AnswerDone, Event
from stream.monitor import MonitorReport
from stream.question import SamplingParams
from stream.session import StreamConfig, StreamSession
from stream.verdict import percent, verdict
from tests.rig.rtsp import RtspServer
from ui.words import milliseconds

CLIP = Path(__file__).parent.parent / "assets" / "city.mp4"
QUESTION = "What is happening right now?"
WARM_UP_S = 2.0


def watch(
    engine: Engine, args: argparse.Namespace, name: str, seconds: float, question_every_s: float
) -> tuple[MonitorReport, list[AnswerDone]]:
    """One session over `seconds` of stream, asking as it goes."""
    source = open_source(args.source, SourceOptions(loop=True))
    config = StreamConfig(name, args.fps, FullPolicy.DROP_OLDEST, duration_s=seconds)
    session = StreamSession(source, engine, config)
    answers: list[AnswerDone] = []

    def keep(event: Event) -> None:
        if isinstance(event, AnswerDone):
            answers.append(event)

    session.subscribe(keep)
    sampling = SamplingParams(max_tokens=args.max_tokens)
    for n in range(int(seconds / question_every_s)):
        session.ask(QUESTION, asker=str(n), at_s=n * question_every_s, sampling=sampling)
    session.start()
    session.wait()
    report = session.report()
    session.stop()
    return report, answers


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A paced stream with questions.")
    parser.add_argument("--source", default=str(CLIP))
    parser.add_argument("--camera", action="store_true", help="the RTSP camera of the tests")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--fps", type=float, default=25.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--question-every", type=float, default=5.0)
    parser.add_argument("--max-tokens", type=int, default=SamplingParams().max_tokens)
    parser.add_argument("--threads", type=int, default=default_threads())
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    model = load(args.model)
    config = EngineConfig(frame_tokens=model.frame_tokens, grid=model.grid, max_streams=2)
    engine = Engine(model, config)
    thread = threading.Thread(target=engine.run, daemon=True)
    thread.start()
    with RtspServer(fps=round(args.fps)) if args.camera else nullcontext() as camera:
        args.source = camera.url if camera else args.source
        watch(engine, args, "warm-up", WARM_UP_S, WARM_UP_S / 2)
        report, answers = watch(engine, args, "measured", args.seconds, args.question_every)
    engine.close()
    thread.join()
    show_result(report, answers, args, engine.pool.nbytes)
    return 0


def show_result(
    report: MonitorReport, answers: list[AnswerDone], args: argparse.Namespace, state_bytes: int
) -> None:
    ttft = [a.time_to_first_token_s for a in answers if a.time_to_first_token_s is not None]
    rows = [["due frames on time", percent(report.on_time_ratio), ""]]
    latencies = (report.latency_p50_s, report.latency_p95_s, report.latency_p99_s)
    rows.append(["frame, arrival to state", *map(milliseconds, latencies[:2])])
    rows.append(["  p99", "", milliseconds(latencies[2])])
    rows += [
        [f"  {name}", milliseconds(p50), milliseconds(p95)]
        for name, (p50, p95) in report.stage_s.items()
    ]
    rows.append(["first token", *(milliseconds(quantile(ttft, q)) for q in (0.5, 0.95))])
    result: dict[str, Any] = {
        "benchmark": "stream",
        "model": args.model,
        "source": Path(args.source).name,
        "target_fps": args.fps,
        "seconds": args.seconds,
        "on_time_ratio": report.on_time_ratio,
        "worst_window": report.worst_window,
        "fps": report.fps,
        "due": report.due,
        "starved": report.starved,
        "dropped": report.dropped,
        "unexplained": report.read - report.processed - sum(report.dropped.values()),
        "frame_ms_p50": in_ms(report.latency_p50_s),
        "frame_ms_p95": in_ms(report.latency_p95_s),
        "frame_ms_p99": in_ms(report.latency_p99_s),
        "ttft_ms_p95": in_ms(quantile(ttft, 0.95)),
        "questions": len(answers),
        "answered": sum(a.num_tokens > 0 for a in answers),
        "state_bytes": state_bytes,
        "resident_bytes": psutil.Process().memory_info().rss,
    }
    print(verdict(report))
    show(f"{args.model} on {result['source']}", ["", "p50", "p95"], rows, result)


if __name__ == "__main__":
    sys.exit(main())
