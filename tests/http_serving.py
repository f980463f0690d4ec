"""The HTTP application, served on this machine beside nothing else."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest

import openai
from fastapi import FastAPI

from sources.frame import VideoSource
from sources.policy import ClientPolicy
from sources.pushed import PushedSource
from stream.app import make_app
from stream.asking import Asking, CallerLimits
from stream.doors import Doors
from stream.engine import Engine, EngineConfig
from stream.http_server import HttpServer
from stream.hub import About, Hub
from stream.ingest import Ingest, TakesPictures
from stream.metrics import BuildInfo, Metrics
from stream.pages import Pages
from stream.protocol_session import SessionLimits
from stream.registry import StreamRegistry
from stream.server import Address, Server, ServerThread, Serves
from stream.session import StreamConfig
from stream.talk import Talk
from stream.visitors import Visitors
from tests.stream_helpers import FRAME_TOKENS, PATIENCE_S, Events, loaded, running, scripted

MODEL = "mini"
PUSHED = "robot"
EXAMPLE = "What do you see?"
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
    asking: Asking
    visitors: Visitors

    @property
    def address(self) -> tuple[str, int]:
        """The host and port where it listens."""
        host, _, port = self.url.removeprefix("http://").removesuffix("/v1").partition(":")
        return host, int(port)

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
    page: bool = False,
    places: int = 0,
    policy: ClientPolicy | None = None,
    sources: Sequence[VideoSource] = (),
    fps: float | None = None,
    port: int = 0,
) -> Iterator[ServedHttp]:
    """Streams of these names, or one called `cam`; `both` is for the websocket server beside it
    and `page` for the page that people see.

    What is pushed is a stream of its own, called PUSHED. The first streams are of these `sources`,
    others of a few frames.

    Args:
        places: for what visitors bring.
        fps: of the streams' schedule, without it they have none.
    """
    names, doors = streams or ("cam",), doors or Doors()
    num_streams = len(names) + (pushed is not None) + places
    config = EngineConfig(FRAME_TOKENS, max_streams=num_streams, max_questions=max_questions)
    engine = Engine(loaded(), config)
    # What room there is for visitors must not depend on how busy the tests' machine is.
    engine._steps.frames_s = {1: 0.001}
    with running(engine):
        registry, heard = StreamRegistry(engine, num_streams), Events()
        registry.subscribe(heard)
        for name, source in zip_longest(names, sources):
            registry.open(name, source or scripted(5, holds=True), StreamConfig(fps=fps))
        if pushed is not None:
            registry.open(PUSHED, pushed, StreamConfig(fps=None))
        asking = Asking(registry, limits)
        metrics = Metrics(BuildInfo("0", "0", MODEL))
        hub = Hub(registry, About("0", MODEL, trained=False), sessions)
        takers: dict[str, TakesPictures] = {} if pushed is None else {PUSHED: pushed}
        talk = Talk(hub, metrics, Ingest(takers))
        visitors = Visitors(registry, talk.live, takers, places, policy or ClientPolicy())
        pages, address = Pages(registry, metrics), Address("127.0.0.1", port, origins)
        app = make_app(registry, asking, talk, pages, doors, MODEL, origins, logs_in=page)
        if page:
            # Here, for it takes seconds.
            from ui.mounted import Texts, mount_page

            texts = Texts("UNTRAINED weights.", (EXAMPLE,))
            mount_page(app, registry, asking, visitors, texts, logs_out=bool(doors.tokens))
        servers: list[Serves] = [HttpServer(app, asking, talk, doors, address)]
        if both:
            servers.append(Server(talk, registry, metrics, doors, address))
        thread = ServerThread(*servers)
        url = thread.start()
        registry.start_all()
        try:
            yield ServedHttp(url, app, registry, heard, talk, thread, asking, visitors)
        finally:
            registry.stop_all("the test ends", PATIENCE_S)
            thread.stop()
