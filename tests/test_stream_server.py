"""The server over real sockets on this machine: asking, leaving, coming back, being refused."""

import asyncio
import contextlib
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as connect_sync

from model.checkpoint import LoadedModel
from sources.pushed import PushedSource
from stream import server
from stream import talk as talk_module
from stream.client import Client, RefusedError
from stream.doors import Doors, DoorsError
from stream.engine import Engine, EngineConfig
from stream.hub import About, Hub
from stream.ingest import Ingest
from stream.metrics import BuildInfo, Metrics
from stream.protocol_session import SessionLimits
from stream.pusher import Pusher
from stream.registry import StreamRegistry
from stream.server import Address, Server, ServerThread
from stream.session import StreamConfig
from stream.talk import Talk
from stream.tickets import Caller
from tests.stream_helpers import FRAME_TOKENS, PATIENCE_S, loaded, running, scripted

TOKEN = "correct-horse-battery-staple"
LOCKED = Doors({TOKEN: frozenset({"query"}), "only-for-frames-0123": frozenset({"ingest"})})
UNLOCKED = Doors()
QUICK = SessionLimits(queries_per_s=1000.0, query_burst=1000)


class Served:
    """A server with two streams whose sources stay live."""

    def __init__(self, url: str, registry: StreamRegistry) -> None:
        self.url = url
        self.http = url.replace("ws", "http", 1).removesuffix("/v1/stream")
        self.registry = registry

    def get(self, path: str, token: str | None = None) -> tuple[int, str, bytes]:
        """Status, content type and body of a page."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(self.http + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers["Content-Type"], error.read()


@contextmanager
def serving(
    doors: Doors = UNLOCKED,
    limits: SessionLimits = QUICK,
    origins: tuple[str, ...] = (),
    model: LoadedModel | None = None,
) -> Iterator[Served]:
    engine = Engine(model or loaded(), EngineConfig(FRAME_TOKENS, max_streams=2))
    with running(engine):
        registry = StreamRegistry(engine, 2)
        metrics = Metrics(BuildInfo("0", "0", "mini"))
        for name in ("cam", "door"):
            session = registry.open(name, scripted(5, holds=True), StreamConfig(fps=None))
            metrics.watch(name, session, lambda: 0.0)
        hub = Hub(registry, About("0", "mini", trained=False), limits)
        server = Server(
            Talk(hub, metrics), registry, metrics, doors, Address("127.0.0.1", 0, origins)
        )
        thread = ServerThread(server)
        url = thread.start()
        registry.start_all()
        try:
            yield Served(url, registry)
        finally:
            registry.stop_all("the test ends", PATIENCE_S)
            thread.stop()


def run(test: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await test

    asyncio.run(limited())


def test_a_question_is_answered_by_deltas_and_one_end() -> None:
    async def ask(served: Served) -> None:
        async with Client(served.url) as client:
            assert client.session is not None
            assert [s.name for s in client.session.streams] == ["cam", "door"]
            answer = await client.ask("What is it?", stream="cam", max_tokens=5)
            heard = "".join([text async for text in answer])
            assert answer.done is not None and answer.done.text == heard
            assert (answer.done.status, answer.done.tokens) == ("incomplete", 5)
            assert answer.done.stream == "cam" and answer.done.frames.count >= 1

    with serving() as served:
        run(ask(served))


def test_many_clients_at_once_each_get_their_own_answer() -> None:
    async def one(served: Served, number: int) -> str:
        async with Client(served.url) as client:
            stream = ("cam", "door")[number % 2]
            answer = await client.ask(f"Number {number}?", stream=stream, max_tokens=6)
            assert await answer.text() == (answer.done.text if answer.done else "")
            assert answer.done is not None and answer.done.stream == stream
            return answer.done.status

    async def all_at_once(served: Served) -> None:
        statuses = await asyncio.gather(*(one(served, n) for n in range(12)))
        assert set(statuses) <= {"incomplete", "completed"}

    with serving() as served:
        run(all_at_once(served))


def test_a_cancelled_question_ends_as_cancelled() -> None:
    async def ask(served: Served) -> None:
        async with Client(served.url) as client:
            answer = await client.ask("Go on for ever?", stream="cam", max_tokens=2048)
            async for _ in answer:
                await answer.cancel()
                break
            await answer.text()
            assert answer.done is not None and answer.done.status == "cancelled"

    with serving() as served:
        run(ask(served))


def test_a_lost_connection_is_made_again_and_nothing_is_lost() -> None:
    """The socket breaks in the middle of an answer, and before the end of another."""

    async def ask(served: Served) -> None:
        async with Client(served.url) as client:
            long = await client.ask("Long?", stream="cam", max_tokens=200)
            async for _ in long:
                break
            assert client._socket is not None
            client._socket.transport.abort()
            other = await client.ask("Other?", stream="door", max_tokens=5)
            text = await long.text()
            assert long.done is not None and long.done.text.endswith(text)
            assert long.done.tokens == 200 or long.done.status == "completed"
            await other.text()
            assert other.done is not None and other.done.status in ("incomplete", "completed")

    with serving() as served:
        run(ask(served))


def test_refusals_have_codes_and_the_connection_stays() -> None:
    limits = SessionLimits(queries_per_s=0.001, query_burst=2)

    async def ask(served: Served) -> None:
        async with Client(served.url) as client:
            for stream, text, code in (
                ("nowhere", "What?", "not_found"),
                (None, "What?", "not_found"),
                ("cam", "   ", "bad_request"),
                ("cam", "x" * 10_000, "too_large"),
            ):
                with pytest.raises(RefusedError) as refused:
                    await client.ask(text, stream=stream)
                assert refused.value.code == code
            for _ in range(2):
                await (await client.ask("\u200bWhat? 🎥", stream="cam", max_tokens=2)).text()
            with pytest.raises(RefusedError) as refused:
                await client.ask("Again?", stream="cam")
            assert refused.value.code == "rate_limited" and refused.value.retry_after_ms

    with serving(limits=limits) as served:
        run(ask(served))


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("{", "bad_json"),
        (b"\xff\x00", "bad_request"),
        ('{"type": "zap"}', "unknown_type"),
        ('{"type": "ping", "t": "now"}', "bad_request"),
        ('{"type": "ping", "x": 1}', "bad_request"),
        ('{"type": "query.cancel", "id": "none"}', "not_found"),
        ('{"type": "session.update", "resume_token": "none"}', "not_found"),
        ("[" * 60_000, "bad_json"),
    ],
)
def test_bad_messages_are_answered_and_the_connection_stays(sent: str | bytes, code: str) -> None:
    with serving() as served, connect_sync(served.url, subprotocols=["ivl.v1"]) as socket:  # type: ignore[list-item]
        assert json.loads(socket.recv(PATIENCE_S))["type"] == "session.created"
        socket.send(sent)
        answer = json.loads(socket.recv(PATIENCE_S))
        assert answer["type"] == "error" and answer["error"]["code"] == code
        socket.send('{"type": "ping", "t": 7.5}')
        assert json.loads(socket.recv(PATIENCE_S)) == {"type": "pong", "t": 7.5}


def test_oversize_is_closed_and_a_wrong_subprotocol_is_refused() -> None:
    async def try_it(served: Served) -> None:
        async with connect(served.url, subprotocols=["ivl.v1"]) as socket:  # type: ignore[list-item]
            await socket.send("x" * 70_000)
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await socket.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009
        for protocols in (None, ["ivl.v0"]):
            with pytest.raises(InvalidStatus) as refused:
                async with connect(served.url, subprotocols=protocols):  # type: ignore[arg-type]
                    pass
            assert refused.value.response.status_code == 400

    with serving() as served:
        run(try_it(served))


def test_every_page_is_locked_without_a_token() -> None:
    """All but the two that tell whether it runs."""
    pages = ["/metrics", "/v1/streams", "/v1/streams/cam/frame.jpg", "/v1/stream", "/", "/x"]
    with serving(LOCKED) as served:
        for path in pages:
            for token in (None, "wrong", "only-for-frames-0123", TOKEN[:-1]):
                status, _, body = served.get(path, token)
                assert status == 401 and TOKEN.encode() not in body, path
        assert [served.get(path)[0] for path in ("/healthz", "/readyz")] == [200, 200]
        assert served.get("/v1/streams", TOKEN)[0] == 200

        async def without(token: str | None) -> None:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            async with connect(
                served.url,
                subprotocols=["ivl.v1"],  # type: ignore[list-item]
                additional_headers=headers,
            ):
                pass

        for token in (None, "wrong"):
            with pytest.raises(InvalidStatus) as refused:
                run(without(token))
            assert refused.value.response.status_code == 401
        run(without(TOKEN))


def test_a_ticket_lets_a_socket_in_once(caplog: pytest.LogCaptureFixture) -> None:
    """And nothing but a socket: what is asked for in an address bar may be seen by others."""
    caplog.set_level("INFO")
    tickets = LOCKED.tickets

    async def with_ticket(served: Served, path: str, ticket: str) -> None:
        async with connect(
            f"{served.url.replace('/v1/stream', path)}?ticket={ticket}",
            subprotocols=["ivl.v1"],  # type: ignore[list-item]
        ) as socket:
            await socket.recv()

    with serving(LOCKED) as served:
        may_ask, may_push = (Caller(1, frozenset({scope})) for scope in ("query", "ingest"))
        ticket = tickets.give(may_ask)
        assert served.get(f"/v1/streams?ticket={ticket}")[0] == 401
        run(with_ticket(served, "/v1/stream", ticket))
        run(with_ticket(served, "/v1/ingest/robot", tickets.give(may_push)))
        wrong_scope = tickets.give(may_push)
        for refused in (ticket, wrong_scope, "", "x", f"{tickets.give(may_ask)}&ticket=x"):
            with pytest.raises(InvalidStatus) as answer:
                run(with_ticket(served, "/v1/stream", refused))
            assert answer.value.response.status_code == 401
    assert ticket not in caplog.text


def test_pages_of_other_origins_may_not_connect() -> None:
    async def from_page(served: Served, origin: str) -> None:
        async with connect(
            served.url,
            subprotocols=["ivl.v1"],  # type: ignore[list-item]
            origin=origin,  # type: ignore[arg-type]
        ) as socket:
            await socket.recv()

    with serving(origins=("https://mine.example",)) as served:
        run(from_page(served, "https://mine.example"))
        with pytest.raises(InvalidStatus) as refused:
            run(from_page(served, "https://evil.example"))
        assert refused.value.response.status_code == 403


def test_pages_show_the_streams() -> None:
    with serving() as served:
        status, kind, body = served.get("/v1/streams")
        assert (status, kind) == (200, "application/json")
        assert [s["name"] for s in json.loads(body)["streams"]] == ["cam", "door"]
        wait_until(lambda: served.registry.snapshot("cam") is not None)
        status, kind, body = served.get("/v1/streams/cam/frame.jpg")
        image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
        assert (status, kind, image.shape) == (200, "image/jpeg", (56, 56, 3))
        assert served.get("/v1/streams/nowhere/frame.jpg")[0] == 404
        assert b'ivl_frames_total{stage="read",stream="cam"}' in served.get("/metrics")[2]
        assert served.get("/nothing")[0] == 404


def wait_until(done: Callable[[], bool]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not done() and time.monotonic() < until_s:
        time.sleep(0.01)
    assert done()


def serve_by_small_buffers(handler: Any, host: str, port: int, **options: Any) -> Any:
    """As `serve`, but little can be on its way: on one machine it would be megabytes."""
    listening = socket.create_server((host, port))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return serve(handler, sock=listening, **options)


def test_who_does_not_read_is_let_go_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that says much and reads nothing; another is answered meanwhile."""
    monkeypatch.setattr(talk_module, "MESSAGES_S", 1e9)
    monkeypatch.setattr(talk_module, "SLOW_S", 0.2)
    monkeypatch.setattr(server, "serve", serve_by_small_buffers)

    async def try_it(served: Served) -> None:
        own = socket.socket()
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        own.connect(("127.0.0.1", int(served.http.rpartition(":")[2])))
        stuck = await connect(
            served.url,
            sock=own,
            subprotocols=["ivl.v1"],  # type: ignore[list-item]
            max_queue=1,
        )
        flood = json.dumps({"type": "query.cancel", "id": "x" * 64})
        sending = asyncio.create_task(send_for_ever(stuck, flood))
        async with Client(served.url) as client:
            while closes not in (await asyncio.to_thread(served.get, "/metrics"))[2]:
                answer = await client.ask("What?", stream="cam", max_tokens=4)
                assert await answer.text() or answer.done
        sending.cancel()
        stuck.transport.abort()

    async def send_for_ever(stuck: Any, message: str) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await stuck.send(message)
                await asyncio.sleep(0.001)

    closes = b"ivl_ws_slow_consumer_closes_total 1.0"
    with serving() as served:
        run(try_it(served))


def test_a_server_that_ends_says_so_and_sees_answers_to_their_end() -> None:
    async def ask(served: Served, stop: Callable[[], None]) -> None:
        async with Client(served.url) as client:
            answer = await client.ask("Long?", stream="cam", max_tokens=100)
            stopping = asyncio.create_task(asyncio.to_thread(stop))
            text = await answer.text()
            assert answer.done is not None and answer.done.text == text
            assert answer.done.tokens == 100 or answer.done.status == "completed"
            with pytest.raises(RefusedError) as refused:
                await client.ask("More?", stream="cam")
            assert refused.value.code == "draining"
            await stopping

    engine = Engine(loaded(), EngineConfig(FRAME_TOKENS, max_streams=1))
    with running(engine):
        registry = StreamRegistry(engine, 1)
        registry.open("cam", scripted(5, holds=True), StreamConfig(fps=None))
        hub = Hub(registry, About("0", "mini", trained=False), QUICK)
        metrics = Metrics(BuildInfo("0", "0", "mini"))
        talk, address = Talk(hub, metrics), Address("127.0.0.1", 0)
        thread = ServerThread(Server(talk, registry, metrics, Doors(), address))
        url = thread.start()
        registry.start_all()
        run(ask(Served(url, registry), thread.stop))
        registry.stop_all("the test ends", PATIENCE_S)


def test_a_door_without_a_lock_is_for_this_machine_alone() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        Doors().check_bind(host)
    for host in ("0.0.0.0", "::", "192.168.1.2", "example.org"):
        with pytest.raises(DoorsError, match="--token-file"):
            Doors().check_bind(host)
        LOCKED.check_bind(host)


def jpeg(number: int) -> bytes:
    noise = np.random.default_rng(number).integers(0, 256, (56, 56, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", noise)[1].tobytes()


def test_pushed_pictures_become_frames_and_bad_ones_are_refused() -> None:
    """One client at a time; what it pushes can be asked about and looked at."""

    async def push(served: Served) -> None:
        url = served.url.replace("/v1/stream", "/v1/ingest/robot")
        async with Pusher(url) as pusher:
            for number in range(30):
                await pusher.push(jpeg(number))
            with pytest.raises(RefusedError) as refused:
                async with Pusher(url):
                    pass
            assert refused.value.code == "forbidden"
            await pusher.push(b"no picture")
            with pytest.raises(RefusedError) as refused:
                for number in range(10):
                    await pusher.push(jpeg(number))
            assert refused.value.code == "bad_picture"
            async with Client(served.url) as client:
                answer = await client.ask("What?", stream="robot", max_tokens=2)
                await answer.text()
                assert answer.done is not None and answer.done.frames.count >= 1
        assert pusher.num_taken >= 30
        with pytest.raises(RefusedError) as refused:
            async with Pusher(url.replace("robot", "cam")):
                pass
        assert refused.value.code == "not_found"
        async with Pusher(url) as pusher:
            await pusher.push(jpeg(1))

    engine = Engine(loaded(), EngineConfig(FRAME_TOKENS, max_streams=1))
    with running(engine):
        registry = StreamRegistry(engine, 1)
        source = PushedSource("robot")
        registry.open("robot", source, StreamConfig(fps=None))
        hub = Hub(registry, About("0", "mini", trained=False), QUICK)
        metrics = Metrics(BuildInfo("0", "0", "mini"))
        address = Address("127.0.0.1", 0)
        talk = Talk(hub, metrics, Ingest({"robot": source}))
        thread = ServerThread(Server(talk, registry, metrics, UNLOCKED, address))
        url = thread.start()
        registry.start_all()
        run(push(Served(url, registry)))
        assert registry.snapshot("robot") is not None
        registry.stop_all("the test ends", PATIENCE_S)
        thread.stop()


def test_pushing_needs_its_own_scope() -> None:
    async def push(served: Served, token: str) -> None:
        async with Pusher(served.url.replace("/v1/stream", "/v1/ingest/robot"), token):
            pass

    with serving(LOCKED) as served:
        with pytest.raises(InvalidStatus) as refused:
            run(push(served, TOKEN))
        assert refused.value.response.status_code == 401
        with pytest.raises(RefusedError):  # let in, and there is no such stream
            run(push(served, "only-for-frames-0123"))
