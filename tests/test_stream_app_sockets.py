"""The websockets of the HTTP application: asking, pushing, being refused, being let go, its end."""

import asyncio
import contextlib
import json
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIWebSocketRoute
from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from websockets.frames import Frame, Opcode

from sources.pushed import PushedSource
from stream import http_server, upgraded_socket
from stream import talk as talk_module
from stream.client import Client, RefusedError
from stream.events import AnswerDone
from stream.pusher import Pusher
from tests.http_serving import MODEL, PUSHED, ServedHttp, serving_http
from tests.stream_helpers import PATIENCE_S
from tests.test_stream_app import EVIL, MINE, PUSHER, TOKEN, fetch, listen_by_small_buffers, locked
from tests.test_stream_chat import ask
from tests.test_stream_server import jpeg, run, wait_until

STREAM, INGEST = "/v1/stream", f"/v1/ingest/{PUSHED}"


@pytest.fixture(scope="module")
def served() -> Iterator[ServedHttp]:
    """Without tokens."""
    with serving_http(origins=(MINE,)) as served:
        yield served


@pytest.fixture(scope="module")
def locked_up() -> Iterator[ServedHttp]:
    """With tokens, and one origin of web pages."""
    with serving_http(doors=locked(), origins=(MINE,)) as served:
        yield served


def at(served: ServedHttp, path: str = STREAM) -> str:
    """The address of a websocket."""
    return served.url.replace("http", "ws", 1).removesuffix("/v1") + path


def port_of(served: ServedHttp) -> int:
    """Where it listens."""
    return int(served.url.removesuffix("/v1").rpartition(":")[2])


def opening(served: ServedHttp, path: str = STREAM, token: str | None = None, **more: Any) -> Any:
    """A websocket to be opened."""
    headers = more.pop("headers", {})
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    options: dict[str, Any] = {"subprotocols": ["ivl.v1"], "additional_headers": headers, **more}
    return connect(at(served, path), **options)


def status_of(served: ServedHttp, path: str = STREAM, token: str | None = None, **more: Any) -> int:
    """The status of HTTP's that a handshake is answered with; 101 lets in."""

    async def knock() -> int:
        async with asyncio.timeout(PATIENCE_S):
            try:
                async with opening(served, path, token, **more) as websocket:
                    await websocket.recv()
            except InvalidStatus as refused:
                return refused.response.status_code
            return 101

    return asyncio.run(knock())


def closed_with(served: ServedHttp, *sent: str | bytes, path: str = STREAM) -> int | None:
    """With what code a websocket is closed after messages."""
    code: int | None = None

    async def say() -> None:
        nonlocal code
        async with opening(served, path) as websocket:
            for message in sent:
                await websocket.send(message, text=True)
            code = await close_code(websocket)

    run(say())
    return code


async def close_code(websocket: ClientConnection) -> int | None:
    """Read on until a websocket is closed."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await websocket.recv()
    return websocket.close_code


def test_a_question_has_exactly_one_end(served: ServedHttp) -> None:
    async def talk() -> None:
        async with opening(served) as websocket:
            assert websocket.subprotocol == "ivl.v1"
            assert json.loads(await websocket.recv())["type"] == "session.created"
            question = {"type": "query.create", "id": "q", "text": "What?", "max_tokens": 3}
            await websocket.send(json.dumps(question))
            heard: list[dict[str, Any]] = []
            while not heard or heard[-1]["type"] != "answer.done":
                heard.append(json.loads(await websocket.recv()))
            await websocket.send('{"type": "ping", "t": 7.5}')
            assert json.loads(await websocket.recv()) == {"type": "pong", "t": 7.5}
            assert heard[0]["type"] == "query.accepted"
            deltas = [said["delta"] for said in heard if said["type"] == "answer.delta"]
            assert "".join(deltas) == heard[-1]["text"]

    run(talk())


def test_a_lost_connection_is_made_again_and_nothing_is_lost(served: ServedHttp) -> None:
    async def talk() -> None:
        async with Client(at(served)) as client:
            long = await client.ask("Long?", max_tokens=100)
            async for _ in long:
                break
            assert client._socket is not None
            client._socket.transport.abort()
            text = await long.text()
            assert long.done is not None and long.done.text.endswith(text)

    run(talk())


def test_no_websocket_is_opened_without_its_token(locked_up: ServedHttp) -> None:
    """All that the application has; the other routes are tried where they are tested."""
    paths = [r.path for r in locked_up.app.routes if isinstance(r, APIWebSocketRoute)]
    assert len(paths) == 2
    for path in [path.replace("{name:path}", PUSHED) for path in paths]:
        right, wrong = (PUSHER, TOKEN) if path == INGEST else (TOKEN, PUSHER)
        for token in (None, "wrong", TOKEN[:-1], wrong):
            assert status_of(locked_up, path, token) == 401
            assert fetch(locked_up, path, token)[0] == 401
        assert status_of(locked_up, path, right) == 101
        assert status_of(locked_up, path, right, origin=MINE) == 101
        assert status_of(locked_up, path, right, origin=EVIL) == 403
        assert status_of(locked_up, path, right, subprotocols=None) == 400
        assert status_of(locked_up, path, right, subprotocols=["ivl.v0"]) == 400
        status, headers, _ = fetch(locked_up, path, right)
        assert (status, headers["upgrade"]) == (426, "websocket")
    for path in ("/", "/v1/nothing"):
        assert status_of(locked_up, path) == 401
        assert status_of(locked_up, path, TOKEN) == 404


def test_without_tokens_only_names_of_this_machine_are_answered(served: ServedHttp) -> None:
    """And no page of another origin comes in."""
    assert status_of(served) == 101
    assert by_hand(served, b"localhost:1") == b"101"
    assert by_hand(served, b"evil.example") == b"403"
    assert status_of(served, origin=EVIL) == 403


def by_hand(served: ServedHttp, host: bytes, path: bytes = b"/v1/stream") -> bytes:
    """The status of a handshake that is written by hand."""
    with socket.create_connection(("127.0.0.1", port_of(served)), PATIENCE_S) as own:
        own.sendall(
            b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: ivl.v1\r\n\r\n"
        )
        return own.recv(1000).split()[1]


def test_an_address_that_is_too_long_is_answered(served: ServedHttp) -> None:
    assert by_hand(served, b"localhost", b"/v1/stream?" + b"x" * 10_000) == b"414"


def test_a_ticket_lets_a_websocket_in_once(
    locked_up: ServedHttp, caplog: pytest.LogCaptureFixture
) -> None:
    """And nothing but a websocket; no log shows it, and refusals are no errors."""
    caplog.set_level(logging.INFO)
    given = json.loads(fetch(locked_up, "/v1/tickets", method="POST")[2])["ticket"]
    assert fetch(locked_up, f"{STREAM}?ticket={given}", None)[0] == 401
    assert status_of(locked_up, f"{STREAM}?ticket={given}", origin=MINE) == 101
    assert status_of(locked_up, f"{STREAM}?ticket={given}", origin=MINE) == 401
    pushing = json.loads(fetch(locked_up, "/v1/tickets", PUSHER, method="POST")[2])["ticket"]
    assert status_of(locked_up, f"{STREAM}?ticket={pushing}") == 401
    assert "[accepted]" in caplog.text
    assert given not in caplog.text and pushing not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_what_is_no_message_closes_with_its_code(
    served: ServedHttp, caplog: pytest.LogCaptureFixture
) -> None:
    """And is nothing to be logged."""
    assert closed_with(served, "x" * 70_000) == 1009
    assert closed_with(served, "x" * 5_000_000) == 1009
    assert closed_with(served, b"\xff\xfe") == 1007

    async def say(*sent: bytes) -> int | None:
        async with opening(served) as websocket:
            websocket.transport.write(b"".join(sent))
            return await close_code(websocket)

    def frame(opcode: Opcode, *, fin: bool = True) -> bytes:
        return Frame(opcode, b"", fin=fin).serialize(mask=True)

    async def say_all() -> None:
        compressed = bytes([frame(Opcode.TEXT)[0] | 0x40]) + frame(Opcode.TEXT)[1:]
        assert await say(compressed) == 1002
        assert await say(frame(Opcode.CONT)) == 1002
        nothings = [frame(Opcode.CONT, fin=False)] * 2000
        assert await say(frame(Opcode.TEXT, fin=False), *nothings) == 1008
        assert await say(*[frame(Opcode.PING)] * 2000) == 1008
        assert await say(*[frame(Opcode.PONG)] * 2000) == 1008

    run(say_all())
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_messages_that_come_at_once_are_all_read_in_order(served: ServedHttp) -> None:
    """Far more than are taken apart before the application has read them."""

    async def say() -> None:
        async with opening(served) as websocket:
            pings = [json.dumps({"type": "ping", "t": float(t)}).encode() for t in range(90)]
            frames = [Frame(Opcode.TEXT, ping).serialize(mask=True) for ping in pings]
            websocket.transport.write(b"".join(frames))
            await websocket.recv()
            heard = [json.loads(await websocket.recv())["t"] for _ in pings]
            assert heard == [float(t) for t in range(90)]

    run(say())


def test_who_does_not_answer_pings_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "PING_S", 0.1)

    recv_frame = ClientProtocol.recv_frame

    def forget_pings(protocol: ClientProtocol, frame: Frame) -> None:
        if frame.opcode is not Opcode.PING:
            recv_frame(protocol, frame)

    monkeypatch.setattr(ClientProtocol, "recv_frame", forget_pings)

    async def hold_still(own: ServedHttp) -> None:
        async with opening(own, ping_interval=None) as websocket:
            assert await close_code(websocket) == 1011

    with serving_http() as own:
        run(hold_still(own))


def test_pictures_are_pushed_and_acknowledged() -> None:
    """One client at a time; what it pushes can be asked about."""

    async def push(own: ServedHttp) -> None:
        async with Pusher(at(own, INGEST)) as pusher:
            for number in range(10):
                await pusher.push(jpeg(number))
            with pytest.raises(RefusedError, match="Another"):
                async with Pusher(at(own, INGEST)):
                    pass
            async with Client(at(own)) as client:
                answer = await client.ask("What?", stream=PUSHED, max_tokens=2)
                await answer.text()
                assert answer.done is not None and answer.done.frames.count >= 1
        assert pusher.num_taken == 10
        with pytest.raises(RefusedError) as refused:
            async with Pusher(at(own, "/v1/ingest/cam")):
                pass
        assert refused.value.code == "not_found"

    with serving_http(pushed=PushedSource(PUSHED)) as own:
        run(push(own))
        assert closed_with(own, b"x" * (3 << 20), path=INGEST) == 1009


def test_who_does_not_read_is_let_go_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that says much and reads nothing; others are answered meanwhile."""
    monkeypatch.setattr(talk_module, "MESSAGES_S", 1e9)
    monkeypatch.setattr(talk_module, "SLOW_S", 0.2)
    monkeypatch.setattr(socket, "create_server", listen_by_small_buffers)

    async def try_it(own: ServedHttp) -> None:
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(("127.0.0.1", port_of(own)))
        stuck = await opening(own, sock=line, max_queue=1)
        sending = asyncio.create_task(send_for_ever(stuck))
        async with Client(at(own)) as client:
            while closes not in (await asyncio.to_thread(fetch, own, "/metrics"))[2]:
                answer = await client.ask("What?", max_tokens=4)
                assert await answer.text() or answer.done
        await sending  # it is cut off, also while it reads nothing
        stuck.transport.abort()

    async def send_for_ever(stuck: ClientConnection) -> None:
        flood = json.dumps({"type": "query.cancel", "id": "x" * 64})
        with contextlib.suppress(ConnectionClosed):
            while True:
                await stuck.send(flood)
                await asyncio.sleep(0.001)

    closes = b"ivl_ws_slow_consumer_closes_total 1.0"
    with serving_http() as own:
        run(try_it(own))


def test_there_is_room_for_so_many_and_for_other_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talk_module, "MAX_SOCKETS", 3)
    monkeypatch.setattr(http_server, "MAX_SOCKETS", 3)

    async def crowd(own: ServedHttp) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(3):
                await (await stack.enter_async_context(opening(own))).recv()
            assert await asyncio.to_thread(status_of, own) == 503
            assert (await asyncio.to_thread(fetch, own, "/v1/models"))[0] == 200
        await asyncio.to_thread(wait_until, lambda: status_of(own) == 101)

    with serving_http() as own:
        run(crowd(own))


def test_sockets_that_wait_for_their_turn_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgraded_socket, "MOST_SOCKETS", 1)

    async def two(own: ServedHttp) -> None:
        async with opening(own) as first:
            await first.recv()
            with pytest.raises((OSError, InvalidMessage)):
                async with opening(own):
                    pass

    with serving_http() as own:
        run(two(own))


def test_an_end_is_announced_and_answers_are_seen_to_theirs() -> None:
    async def talk(own: ServedHttp) -> None:
        async with opening(own) as websocket:
            question = {"type": "query.create", "id": "q", "text": "Long?", "max_tokens": 200}
            await websocket.send(json.dumps(question))
            stopping = threading.Thread(target=own.thread.stop)
            heard = [json.loads(await websocket.recv())["type"]]
            while heard[-1] != "answer.delta":
                heard.append(json.loads(await websocket.recv())["type"])
            stopping.start()
            with contextlib.suppress(ConnectionClosed):
                while True:
                    heard.append(json.loads(await websocket.recv())["type"])
            assert websocket.close_code == 1001
            assert heard.count("session.going_away") == heard.count("answer.done") == 1
            assert heard.index("session.going_away") < heard.index("answer.done")
            await asyncio.to_thread(stopping.join, PATIENCE_S)
            assert not stopping.is_alive()

    with serving_http() as own:
        run(talk(own))


def test_both_servers_share_the_sessions_and_tell_each_event_once() -> None:
    """A session that was begun with one of them is taken up with the other."""

    async def talk(own: ServedHttp) -> None:
        http_url, ws_url = own.thread.urls
        assert ws_url.startswith("ws://") and http_url == own.url
        async with Client(ws_url) as client:
            answer = await client.ask("What?", max_tokens=50)
            async for _ in answer:
                break
            assert client._socket is not None
            client._url = at(own)
            client._socket.transport.abort()
            text = await answer.text()
            assert answer.done is not None and answer.done.text.endswith(text)
        async with opening(own) as websocket:
            await websocket.recv()
            subscribe = {"type": "stream.subscribe", "stream": "cam", "channels": ["state"]}
            await websocket.send(json.dumps(subscribe))
            question = {"type": "query.create", "id": "q", "text": "Once?", "max_tokens": 5}
            await websocket.send(json.dumps(question))
            heard: list[dict[str, Any]] = []
            while not heard or heard[-1]["type"] != "answer.done":
                heard.append(json.loads(await websocket.recv()))
            said = "".join(one.get("delta", "") for one in heard)
            assert said == heard[-1]["text"]

    with serving_http(both=True) as own:
        run(talk(own))
        with own.client() as client:
            client.chat.completions.create(model=MODEL, messages=ask("What?"), max_tokens=1)
        assert len(own.heard.of(AnswerDone)) == 3
