"""A server in this process, as `run_stream.py --serve` puts it together, for benchmarks."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.loading import load
from run_stream import collecting_only_new_garbage
from sources.frame import VideoSource
from sources.open import SourceOptions, open_source
from sources.pushed import PushedSource
from stream.buffer import FullPolicy
from stream.doors import Doors
from stream.engine import Engine, EngineConfig
from stream.hub import About, Hub
from stream.ingest import Ingest
from stream.metrics import BuildInfo, Metrics
from stream.protocol_session import SessionLimits
from stream.registry import StreamRegistry
from stream.server import Address, Server, ServerThread
from stream.session import StreamConfig
from stream.talk import Talk
from stream.version import VERSION

CLIP = Path(__file__).parent.parent / "assets" / "demo.mp4"
STOP_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Served:
    """What is served: where, and what is behind it."""

    url: str
    streams: StreamRegistry
    server: ServerThread


def looped_clip() -> VideoSource:
    """The shipped clip, over and over."""
    return open_source(str(CLIP), SourceOptions(loop=True))


@contextmanager
def serving(model_name: str, sources: Mapping[str, VideoSource]) -> Iterator[Served]:
    """Streams by name as live ones at 25 FPS, begun at once; what comes too late is dropped."""
    model = load(model_name)
    config = EngineConfig(model.frame_tokens, model.grid, max_streams=len(sources))
    engine = Engine(model, config)
    engine.warm_up(360, 640)
    thread = threading.Thread(target=engine.run, name="engine", daemon=True)
    thread.start()
    streams = StreamRegistry(engine, len(sources))
    metrics = Metrics(BuildInfo(VERSION, torch.__version__, model.name))
    for name, source in sources.items():
        session = streams.open(name, source, StreamConfig(on_full=FullPolicy.DROP_OLDEST))
        metrics.watch(name, session, lambda: engine.pool.slot_bytes)
    ingest = Ingest({name: s for name, s in sources.items() if isinstance(s, PushedSource)})
    hub = Hub(streams, About(VERSION, model.name, model.trained), SessionLimits())
    talk, address = Talk(hub, metrics, ingest), Address("127.0.0.1", 0)
    server = ServerThread(Server(talk, streams, metrics, Doors(), address))
    url = server.start()
    streams.start_all()
    try:
        with collecting_only_new_garbage():
            yield Served(url, streams, server)
    finally:
        streams.stop_all("measured", STOP_WITHIN_S)
        server.stop()
        engine.close()
        thread.join()
