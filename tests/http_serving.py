"""The HTTP application, served on this machine beside nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import openai
from fastapi import FastAPI

from stream.app import make_app
from stream.asking import Asking, CallerLimits
from stream.doors import Doors
from stream.engine import Engine, EngineConfig
from stream.http_server import HttpServer
from stream.metrics import BuildInfo, Metrics
from stream.pages import Pages
from stream.registry import StreamRegistry
from stream.server import Address, ServerThread
from stream.session import StreamConfig
from tests.stream_helpers import FRAME_TOKENS, PATIENCE_S, Events, loaded, running, scripted

MODEL = "mini"
QUICK = CallerLimits(questions_per_s=1000.0, question_burst=1000)


@dataclass(frozen=True, slots=True)
class ServedHttp:
    """An application with streams whose sources stay live, and all that happens on them."""

    url: str
    app: FastAPI
    registry: StreamRegistry
    heard: Events
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
) -> Iterator[ServedHttp]:
    """Streams of these names, or one called `cam`."""
    names, doors = streams or ("cam",), doors or Doors()
    config = EngineConfig(FRAME_TOKENS, max_streams=len(names), max_questions=max_questions)
    engine = Engine(loaded(), config)
    with running(engine):
        registry, heard = StreamRegistry(engine, len(names)), Events()
        registry.subscribe(heard)
        for name in names:
            registry.open(name, scripted(5, holds=True), StreamConfig(fps=None))
        asking = Asking(registry, limits)
        pages = Pages(registry, Metrics(BuildInfo("0", "0", MODEL)))
        app = make_app(registry, asking, pages, doors, MODEL, origins)
        thread = ServerThread(HttpServer(app, asking, doors, Address("127.0.0.1", 0, origins)))
        url = thread.start()
        registry.start_all()
        try:
            yield ServedHttp(url, app, registry, heard, thread)
        finally:
            registry.stop_all("the test ends", PATIENCE_S)
            thread.stop()
