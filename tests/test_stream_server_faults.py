"""What goes wrong around the server: half-dead sockets, ends at a bad moment, odd requests."""

import asyncio
import gc
import http.client
import itertools
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_sync
from websockets.typing import Subprotocol

from stream import hub as hub_module
from stream import talk as talk_module
from stream.doors import Doors, read_tokens
from stream.engine import Engine, EngineConfig
from stream.events import AnswerStatus
from stream.guarded_socket import GuardedSocket
from stream.hub import About, Connection, Hub
from stream.metrics import BuildInfo, Metrics
from stream.protocol import (
    SERVER_MESSAGES,
    AnswerDoneMessage,
    AnyServerMessage,
    ErrorMessage,
    SessionUpdated,
)
from stream.protocol_session import SessionLimits
from stream.registry import StreamRegistry, UnknownStreamError
from stream.server import Address, Server, ServerThread
from stream.session import StreamConfig, StreamSession
from stream.talk import CLIENT_BURST, Talk
from tests.protocol_streams import answer_done
from tests.stream_helpers import PATIENCE_S, FakeClock, loaded, scripted
from tests.test_stream_server import LOCKED, QUICK, TOKEN, Served, run, serving


class Hubbub:
    """A hub whose engine is stepped by hand, without sockets."""

    def __init__(self, limits: SessionLimits = QUICK, frames: int = 5) -> None:
        self.clock = FakeClock()
        self.engine = Engine(loaded(), EngineConfig(4, max_streams=2))
        self.registry = StreamRegistry(self.engine, 2)
        for name in ("cam", "door"):
            self.registry.open(name, scripted(frames, holds=True), StreamConfig(fps=None))
        self.hub = Hub(self.registry, About("0", "mini", trained=False), limits, self.clock)
        self.registry.subscribe(self.hub.happened)
        self.registry.start_all()

    def say(self, connection: Connection, type: str, **fields: Any) -> None:
        self.hub.receive(connection, json.dumps({"type": type, **fields}))

    def ask(self, connection: Connection, id: str, max_tokens: int = 3) -> None:
        self.say(
            connection, "query.create", id=id, text="What?", stream="cam", max_tokens=max_tokens
        )

    def answer_all(self) -> None:
        while self.hub.num_open:
            self.engine.step()

    def close(self) -> None:
        self.engine.close()
        self.registry.stop_all("the test ends", 0.0)
        self.engine.run()


@pytest.fixture
def hubbub() -> Any:
    one = Hubbub()
    yield one
    one.close()


def heard(connection: Connection) -> list[AnyServerMessage]:
    """All that waits to be sent."""

    async def take() -> list[AnyServerMessage]:
        texts = [await connection.outbox.pop() for _ in range(len(connection.outbox))]
        return [SERVER_MESSAGES.validate_json(text) for text in texts]

    return asyncio.run(take())


def kinds(connection: Connection) -> list[str]:
    return [json.loads(message.to_json())["type"] for message in heard(connection)]


def test_one_question_too_many_is_refused_and_the_connection_stays() -> None:
    with serving() as served, connect_sync(served.url, subprotocols=["ivl.v1"]) as socket:  # type: ignore[list-item]
        for number in range(5):
            create = {"type": "query.create", "id": f"q{number}", "text": "What?"}
            socket.send(json.dumps({**create, "stream": "cam", "max_tokens": 2048}))
        while (answer := json.loads(socket.recv(PATIENCE_S)))["type"] != "error":
            pass
        assert (answer["id"], answer["error"]["code"]) == ("q4", "queue_full")
        socket.send('{"type": "ping"}')
        while json.loads(socket.recv(PATIENCE_S))["type"] != "pong":
            pass


def test_a_session_is_taken_up_while_its_old_socket_seems_to_stand(hubbub: Hubbub) -> None:
    """A client that changed its network comes back long before TCP notices."""
    let_go: list[str] = []
    old = hubbub.hub.connect(lambda: let_go.append("old"))
    token = old.session.token
    hubbub.ask(old, "q1")
    new = hubbub.hub.connect()
    hubbub.say(new, "session.update", resume_token=token)
    assert let_go == ["old"] and hubbub.hub.num_connections == 1
    hubbub.ask(old, "q2")  # was still on its way
    assert hubbub.hub.num_open == 1
    hubbub.answer_all()
    assert kinds(new)[:2] == ["session.created", "session.updated"]
    hubbub.hub.disconnect(old)
    hubbub.hub.disconnect(new)
    third = hubbub.hub.connect()
    hubbub.say(third, "session.update", resume_token=token)
    assert [m.id for m in heard(third) if isinstance(m, AnswerDoneMessage)] == ["q1"]


def test_an_old_socket_is_closed_when_its_session_is_taken_up() -> None:
    with serving() as served, connect_sync(served.url, subprotocols=["ivl.v1"]) as old:  # type: ignore[list-item]
        token = json.loads(old.recv(PATIENCE_S))["resume_token"]
        with connect_sync(served.url, subprotocols=["ivl.v1"]) as new:  # type: ignore[list-item]
            new.send(json.dumps({"type": "session.update", "resume_token": token}))
            new.recv(PATIENCE_S)
            assert json.loads(new.recv(PATIENCE_S))["resumed"]
            with pytest.raises(ConnectionClosed):
                old.recv(PATIENCE_S)


def test_a_session_whose_resuming_broke_off_can_still_be_taken_up(hubbub: Hubbub) -> None:
    """The client never heard `session.updated`, so it has only the first token."""
    first = hubbub.hub.connect()
    token = first.session.token
    hubbub.ask(first, "q1")
    hubbub.hub.disconnect(first)
    for _ in range(2):
        again = hubbub.hub.connect()
        hubbub.say(again, "session.update", resume_token=token)
        hubbub.hub.disconnect(again)
    last = hubbub.hub.connect()
    hubbub.say(last, "session.update", resume_token=token)
    hubbub.answer_all()
    assert [m.id for m in heard(last) if isinstance(m, AnswerDoneMessage)] == ["q1"]


def test_a_stream_that_is_named_with_the_token_is_the_one_that_is_meant(hubbub: Hubbub) -> None:
    lost = hubbub.hub.connect()
    hubbub.say(lost, "session.update", default_stream="cam")
    hubbub.hub.disconnect(lost)
    for named, meant in (({"default_stream": "door"}, "door"), ({}, "door")):
        back = hubbub.hub.connect()
        token = lost.session.token
        hubbub.say(back, "session.update", resume_token=token, **named)
        (updated,) = [m for m in heard(back) if isinstance(m, SessionUpdated)]
        assert updated.resumed and updated.default_stream == meant
        hubbub.hub.disconnect(back)


def test_a_session_that_is_taken_up_may_ask_no_faster() -> None:
    hubbub = Hubbub(SessionLimits(queries_per_s=1.0, query_burst=2))
    codes = []
    connection = hubbub.hub.connect()
    for number in range(4):
        hubbub.ask(connection, f"q{number}")
        hubbub.answer_all()
        codes += [m.error.code for m in heard(connection) if isinstance(m, ErrorMessage)]
        token = connection.session.token
        hubbub.hub.disconnect(connection)
        connection = hubbub.hub.connect()
        hubbub.say(connection, "session.update", resume_token=token)
    hubbub.close()
    assert codes == ["rate_limited"] * 2


def test_a_session_cannot_take_up_itself(hubbub: Hubbub) -> None:
    one = hubbub.hub.connect()
    hubbub.say(one, "session.update", resume_token=one.session.token)
    assert kinds(one) == ["session.created", "error"] and hubbub.hub.num_connections == 1


def test_statistics_go_on_when_one_of_the_streams_was_closed(hubbub: Hubbub) -> None:
    one = hubbub.hub.connect()
    for stream in ("cam", "door"):
        hubbub.say(one, "stream.subscribe", stream=stream, channels=["stats"])
    hubbub.registry.close("cam", "no longer wanted", 0.0)
    hubbub.hub.tick()
    told = [json.loads(m.to_json()) for m in heard(one)]
    assert [m["stream"] for m in told if m["type"] == "stats"] == ["door"]


def test_statistics_of_many_are_spread_over_ticks_and_reach_everyone(hubbub: Hubbub) -> None:
    """Those of all at once would hold up a frame; and nobody comes twice before all came once."""
    many = [hubbub.hub.connect() for _ in range(20)]
    for one in many:
        hubbub.say(one, "stream.subscribe", stream="cam", channels=["stats"], stats_interval_ms=200)
        heard(one)
    told = []
    for _ in range(3):
        hubbub.hub.tick()
        told.append([kinds(one).count("stats") for one in many])
        hubbub.clock.advance(1.0)
    assert [sum(tick) for tick in told] == [8, 8, 8]
    assert all(map(sum, zip(*told, strict=True)))


def test_who_comes_while_the_server_ends_is_told_and_cannot_ask(hubbub: Hubbub) -> None:
    hubbub.hub.drain(20.0, "the server ends")
    hubbub.clock.advance(5.0)
    late = hubbub.hub.connect()
    hubbub.ask(late, "q1")
    _, going, refused = (json.loads(message.to_json()) for message in heard(late))
    assert (going["type"], going["time_left_ms"]) == ("session.going_away", 15_000)
    assert refused["error"]["code"] == "draining" and not hubbub.hub.num_open


def test_a_stream_that_was_stopped_is_no_reason_to_ask_again(hubbub: Hubbub) -> None:
    one = hubbub.hub.connect()
    hubbub.registry.get("cam").stop()
    hubbub.ask(one, "q1")
    refused = json.loads(heard(one)[-1].to_json())
    assert refused["id"] == "q1" and refused["error"] == {
        "code": "not_found",
        "message": "the stream was stopped",
    }


def test_many_short_visits_do_not_cancel_what_a_lost_client_asked(
    hubbub: Hubbub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "_MOST_LOST", 8)
    lost = hubbub.hub.connect()
    token = lost.session.token
    hubbub.ask(lost, "q1")
    hubbub.hub.disconnect(lost)
    for _ in range(20):
        hubbub.hub.disconnect(hubbub.hub.connect())
    hubbub.answer_all()
    back = hubbub.hub.connect()
    hubbub.say(back, "session.update", resume_token=token)
    done = [m for m in heard(back) if isinstance(m, AnswerDoneMessage)]
    assert [m.status for m in done] == ["incomplete"]


def test_all_that_is_kept_of_a_session_fits_into_an_outbox(hubbub: Hubbub) -> None:
    """Else who asks for all of it would be let go each time, as one that does not read."""
    lost = hubbub.hub.connect()
    token = lost.session.token
    for number in range(260):
        hubbub.ask(lost, f"q{number}", max_tokens=1)
        hubbub.answer_all()
    hubbub.hub.disconnect(lost)
    back = hubbub.hub.connect()
    hubbub.say(back, "session.update", resume_token=token)
    assert not back.outbox.overflowed
    done = [m.id for m in heard(back) if isinstance(m, AnswerDoneMessage)]
    assert len(done) >= 32 and done[-1] == "q259"


def test_long_answers_that_are_kept_of_a_session_fit_into_an_outbox(hubbub: Hubbub) -> None:
    """Such as those of a model that says the same long word again and again."""
    lost = hubbub.hub.connect()
    for number in range(64):
        hubbub.ask(lost, f"q{number}")
        done = answer_done(
            "cam", number + 1, lost.session.asker, AnswerStatus.INCOMPLETE, "-" * 20_000
        )
        hubbub.hub.happened(done)
    hubbub.answer_all()
    hubbub.hub.disconnect(lost)
    back = hubbub.hub.connect()
    hubbub.say(back, "session.update", resume_token=lost.session.token)
    assert not back.outbox.overflowed
    ids = [m.id for m in heard(back) if isinstance(m, AnswerDoneMessage)]
    assert len(ids) >= 16 and ids[-1] == "q63"


def test_what_happens_after_the_loop_has_closed_is_no_failure(
    hubbub: Hubbub, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may close between any two steps of the thread that tells."""
    loop = asyncio.new_event_loop()
    loop.close()
    monkeypatch.setattr(loop, "is_closed", lambda: False)
    hubbub.hub.subscribe(loop)
    hubbub.ask(hubbub.hub.connect(), "q1")
    hubbub.answer_all()
    assert not caplog.records


@pytest.mark.parametrize("closes_at", [1, 2])
def test_a_stream_may_close_while_a_lost_session_is_forgotten(
    hubbub: Hubbub, monkeypatch: pytest.MonkeyPatch, closes_at: int
) -> None:
    """Those of visitors are closed on threads of their own, at any moment."""
    gone = hubbub.hub.connect()
    hubbub.ask(gone, "q1")
    hubbub.hub.disconnect(gone)
    hubbub.clock.advance(QUICK.resume_s + 1.0)
    looked, get = itertools.count(1), hubbub.registry.get

    def closing(name: str) -> StreamSession:
        if next(looked) >= closes_at:
            raise UnknownStreamError(name, [])
        return get(name)

    with monkeypatch.context() as patched:
        patched.setattr(hubbub.registry, "get", closing)
        hubbub.hub.tick()
    assert next(looked) > 1


def test_who_would_wait_long_to_come_in_is_refused(
    hubbub: Hubbub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One who comes and goes all the time keeps no one out, and those who wait do not pile up."""
    monkeypatch.setattr(talk_module, "MOST_WAIT_S", 0.1)
    talk = Talk(hubbub.hub, Metrics(BuildInfo("0", "0", "mini")))

    async def crowd() -> list[bool]:
        return await asyncio.gather(*(talk.let_come() for _ in range(100)))

    came = asyncio.run(crowd())
    assert all(came[: CLIENT_BURST + 5]) and not any(came[50:])


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example"])
def test_a_host_that_cannot_be_is_an_error_at_the_start(host: str) -> None:
    one = Hubbub()
    metrics = Metrics(BuildInfo("0", "0", "mini"))
    talk = Talk(one.hub, metrics)
    thread = ServerThread(Server(talk, one.registry, metrics, LOCKED, Address(host, 0)))
    with pytest.raises(OSError):
        thread.start()
    thread.stop()
    one.close()


def ask_page(served: Served, method: str, tokens: list[str]) -> tuple[int, bytes, bytes]:
    """Status, body, and what came after it."""
    connection = http.client.HTTPConnection(served.http.removeprefix("http://"), timeout=PATIENCE_S)
    connection.putrequest(method, "/v1/streams")
    for token in tokens:
        connection.putheader("Authorization", f"Bearer {token}")
    connection.endheaders()
    socket = connection.sock
    answer = connection.getresponse()
    body = answer.read()
    rest = b"" if socket.fileno() < 0 else socket.recv(1)
    connection.close()
    return answer.status, body, rest


def test_odd_requests_are_refused_in_words(caplog: pytest.LogCaptureFixture) -> None:
    with serving(LOCKED) as served:
        assert ask_page(served, "GET", [TOKEN])[0] == 200
        assert ask_page(served, "GET", [TOKEN, TOKEN])[0] == 401
        assert ask_page(served, "GET", ["f\u00fcnf-und-zwanzig"])[0] == 401
        assert ask_page(served, "POST", [TOKEN])[0] == 405
        assert ask_page(served, "HEAD", [TOKEN])[:2] == (200, b"")
    assert not caplog.records


@pytest.mark.parametrize(
    ("host", "locked", "status"),
    [
        (None, False, 200),
        ("127.0.0.1:8765", False, 200),
        ("localhost:8765", False, 200),
        ("[::1]:8765", False, 200),
        ("evil.example:8765", False, 403),
        ("[::1", False, 403),
        ("cameras.example", True, 200),
    ],
)
def test_without_tokens_only_names_of_this_machine_are_answered(
    host: str | None, locked: bool, status: int
) -> None:
    """Else a page could have its own name point here, and see the newest frame."""
    with serving(LOCKED if locked else Doors()) as served:
        line = http.client.HTTPConnection(served.http.removeprefix("http://"), timeout=PATIENCE_S)
        line.putrequest("GET", "/v1/streams", skip_host=True)
        line.putheader("Authorization", f"Bearer {TOKEN}")
        if host is not None:
            line.putheader("Host", host)
        line.endheaders()
        assert line.getresponse().status == status
        line.close()


def test_a_tab_may_stand_between_a_token_and_its_scopes(tmp_path: Any) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"{TOKEN}\tingest\n")
    assert read_tokens(file).caller(f"Bearer {TOKEN}").scopes == {"ingest"}


def other_end(socket: ClientConnection) -> GuardedSocket:
    """The server's object of a connection, told by its port: those of ended tests may linger."""
    [found] = [
        thing
        for thing in gc.get_objects()
        if type(thing) is GuardedSocket and thing.remote_address == socket.local_address
    ]
    return found


def test_a_flood_of_tiny_messages_waits_as_bytes() -> None:
    """However many come at once, few become objects before their turn; and all get one."""
    with serving(limits=SessionLimits(queries_per_s=1000.0)) as served:

        async def flood() -> None:
            async with connect(served.url, subprotocols=[Subprotocol("ivl.v1")]) as socket:
                await socket.recv()
                frame = b"\x81\x80\0\0\0\0"  # masked, of no bytes
                socket.transport.write(frame * 20_000)
                most = 0
                server_side = other_end(socket)
                for _ in range(20):
                    await asyncio.sleep(0.01)
                    most = max(most, len(server_side.recv_messages.frames))
                assert 0 < most < 400
                assert len(server_side._unread) > 10_000
                socket.transport.abort()

        run(flood())


def test_what_waited_as_bytes_is_heard_in_its_turn() -> None:
    with serving(limits=SessionLimits(queries_per_s=1000.0)) as served:

        async def talk() -> None:
            async with connect(served.url, subprotocols=[Subprotocol("ivl.v1")]) as socket:
                await socket.recv()
                for number in range(90):
                    await socket.send(json.dumps({"type": "ping", "t": number}))
                heard = [json.loads(await socket.recv())["t"] for _ in range(90)]
                assert heard == list(range(90))

        run(talk())
