"""Watch a video stream with InfiniteVL-Online and answer questions while it goes on.

    python run_stream.py --source 0                                    # a webcam
    python run_stream.py --source rtsp://camera/live --fps 25          # a network camera
    python run_stream.py --source clip.mp4 --ask "5s: What just happened?"

This file only puts things together: a source, a model, an engine on a thread of its own, a
session that joins them, and a terminal to show it.
"""

from ui.process_title import hide_secrets

hide_secrets()  # before the slow imports, since `ps` shows arguments to everyone

import argparse
import os
import signal
import sys
import threading

import torch

from model.checkpoint import NANO, LoadedModel, best_dtype, load_model
from model.config import VisionConfig
from model.weights import CheckpointError
from sources.errors import SourceError
from sources.open import SourceOptions, open_source
from stream.engine import Engine, EngineConfig
from stream.events import SourceCondition
from stream.question import QuestionRefusedError, SamplingParams, parse_timed
from stream.session import StreamConfig, StreamSession
from ui.arguments import parse_args
from ui.terminal import Terminal

STOP_WITHIN_S = 10.0
MAX_FRAME_TOKENS = 16_384
# What a camera's pictures will be like is not known before it sends one.
WARM_UP_HEIGHT, WARM_UP_WIDTH = 360, 640


def main(argv: list[str] | None = None) -> int:
    """Run until the stream ends; 0 if it ended well, 1 if it failed, 2 for bad input."""
    args = parse_args(argv)
    torch.set_num_threads(args.threads or default_threads())
    try:
        session, terminal, engine = put_together(args)
    except (SourceError, CheckpointError, QuestionRefusedError, ValueError, MemoryError) as error:
        print(f"error: {error or 'there is not enough memory'}", file=sys.stderr)
        return 2
    except torch.OutOfMemoryError:
        print("error: the model and its state do not fit on the device", file=sys.stderr)
        return 2
    return run(engine, session, terminal)


def put_together(args: argparse.Namespace) -> tuple[StreamSession, Terminal, Engine]:
    """Source, model, engine, session, terminal, and the questions that were given."""
    device = _device(args.device)
    sampling = SamplingParams(args.max_tokens, args.temperature, args.top_p)
    questions = [parse_timed(text) for text in args.ask]
    options = SourceOptions(
        args.loop, args.rtsp_transport, args.hwaccel, args.start, args.image_fps
    )
    source = open_source(args.source, options)
    model = load_model(args.model, device, best_dtype(device))
    engine = Engine(model, _engine_config(args, model))
    if not args.json:
        print(introduction(model))
    engine.warm_up(source.info.height or WARM_UP_HEIGHT, source.info.width or WARM_UP_WIDTH)
    fps = args.fps if args.pace == "clock" else None
    config = StreamConfig(
        fps=fps,
        on_full=args.on_full,
        duration_s=args.duration,
        reset_on_gap=args.on_gap == "reset",
    )
    session = StreamSession(source, engine, config)

    def ask(at_s: float, text: str) -> None:
        session.ask(text, at_s=at_s, deadline_s=args.deadline, sampling=sampling)

    terminal = Terminal(
        session,
        state_bytes=lambda: engine.pool.nbytes,
        trained=model.trained,
        json_lines=args.json,
        ask=lambda line: ask(*parse_timed(line)),
    )
    for question in questions:
        ask(*question)
    return session, terminal, engine


def run(engine: Engine, session: StreamSession, terminal: Terminal) -> int:
    """Watch to the end, or until Ctrl-C or SIGTERM, then say what came of it."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    thread = threading.Thread(target=engine.run, name="engine", daemon=True)
    thread.start()
    session.start()
    try:
        terminal.run(stopped)
    finally:
        session.stop("the program was stopped" if stopped.is_set() else "the stream has ended")
        session.wait(STOP_WITHIN_S)
        engine.close()
        thread.join(STOP_WITHIN_S)
        terminal.summary()
    state = session.source_state
    return int(state is not None and state.condition is SourceCondition.FAILED)


def default_threads() -> int:
    """CPU threads of the model: one core stays with the frames, and small products use few."""
    return max(1, min(4, (os.cpu_count() or 1) - 1))


def introduction(model: LoadedModel) -> str:
    """What the answers are worth, in one line."""
    if model.name == NANO:
        return (
            "Model nano: 9 M parameters, trained on drawn scenes of everyday things, shapes, words "
            "and numbers. It knows nothing else of the world: --model hustvl/InfiniteVL-LongSFT "
            "loads the real one (needs a GPU)."
        )
    if model.trained:
        return f"Model {model.name}."
    return (
        f"Model {model.name}: UNTRAINED weights from a seed. It shows speed and memory; what it "
        "says means nothing. --model hustvl/InfiniteVL-LongSFT loads the real one (needs a GPU)."
    )


def _engine_config(args: argparse.Namespace, model: LoadedModel) -> EngineConfig:
    grid, tokens = model.grid, model.frame_tokens
    if args.frame_size is not None:
        grid = _grid(args.frame_size, model.vlm.config.vision)
        tokens = grid[0] * grid[1]
    return EngineConfig(frame_tokens=tokens, grid=grid, max_context=args.max_context)


def _grid(size: tuple[int, int], vision: VisionConfig) -> tuple[int, int]:
    width, height = size
    if width % vision.cell_size or height % vision.cell_size or not (width and height):
        raise ValueError(
            f"--frame-size {width}x{height}: both must be multiples of {vision.cell_size}"
        )
    rows, columns = height // vision.cell_size, width // vision.cell_size
    if rows * columns > MAX_FRAME_TOKENS:
        raise ValueError(
            f"--frame-size {width}x{height}: a frame would be {rows * columns} tokens, the limit "
            f"is {MAX_FRAME_TOKENS}"
        )
    return rows, columns


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no CUDA device here; use --device cpu")
    if name not in ("cpu", "cuda"):
        raise ValueError(f"--device {name}: known are auto, cpu and cuda")
    return torch.device(name)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before there was anything to stop
        sys.exit(130)
