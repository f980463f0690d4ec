"""The websockets of the HTTP application: asking, pushing, and who is let in."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIWebSocketRoute
from websockets.frames import Opcode

from sources.pushed import PushedSource
from stream.client import Client, RefusedError
from stream.events import AnswerDone
from stream.pusher import Pusher
from tests.app_sockets import INGEST, STREAM, at, by_hand, closed_with, head_of, opening, status_of
from tests.http_serving import MODEL, PUSHED, ServedHttp, serving_http
from tests.test_stream_app import EVIL, MINE, PUSHER, TOKEN, fetch, locked
from tests.test_stream_chat import ask
from tests.test_stream_server import jpeg, run


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
    assert len(paths) == 3
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


def test_what_cannot_be_upgraded_is_answered(served: ServedHttp) -> None:
    assert by_hand(served, b"localhost", version=b"1.0") == b"426"
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
        async with opening(own, INGEST) as websocket:
            await websocket.recv()
            await websocket.send(bytes(1 << 20))  # too long for a question, not for a picture
            assert json.loads(await websocket.recv())["error"]["code"] == "bad_picture"
        with pytest.raises(RefusedError) as refused:
            async with Pusher(at(own, "/v1/ingest/cam")):
                pass
        assert refused.value.code == "not_found"

    with serving_http(pushed=PushedSource(PUSHED)) as own:
        run(push(own))
        assert closed_with(own, head_of(Opcode.BINARY, (2 << 20) + 1), INGEST) == 1009


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
