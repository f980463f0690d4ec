"""The HTTP application, served on this machine beside nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import openai
from fastapi import FastAPI

from sources.pushed import PushedSource
from stream.app import make_app
from stream.asking import Asking, CallerLimits
from stream.doors import Doors
from stream.engine import Engine, EngineConfig
from stream.http_server import HttpServer
from stream.hub import About, Hub
from stream.ingest import Ingest
from stream.metrics import BuildInfo, Metrics
from stream.pages import Pages
from stream.protocol_session import SessionLimits
from stream.registry import StreamRegistry
from stream.server import Address, Server, ServerThread, Serves
from stream.session import StreamConfig
from stream.talk import Talk
from tests.stream_helpers import FRAME_TOKENS, PATIENCE_S, Events, loaded, running, scripted

MODEL = "mini"
PUSHED = "robot"
QUICK_SESSIONS = SessionLimits(queries_per_s=1000.0, query_burst=1000)
QUICK = CallerLimits(questions_per_s=1000.0, question_burst=1000)


@dataclass(frozen=True, slots=True)
class ServedHttp:
    """An application with streams whose sources stay live, and all that happens on them."""

    url: str
    app: FastAPI
    registry: StreamRegistry
    heard: Events
    talk: Talk
    thread: ServerThread

    def client(self, token: str = "none") -> openai.OpenAI:
        """As any user has it, but that it does not try again."""
        return openai.OpenAI(
            base_url=self.url, api_key=token, max_retries=0, timeout=2 * PATIENCE_S
        )


@contextmanager
def serving_http(
    *streams: str,
    doors: Doors | None = None,
    limits: CallerLimits = QUICK,
    origins: tuple[str, ...] = (),
    max_questions: int = 64,
    sessions: SessionLimits = QUICK_SESSIONS,
    pushed: PushedSource | None = None,
    both: bool = False,
) -> Iterator[ServedHttp]:
    """Streams of these names, or one called `cam`; `both` is for the websocket server beside it.

    What is pushed is a stream of its own, called PUSHED.
    """
    names, doors = streams or ("cam",), doors or Doors()
    num_streams = len(names) + (pushed is not None)
    config = EngineConfig(FRAME_TOKENS, max_streams=num_streams, max_questions=max_questions)
    engine = Engine(loaded(), config)
    with running(engine):
        registry, heard = StreamRegistry(engine, num_streams), Events()
        registry.subscribe(heard)
        for name in names:
            registry.open(name, scripted(5, holds=True), StreamConfig(fps=None))
        if pushed is not None:
            registry.open(PUSHED, pushed, StreamConfig(fps=None))
        asking = Asking(registry, limits)
        metrics = Metrics(BuildInfo("0", "0", MODEL))
        hub = Hub(registry, About("0", MODEL, trained=False), sessions)
        talk = Talk(hub, metrics, Ingest({} if pushed is None else {PUSHED: pushed}))
        pages, address = Pages(registry, metrics), Address("127.0.0.1", 0, origins)
        app = make_app(registry, asking, talk, pages, doors, MODEL, origins)
        servers: list[Serves] = [HttpServer(app, asking, talk, doors, address)]
        if both:
            servers.append(Server(talk, registry, metrics, doors, address))
        thread = ServerThread(*servers)
        url = thread.start()
        registry.start_all()
        try:
            yield ServedHttp(url, app, registry, heard, talk, thread)
        finally:
            registry.stop_all("the test ends", PATIENCE_S)
            thread.stop()
