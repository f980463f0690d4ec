"""The websockets of the HTTP application: what is too much, what is no message, and the end."""

import asyncio
import contextlib
import json
import logging
import socket
import threading
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidMessage
from websockets.frames import Frame, Opcode

from stream import http_server, upgraded_socket
from stream import talk as talk_module
from stream.client import Client
from tests.app_sockets import (
    at,
    close_code,
    closed_with,
    head_of,
    opening,
    status_of,
)
from tests.http_serving import ServedHttp, serving_http
from tests.stream_helpers import PATIENCE_S
from tests.test_stream_app import MINE, fetch, listen_by_small_buffers
from tests.test_stream_server import run, wait_until


@pytest.fixture(scope="module")
def served() -> Iterator[ServedHttp]:
    """Without tokens."""
    with serving_http(origins=(MINE,)) as served:
        yield served


def test_what_is_too_long_or_no_text_closes_with_its_code(
    served: ServedHttp, caplog: pytest.LogCaptureFixture
) -> None:
    """And is nothing to be logged."""
    assert closed_with(served, head_of(Opcode.TEXT, 65_537)) == 1009
    no_text = Frame(Opcode.TEXT, b"\xff\xfe").serialize(mask=True)
    assert closed_with(served, no_text) == 1007
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


def test_who_does_not_read_is_let_go_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that says much and reads nothing; others are answered meanwhile."""
    monkeypatch.setattr(talk_module, "MESSAGES_S", 1e9)
    monkeypatch.setattr(talk_module, "SLOW_S", 0.2)
    monkeypatch.setattr(socket, "create_server", listen_by_small_buffers)

    async def try_it(own: ServedHttp) -> None:
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(own.address)
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


def test_what_has_no_end_in_time_is_cancelled_and_its_client_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(talk_module, "DRAIN_S", 0.0)

    async def ask(own: ServedHttp) -> None:
        statuses: list[str] = []
        async with opening(own) as websocket:
            question = {"type": "query.create", "id": "q", "text": "For ever?", "max_tokens": 2048}
            await websocket.send(json.dumps(question))
            while json.loads(await websocket.recv())["type"] != "answer.delta":
                pass
            stopping = asyncio.create_task(asyncio.to_thread(own.thread.stop))
            with contextlib.suppress(ConnectionClosed):
                while True:
                    message = json.loads(await websocket.recv())
                    if message["type"] == "answer.done":
                        statuses.append(message["status"])
            await stopping
        assert statuses == ["cancelled"]

    with serving_http() as own:
        run(ask(own))
