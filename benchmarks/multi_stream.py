"""How many streams stay on time, with and without people asking?

    python -m benchmarks.multi_stream --model random:4b --streams 6 --seconds 120
    python -m benchmarks.multi_stream --model random:4b --streams 1 --askers 4 --seconds 300
    python -m benchmarks.multi_stream --model random:4b --search          # ramp, then bisection

Live cameras of moving noise whose frames are due at evenly spread moments, through the sessions and
the engine that `run_stream.py` uses. Askers ask one question after the other, of one stream after
the other. Latency is a frame's arrival to its committed state; a stream holds if 99 % of its due
frames are on time, and the worst of all streams counts.
"""

import argparse
import itertools
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.loading import load
from benchmarks.made_camera import made_camera
from benchmarks.report import in_ms, quantile, show
from model.checkpoint import DEFAULT_MODEL, LoadedModel, default_threads
from stream.engine import Engine, EngineConfig
from stream.events import AnswerDone, Event
from stream.monitor import ON_TIME_TARGET, MonitorReport
from stream.question import SamplingParams
from stream.session import StreamConfig, StreamSession
from ui.arguments import frame_size

QUESTION = "What is happening right now, and what did you see before the thing that is moving?"


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of the engine: streams, people who never stop asking, and for how long."""

    streams: int
    askers: int
    seconds: float


def run(engine: Engine, load: Load, fps: float, size: tuple[int, int], max_tokens: int) -> Any:
    """Watch and ask; the report of every stream, and every answer."""
    sessions = []
    for n in range(load.streams):
        camera = made_camera(fps, size, n / load.streams / fps)
        config = StreamConfig(f"camera {n}", fps, duration_s=load.seconds)
        sessions.append(StreamSession(camera, engine, config))
    answers: list[AnswerDone] = []
    over_s = time.monotonic() + load.seconds
    sampling = SamplingParams(max_tokens=max_tokens)
    turns, askers = itertools.cycle(sessions), itertools.count()
    lock = threading.Lock()

    def ask() -> None:
        # Always a new asker, so that no prompt holds what was said before.
        with lock:
            session, asker = next(turns), next(askers)
        session.ask(QUESTION, asker=str(asker), sampling=sampling)

    def heard(event: Event) -> None:
        if isinstance(event, AnswerDone):
            answers.append(event)
            if time.monotonic() < over_s - 1.0:
                ask()

    for session in sessions:
        session.subscribe(heard)
        session.start()
    for _ in range(load.askers):
        ask()
    for session in sessions:
        session.wait()
    reports = [session.report() for session in sessions]
    for session in sessions:
        session.stop()
    return reports, answers


def measured(model: LoadedModel, load: Load, args: argparse.Namespace) -> dict[str, Any]:
    """The figures of one load, with an engine of its own that has been warmed up."""
    engine = Engine(
        model,
        EngineConfig(
            frame_tokens=model.frame_tokens,
            grid=model.grid,
            max_streams=load.streams,
            max_answers=max(1, load.askers),
            overcommit=True,
        ),
    )
    started_s = time.monotonic()
    engine.warm_up(args.frame_size[1], args.frame_size[0])
    warm_up_s = time.monotonic() - started_s
    thread = threading.Thread(target=engine.run, daemon=True)
    thread.start()
    reports, answers = run(engine, load, args.fps, args.frame_size, args.max_tokens)
    engine.close()
    thread.join()
    return summary(load, reports, answers) | {"warm_up_s": round(warm_up_s, 1)}


def summary(load: Load, reports: list[MonitorReport], answers: list[AnswerDone]) -> dict[str, Any]:
    """The worst stream's figures, and the answers'."""
    ttft = [a.time_to_first_token_s for a in answers if a.time_to_first_token_s is not None]
    between = [
        (a.total_s - a.time_to_first_token_s) / (a.num_tokens - 1)
        for a in answers
        if a.time_to_first_token_s is not None and a.num_tokens > 1
    ]
    ratios = [r.on_time_ratio or 0.0 for r in reports]
    return {
        "streams": load.streams,
        "askers": load.askers,
        "seconds": load.seconds,
        "on_time_ratio": min(ratios),
        "holds": min(ratios) >= ON_TIME_TARGET,
        "due": sum(r.due for r in reports),
        "dropped": sum(sum(r.dropped.values()) for r in reports),
        "frame_ms_p50": in_ms(max(r.latency_p50_s or 0.0 for r in reports)),
        "frame_ms_p95": in_ms(max(r.latency_p95_s or 0.0 for r in reports)),
        "frame_ms_p99": in_ms(max(r.latency_p99_s or 0.0 for r in reports)),
        "answers": len(answers),
        "prompt_tokens": round(quantile([a.num_prompt_tokens for a in answers], 0.5) or 0),
        "first_token_ms_p50": in_ms(quantile(ttft, 0.5)),
        "first_token_ms_p95": in_ms(quantile(ttft, 0.95)),
        "token_ms_p50": in_ms(quantile(between, 0.5)),
        "tokens_s": round(sum(a.num_tokens for a in answers) / load.seconds, 1),
    }


def search(model: LoadedModel, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Double the streams until they no longer hold, then halve the gap."""
    tried: list[dict[str, Any]] = []
    holds, fails, streams = 0, None, 1
    while fails is None or fails - holds > 1:
        tried.append(measured(model, Load(streams, args.askers, args.seconds), args))
        print(tried[-1], file=sys.stderr, flush=True)
        if tried[-1]["holds"]:
            holds = streams
        else:
            fails = streams
        streams = 2 * holds if fails is None else (holds + fails) // 2
        if streams == 0:
            break
    return tried


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Streams that stay on time.")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--streams", type=int, nargs="+", default=[1])
    parser.add_argument("--askers", type=int, default=0)
    parser.add_argument("--fps", type=float, default=25.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--frame-size", type=frame_size, default=(640, 640), metavar="WxH")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--search", action="store_true", help="find how many streams hold")
    parser.add_argument("--precision", choices=["best", "fp8"], default="best")
    parser.add_argument("--threads", type=int, default=default_threads())
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    model = load(args.model, args.precision)
    if args.search:
        tried = search(model, args)
    else:
        loads = [Load(streams, args.askers, args.seconds) for streams in args.streams]
        tried = [measured(model, one, args) for one in loads]
    shown = ["streams", "askers", "on_time_ratio", "frame_ms_p50", "frame_ms_p99"]
    shown += ["first_token_ms_p50", "first_token_ms_p95", "tokens_s"]
    rows = [[_cell(one[name]) for name in shown] for one in tried]
    result = {
        "benchmark": "multi_stream",
        "model": args.model,
        "precision": args.precision,
        "fps": args.fps,
        "frame_size": list(args.frame_size),
        "loads": tried,
        "hold": max((one["streams"] for one in tried if one["holds"]), default=0),
    }
    show(f"Streams of {args.model}", [name.replace("_", " ") for name in shown], rows, result)
    return 0


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


if __name__ == "__main__":
    sys.exit(main())
