"""Watch video streams with InfiniteVL-Online and answer questions while they go on.

    python run_stream.py --source 0                                    # a webcam
    python run_stream.py --source rtsp://camera/live --fps 25          # a network camera
    python run_stream.py --source clip.mp4 --ask "5s: What just happened?"
    python run_stream.py --stream door=rtsp://camera/live --stream yard=1   # several at once
    python run_stream.py --source 0 --serve 127.0.0.1:8765             # for websocket clients
    python run_stream.py --source 0 --http 127.0.0.1:8766              # for them and OpenAI's API
    python run_stream.py --source 0 --ui                               # and a page in the browser

This file only puts things together: sources, a model, an engine on a thread of its own, a
session a stream that joins them, and a terminal to show it.
"""

from ui.process_memory import share_arenas
from ui.process_title import hide_secrets

hide_secrets()  # before the slow imports, since `ps` shows arguments to everyone
share_arenas()  # before them too, since they start threads

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends them without a word

import argparse
import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch

from model.checkpoint import LoadedModel, best_dtype, default_threads, load_model
from model.config import VisionConfig
from model.precision import use_fp8
from model.weights import CheckpointError
from sources.errors import SourceError
from sources.frame import VideoSource
from sources.open import open_source
from sources.policy import ClientPolicy
from sources.pushed import PushedSource
from stream.app import make_app
from stream.asking import Asking
from stream.doors import Doors, read_tokens, server_tls
from stream.engine import Engine, EngineConfig
from stream.http_server import HttpServer
from stream.hub import About, Hub
from stream.ingest import Ingest, TakesPictures
from stream.metrics import BuildInfo, Metrics
from stream.pages import Pages
from stream.protocol_session import SessionLimits
from stream.question import QuestionRefusedError, SamplingParams
from stream.registry import StreamRegistry, UnknownStreamError
from stream.server import Address, Server, ServerThread, Serves
from stream.talk import Talk
from stream.version import VERSION
from stream.visitors import Visitors
from ui.addressed import AddressedQuestion, parse_addressed
from ui.arguments import parse_args
from ui.introduction import caution, examples, introduction
from ui.json_log import json_log, log_event
from ui.standard_streams import drop_output, open_missing_streams
from ui.stream_specs import ONLY_STREAM, StreamSpec, stream_specs
from ui.terminal import Terminal

STOP_WITHIN_S = 10.0
MAX_FRAME_TOKENS = 16_384
REFUSALS = (
    SourceError,
    CheckpointError,
    QuestionRefusedError,
    UnknownStreamError,
    ValueError,
    MemoryError,
)
FP8_FROM = (8, 9)
# What a camera's pictures will be like is not known before it sends one.
WARM_UP_HEIGHT, WARM_UP_WIDTH = 360, 640


def main(argv: list[str] | None = None) -> int:
    """Run until the streams end; 0 if they ended well, 1 if one failed, 2 for bad input."""
    open_missing_streams()
    args = parse_args(argv)
    torch.set_num_threads(args.threads or default_threads())
    with json_log(sys.argv[1:] if argv is None else argv) if args.log_json else nullcontext():
        return watch(args)


def watch(args: argparse.Namespace) -> int:
    """What `main` does, once it is known what to do."""
    try:
        streams, terminal, engine, server = put_together(args)
    except REFUSALS as error:
        print(f"error: {error or 'there is not enough memory'}", file=sys.stderr)
        return 2
    except torch.OutOfMemoryError:
        print("error: the model and its state do not fit on the device", file=sys.stderr)
        return 2
    with collecting_only_new_garbage():
        return run(engine, streams, terminal, server)


def put_together(
    args: argparse.Namespace,
) -> tuple[StreamRegistry, Terminal, Engine, ServerThread | None]:
    """Sources, model, engine, streams, terminal, server, and the questions that were given."""
    device = _device(args.device, args.precision)
    serves = bool(args.serve or args.http or args.ui)
    sampling = SamplingParams(args.max_tokens, args.temperature, args.top_p)
    specs = stream_specs(args)
    questions = [parse_addressed(text, [spec.config.name for spec in specs]) for text in args.ask]
    sources = [_open(spec) for spec in specs]
    model = load_model(args.model, device, best_dtype(device))
    if args.precision == "fp8":
        use_fp8(model.vlm)
    engine = Engine(model, _engine_config(args, model, len(specs) + args.visitors))
    if not args.json:
        introduce(model, serves=serves)
    for height, width in {(source.info.height, source.info.width) for source in sources}:
        engine.warm_up(height or WARM_UP_HEIGHT, width or WARM_UP_WIDTH)
    engine.check_rates([spec.config.fps for spec in specs])
    streams = StreamRegistry(engine, capacity=len(specs) + args.visitors)
    for spec, source in zip(specs, sources, strict=True):
        streams.open(spec.config.name, source, spec.config)

    def ask(question: AddressedQuestion) -> None:
        stream, at_s, text = question
        streams.get(stream).ask(text, at_s=at_s, deadline_s=args.deadline, sampling=sampling)

    terminal = Terminal(
        streams,
        state_bytes=lambda: engine.pool.nbytes,
        trained=model.trained,
        json_lines=args.json,
        ask=lambda line: ask(parse_addressed(line, streams.names)),
    )
    server = None
    if serves:
        pushed: dict[str, TakesPictures] = {
            spec.config.name: source
            for spec, source in zip(specs, sources, strict=True)
            if isinstance(source, PushedSource)
        }
        server = _server(args, streams, engine, model, pushed)
    if args.log_json:
        streams.subscribe(log_event)
    for question in questions:
        ask(question)
    return streams, terminal, engine, server


def introduce(model: LoadedModel, *, serves: bool) -> None:
    """Say what the model is; if nobody can hear it, only a server has a reason to go on."""
    try:
        print(introduction(model), flush=True)
    except OSError:
        drop_output()
        if not serves:
            sys.exit(0)


def run(
    engine: Engine, streams: StreamRegistry, terminal: Terminal, server: ServerThread | None
) -> int:
    """Watch to the end, or until Ctrl-C or SIGTERM, then say what came of it.

    A server goes on when all has been watched: what was seen can still be asked about. A second
    signal waits for nothing, not even for whoever reads what is printed: KeyboardInterrupt.
    """
    stopped = threading.Event()

    def stop(*_: object) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)

    def watch_all() -> None:
        try:
            engine.run()
        finally:
            stopped.set()  # nothing can be watched or asked any more, so nothing is to be served

    thread = threading.Thread(target=watch_all, name="engine", daemon=True)
    thread.start()
    streams.start_all()
    try:
        if server is not None:
            try:
                server.start()
            except OSError as error:
                print(f"error: nothing can be served there: {error.strerror}", file=sys.stderr)
                return 2
            for url in server.urls:
                terminal.serving(url)
        terminal.run(stopped, serves=server is not None)
    finally:
        if server is not None:
            server.stop()
        reason = "the program was stopped" if stopped.is_set() else "the stream has ended"
        streams.stop_all(reason, STOP_WITHIN_S)
        engine.close()
        thread.join(STOP_WITHIN_S)
    terminal.summary()
    return int(bool(streams.failed))


def _server(
    args: argparse.Namespace,
    streams: StreamRegistry,
    engine: Engine,
    model: LoadedModel,
    pushed: dict[str, TakesPictures],
) -> ServerThread:
    """The servers of `--serve` and `--http` or `--ui`, not yet started."""
    doors = read_tokens(args.token_file) if args.token_file else Doors()
    metrics = Metrics(BuildInfo(VERSION, torch.__version__, model.name))
    for name in streams.names:
        metrics.watch(name, streams.get(name), lambda: engine.pool.slot_bytes)
    origins, tls = tuple(args.origin), server_tls(args.tls_cert, args.tls_key)
    hub = Hub(streams, About(VERSION, model.name, model.trained), SessionLimits())
    talk = Talk(hub, metrics, Ingest(pushed))
    servers: list[Serves] = []
    if args.serve is not None:
        host, port = args.serve
        address = Address(host, port, origins, tls)
        servers.append(Server(talk, streams, metrics, doors, address))
    if args.http or args.ui:
        host, port = args.http or args.ui
        asking, pages = Asking(streams), Pages(streams, metrics)
        app = make_app(
            streams, asking, talk, pages, doors, model.name, origins, logs_in=bool(args.ui)
        )
        if args.ui:
            from ui.mounted import Texts, mount_page  # which takes seconds to import

            visitors = Visitors(streams, talk.live, pushed, args.visitors, _policy(args))
            texts = Texts(introduction(model), examples(model), partial(caution, model))
            mount_page(app, streams, asking, visitors, texts, logs_out=bool(doors.tokens))
        address, path = Address(host, port, origins, tls), "/" if args.ui else "/v1"
        servers.append(HttpServer(app, asking, talk, doors, address, path))
    return ServerThread(*servers)


@contextmanager
def collecting_only_new_garbage() -> Iterator[None]:
    """Within this the garbage collector passes over what is there already, most of all PyTorch.

    It would look at all of it again and again, whenever clients come: 140 ms in which no thread
    runs, so that frames are dropped.
    """
    gc.collect()
    gc.freeze()
    # It waits until a quarter of what there was last time is new. Now that is next to nothing: or
    # it would not look at anything old again for hours.
    gc.collect()
    try:
        yield
    finally:
        gc.unfreeze()


def _policy(args: argparse.Namespace) -> ClientPolicy:
    """Which addresses visitors may have watched: none, unless hosts were given."""
    schemes = ("rtsp", "rtsps", "https") if args.client_source else ()
    return ClientPolicy(schemes, tuple(args.client_source), tuple(args.client_network))


def _open(spec: StreamSpec) -> VideoSource:
    """The source of a stream; where there may be several, what is wrong says with which."""
    try:
        return open_source(spec.uri, spec.options)
    except SourceError as error:
        if spec.config.name == ONLY_STREAM:
            raise
        raise SourceError(f"stream {spec.config.name}: {error}") from None


def _engine_config(args: argparse.Namespace, model: LoadedModel, num_streams: int) -> EngineConfig:
    grid, tokens = model.grid, model.frame_tokens
    if args.frame_size is not None:
        grid = _grid(args.frame_size, model.vlm.config.vision)
        tokens = grid[0] * grid[1]
    return EngineConfig(
        tokens,
        grid,
        max_streams=num_streams,
        max_answers=args.max_answers,
        max_context=args.max_context,
    )


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


def _device(name: str, precision: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no CUDA device here; use --device cpu")
    if name not in ("cpu", "cuda"):
        raise ValueError(f"--device {name}: known are auto, cpu and cuda")
    if precision == "fp8" and (name == "cpu" or torch.cuda.get_device_capability() < FP8_FROM):
        raise ValueError("--precision fp8 needs a GPU with 8-bit products: compute capability 8.9")
    return torch.device(name)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before there was anything to stop, or a second time
        sys.exit(130)
