"""The doors of the HTTP application, its pages, and its ends."""

import json
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from socket import create_server
from typing import Any

import openai
import pytest
from starlette.routing import Mount, Route, WebSocketRoute

from stream import http_server
from stream.app import OPEN_PATHS, make_app
from stream.asking import Asking
from stream.doors import Doors, DoorsError
from stream.events import AnswerDelta, AnswerDone, AnswerStatus
from stream.http_server import HttpServer
from stream.server import Address, ServerThread
from stream.tickets import MAX_TICKETS, Caller
from tests import http_serving
from tests.http_serving import MODEL, ServedHttp, serving_http
from tests.stream_helpers import PATIENCE_S, rest
from tests.test_stream_chat import ask, posted
from tests.test_stream_server import wait_until

TOKEN, PUSHER = "correct-horse-battery-staple", "only-for-frames-0123"
MINE, EVIL = "https://mine.example", "https://evil.example"
CHAT = {"model": MODEL, "messages": ask("What?"), "max_tokens": 1}


def locked() -> Doors:
    return Doors({TOKEN: frozenset({"query"}), PUSHER: frozenset({"ingest"})})


@pytest.fixture(scope="module")
def served() -> Iterator[ServedHttp]:
    """Locked, with one origin of web pages."""
    with serving_http(doors=locked(), origins=(MINE,)) as served:
        yield served


def fetch(
    served: ServedHttp,
    path: str,
    token: str | None = TOKEN,
    *,
    method: str = "GET",
    body: Any = None,
    **headers: str,
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of what is at a path."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        served.url.removesuffix("/v1") + path, data=data, method=method
    )
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    if data is not None:
        request.add_header("Content-Type", "application/json")
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def test_every_route_is_locked_without_a_token(served: ServedHttp) -> None:
    """All that the application knows, and what it does not know."""
    tried = {("GET", "/"), ("GET", "/v1/nothing"), ("POST", "/healthz/")}
    # Websockets are at paths that refuse other requests, too; they are tried where they are tested.
    sockets = [route for route in served.app.routes if isinstance(route, WebSocketRoute)]
    for route in served.app.routes:
        if route in sockets:
            continue
        assert isinstance(route, Route | Mount), f"{route} is of a kind that is not tried here"
        methods = route.methods if isinstance(route, Route) else {"GET"}
        path = re.sub(r"{[^}]*}", "cam", route.path)
        tried |= {(method, path) for method in methods or ()}
    assert {re.sub(r"{[^}]*}", "cam", s.path) for s in sockets} <= {path for _, path in tried}
    assert len(tried) >= 11
    for method, path in tried:
        for token in (None, "wrong", TOKEN[:-1]):
            status, headers, body = fetch(served, path, token, method=method)
            if path in OPEN_PATHS:
                assert status == 200
            else:
                assert status == 401 and headers["www-authenticate"] == "Bearer", path
                assert TOKEN.encode() not in body


def test_a_token_for_pushing_may_not_ask(served: ServedHttp) -> None:
    for path in ("/v1/models", "/v1/streams", "/metrics", "/v1/streams/cam/frame.jpg"):
        assert fetch(served, path, PUSHER)[0] == 401
    assert fetch(served, "/v1/chat/completions", PUSHER, method="POST", body=CHAT)[0] == 401


def test_pages_are_those_of_the_websocket_server(served: ServedHttp) -> None:
    served.heard.wait_for(lambda: served.registry.snapshot("cam") is not None)
    status, headers, body = fetch(served, "/v1/streams")
    assert status == 200 and [s["name"] for s in json.loads(body)["streams"]] == ["cam"]
    status, headers, body = fetch(served, "/v1/streams/cam/frame.jpg")
    assert (status, headers["content-type"], body[:2]) == (200, "image/jpeg", b"\xff\xd8")
    assert headers["cache-control"] == "no-store"
    assert fetch(served, "/v1/streams/nowhere/frame.jpg")[0] == 404
    assert b"ivl_build_info" in fetch(served, "/metrics")[2]
    assert fetch(served, "/v1/nothing")[0] == 404
    assert fetch(served, "/healthz", None)[2] == b"alive\n"
    assert fetch(served, "/readyz", None)[2] == b"ready\n"


def test_a_token_gets_a_ticket_of_its_own_scopes(served: ServedHttp) -> None:
    doors = locked()
    with serving_http(doors=doors) as own:
        for number, (token, scope) in enumerate(((TOKEN, "query"), (PUSHER, "ingest")), 1):
            status, headers, body = fetch(own, "/v1/tickets", token, method="POST")
            ticket = json.loads(body)
            assert (status, headers["cache-control"]) == (200, "no-store")
            assert ticket["expires_in_s"] == 30.0
            caller = Caller(number, frozenset({scope}))
            assert doors.tickets.take(ticket["ticket"]) == caller
        for _ in range(MAX_TICKETS):
            doors.tickets.give(Caller(1, frozenset({"query"})))
        status, headers, _ = fetch(own, "/v1/tickets", method="POST")
        assert status == 429 and 1 <= int(headers["retry-after"]) <= 30
        assert fetch(own, f"/v1/models?ticket={ticket['ticket']}", None)[0] == 401


def test_only_pages_of_listed_origins_may_ask(served: ServedHttp) -> None:
    """Also where no token is needed: a page that someone here looks at must not ask in secret."""
    status, headers, _ = fetch(served, "/v1/models", Origin=MINE)
    assert (status, headers["access-control-allow-origin"]) == (200, MINE)
    assert fetch(served, "/v1/models", Origin=EVIL)[0] == 403
    asks = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "x-mine"}
    chat = "/v1/chat/completions"
    assert fetch(served, chat, None, method="OPTIONS", Origin=MINE, **asks)[0] == 200
    assert fetch(served, chat, None, method="OPTIONS", Origin=EVIL, **asks)[0] == 400
    with serving_http() as unlocked:
        for origin in (MINE, EVIL, "null"):
            assert fetch(unlocked, chat, method="POST", body=CHAT, Origin=origin)[0] == 403
        assert fetch(unlocked, chat, method="POST", body=CHAT)[0] == 200


def test_without_tokens_only_names_of_this_machine_are_answered() -> None:
    with serving_http() as unlocked:
        assert fetch(unlocked, "/v1/models", None, Host="localhost:1")[0] == 200
        assert fetch(unlocked, "/v1/models", None, Host="evil.example")[0] == 403
    with pytest.raises(DoorsError, match="--token-file"):
        asking = Asking(unlocked.registry)
        HttpServer(unlocked.app, asking, unlocked.talk, Doors(), Address("0.0.0.0", 0))


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "bad_json"),
        (b"\xff\x00", 400, "bad_json"),
        (b"[" * 60_000, 400, "bad_request"),
        (b"[]", 400, "bad_json"),
        (b"", 400, "bad_json"),
        (b'{"model": "mini", "messages": [{"role": "user", "content": "\\ud800"}]}', 400, None),
        (b'{"model": "mini", "messages": [{"role": "user", "content": NaN}]}', 400, None),
    ],
)
def test_a_body_that_is_none_is_refused_in_words(
    served: ServedHttp, body: bytes, status: int, code: str | None
) -> None:
    answer, _, text = fetch(served, "/v1/chat/completions", method="POST", body=body)
    error = json.loads(text)["error"]
    assert answer == status and error["code"] == (code or "bad_request") and error["message"]


def test_a_body_that_is_too_long_or_of_another_type_is_refused(served: ServedHttp) -> None:
    chat = "/v1/chat/completions"
    assert fetch(served, chat, method="POST", body=b" " * 70_000)[0] == 413
    assert fetch(served, chat, method="POST", body=CHAT, Content_Type="text/plain")[0] == 400
    assert fetch(served, chat, method="PUT", body=CHAT)[0] == 405


def test_what_fails_here_is_told_without_its_reason(
    served: ServedHttp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("with a secret in it")

    monkeypatch.setattr(Asking, "ask", fail)
    status, _, body = fetch(served, "/v1/chat/completions", method="POST", body=CHAT)
    assert status == 500 and json.loads(body)["error"]["code"] == "internal"
    assert b"secret" not in body
    wait_until(lambda: "with a secret in it" in caplog.text)


def test_a_server_that_ends_sees_answers_to_their_end() -> None:
    """Whoever asks meanwhile is told so, and it is not ready."""
    with serving_http() as own:
        client = own.client()
        with client.chat.completions.create(
            model=MODEL, messages=ask("Long?"), max_tokens=300, stream=True
        ) as long:
            chunks = iter(long)
            next(chunks)
            stopping = threading.Thread(target=own.thread.stop)
            stopping.start()
            while fetch(own, "/readyz")[0] == 200:
                pass
            with pytest.raises(openai.InternalServerError) as refused:
                client.chat.completions.create(model=MODEL, messages=ask("More?"))
            assert refused.value.status_code == 503 and refused.value.code == "draining"
            assert [c.choices[0].finish_reason for c in chunks][-1] in ("stop", "length")
        stopping.join(PATIENCE_S)
        assert not stopping.is_alive()


def test_what_has_no_end_in_time_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "DRAIN_S", 0.0)
    with serving_http() as own:
        with own.client().chat.completions.create(
            model=MODEL, messages=ask("For ever?"), max_tokens=2048, stream=True
        ) as long:
            stopping = threading.Thread(target=own.thread.stop)
            stopping.start()
            with pytest.raises(openai.APIError, match="cancelled"):
                list(long)
        stopping.join(PATIENCE_S)
        assert [end.status for end in own.heard.of(AnswerDone)] == [AnswerStatus.CANCELLED]


def test_an_address_that_is_taken_is_an_error_at_the_start(served: ServedHttp) -> None:
    """And the server that could be started beside it has gone, too."""
    asking = Asking(served.registry)
    servers = [
        HttpServer(served.app, asking, served.talk, Doors(), Address("127.0.0.1", p))
        for p in (0, served.address[1])
    ]
    thread = ServerThread(*servers)
    with pytest.raises(OSError):
        thread.start()
    thread.stop()
    with pytest.raises(OSError):
        urllib.request.urlopen(servers[0].url, timeout=PATIENCE_S)


def listen_by_small_buffers(*args: Any, **options: Any) -> socket.socket:
    """As `create_server`, but little can be on its way: on one machine it would be megabytes."""
    listening = create_server(*args, **options)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return listening


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux can do this")
def test_who_does_not_read_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else as many of them as may come would let nobody else in."""
    # Long enough that the first look below is never too late.
    monkeypatch.setattr(http_server, "SLOW_S", 3.0)
    monkeypatch.setattr(http_server, "MAX_SOCKETS", 2)
    monkeypatch.setattr(socket, "create_server", listen_by_small_buffers)
    with serving_http() as own, socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(own.address)
        stuck.sendall(posted({**CHAT, "max_tokens": 2048, "stream": True}))
        assert own.heard.wait_for(lambda: bool(own.heard.of(AnswerDelta)))
        assert fetch(own, "/v1/models")[0] == 503
        wait_until(lambda: fetch(own, "/v1/models")[0] == 200)


@pytest.mark.parametrize("whole_first", [False, True])
@pytest.mark.parametrize("sent", [b"", b"GET /v1/models HTTP/1.1\r\nX"])
def test_who_never_comes_to_the_point_is_let_go(
    monkeypatch: pytest.MonkeyPatch, sent: bytes, whole_first: bool
) -> None:
    """Before a first request, and before a second."""
    monkeypatch.setattr(http_server, "IDLE_S", 0.3)
    monkeypatch.setattr(http_server, "MAX_SOCKETS", 2)
    with serving_http() as own, socket.socket() as idle:
        idle.connect(own.address)
        if whole_first:
            idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while b"alive" not in answer:
                answer += idle.recv(1000)
        idle.sendall(sent)
        assert rest(idle) == b""
        wait_until(lambda: fetch(own, "/v1/models")[0] == 200)


@pytest.mark.parametrize("path", ["/login", "/v1/chat/completions"])
@pytest.mark.parametrize("before", ["", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_who_never_comes_to_the_end_of_a_body_is_let_go(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, path: str, before: str
) -> None:
    """Also of a request that comes with the one before; to log in nobody needs a token."""
    monkeypatch.setattr(http_server, "BODY_S", 0.3)
    monkeypatch.setattr(http_server, "MAX_SOCKETS", 2)
    monkeypatch.setattr(http_serving, "make_app", lambda *args, **_: make_app(*args, logs_in=True))
    with serving_http(doors=locked()) as own, socket.socket() as stuck:
        stuck.connect(own.address)
        head = (
            f"{before}POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        )
        stuck.sendall(
            f"{head}Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{{".encode()
        )
        assert rest(stuck).count(b"HTTP/1.1 ") == bool(before)
        wait_until(lambda: fetch(own, "/v1/models")[0] == 200)
    assert "ClientDisconnect" not in caplog.text


def test_who_asks_and_asks_is_answered_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same connection; others are answered meanwhile."""
    monkeypatch.setattr(http_server, "MESSAGES_S", 1e-3)
    monkeypatch.setattr(http_server, "MESSAGE_BURST", 5)
    with serving_http() as own, socket.socket() as flood:
        flood.connect(own.address)
        flood.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
        flood.settimeout(PATIENCE_S)
        answers = b""
        while answers.count(b"alive") < 5:
            answers += flood.recv(10_000)
        for _ in range(20):
            assert fetch(own, "/v1/models")[0] == 200
        flood.setblocking(False)
        with pytest.raises(BlockingIOError):
            flood.recv(10_000)
        assert answers.count(b"alive") == 5
