"""What no client should send: each gets its error, status or code, and the server lives on."""

import json
import logging
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from websockets.sync.client import connect

from stream import guarded_socket, server
from tests.http_serving import serving_http
from tests.stream_helpers import PATIENCE_S, rest
from tests.test_stream_server import Served, serving, wait_until

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
COMPRESSED = 0x40  # the bit that says so
HANDSHAKE = {
    "Host": "127.0.0.1",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": "ivl.v1",
}
# The application keeps a connection for the next request, and has its own words for no websocket.
ONLY_WEBSOCKETS = pytest.mark.parametrize("served", ["websockets"], indirect=True)


@pytest.fixture(scope="module", params=["websockets", "app"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """The websocket server, and the HTTP application, whose websockets are to be no weaker."""
    if request.param == "websockets":
        with serving() as one:
            yield one
    else:
        with serving_http("cam", "door") as app:
            url = app.url.replace("http", "ws", 1).removesuffix("/v1") + "/v1/stream"
            yield Served(url, app.registry)


@contextmanager
def tcp(served: Served) -> Iterator[socket.socket]:
    port = int(served.http.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as line:
        yield line


def request(path: str = "/v1/stream", version: str = "HTTP/1.1", **changed: str | None) -> bytes:
    """A handshake with some headers changed, or left out."""
    headers = HANDSHAKE | {name.replace("_", "-"): value for name, value in changed.items()}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"GET {path} {version}", *lines, "\r\n"]).encode()


def frame(
    opcode: int, data: bytes = b"", *, fin: bool = True, bits: int = 0, mask: int = 1
) -> bytes:
    size, masked = len(data), mask << 7
    head = bytes([fin << 7 | bits | opcode])
    if size < 126:
        head += bytes([masked | size])
    elif size < 1 << 16:
        head += bytes([masked | 126]) + struct.pack("!H", size)
    else:
        head += bytes([masked | 127]) + struct.pack("!Q", size)
    return head + bytes(4 * mask) + data


def first(line: socket.socket) -> dict[str, object]:
    """Shake hands; the first message, which ends in a brace."""
    line.sendall(request())
    heard = b""
    while not heard.endswith(b"}]}"):
        heard += line.recv(1 << 16)
    head, _, body = heard.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    return dict(json.loads(body[body.index(b"{") :]))


def assert_alive(served: Served) -> None:
    assert served.get("/healthz")[0] == 200
    with connect(served.url, subprotocols=["ivl.v1"]) as client:  # type: ignore[list-item]
        client.recv(PATIENCE_S)
        client.send('{"type": "ping", "t": 3.5}')
        assert json.loads(client.recv(PATIENCE_S)) == {"type": "pong", "t": 3.5}


def create(**fields: object) -> str:
    question = {"type": "query.create", "id": "q", "text": "What?", "stream": "cam"}
    return json.dumps(question | fields)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("", "bad_json"),
        ("\ufeff{}", "bad_json"),
        ('{"type": "ping"}{"type": "ping"}', "bad_json"),
        ('{"a":' * 10_000 + "1" + "}" * 10_000, "bad_json"),
        ('{"type": ' + "[" * 1000 + "]" * 1000 + "}", "bad_json"),
        ('{"type": "ping", "t": ' + "9" * 5000 + "}", "bad_json"),
        (create(text="\ud800"), "bad_json"),
        (create(id="\udfff"), "bad_json"),
        ("[]", "bad_request"),
        ("null", "bad_request"),
        ("{}", "bad_request"),
        ('{"type": "ping", "t": NaN}', "bad_request"),
        ('{"type": "ping", "t": -Infinity}', "bad_request"),
        ('{"type": "ping", "t": 1e999}', "bad_request"),
        ('{"type": "ping", "t": true}', "bad_request"),
        (json.dumps({"type": "ping"} | {f"f{n}": n for n in range(3000)}), "bad_request"),
        (create(max_tokens=10**40), "bad_request"),
        (create(max_tokens=0), "bad_request"),
        (create(deadline_ms=-1), "bad_request"),
        (create(id="x" * 65), "bad_request"),
        (create(id="x" * 60_000), "bad_request"),
        (create(id="two words"), "bad_request"),
        (create(stream="../../etc/passwd"), "bad_request"),
        (create(stream="nowhere"), "not_found"),
        (create(text="\u200b" * 5000), "too_large"),
        ('{"type": "stream.subscribe", "stream": "nowhere", "channels": ["stats"]}', "not_found"),
        ('{"type": "stream.subscribe", "stream": "cam", "channels": []}', "bad_request"),
        ('{"type": "session.update", "default_stream": "nowhere"}', "not_found"),
        ('{"type": "session.update", "resume_token": "x", "after": -1}', "bad_request"),
        ('{"type": "ping", "type": "zap"}', "unknown_type"),
        ('{"type": "ping\\u0000"}', "unknown_type"),
        ('{"type": null}', "unknown_type"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_a_bad_message_is_one_error_and_the_connection_stays(
    served: Served, sent: str, code: str
) -> None:
    with connect(served.url, subprotocols=["ivl.v1"]) as client:  # type: ignore[list-item]
        client.recv(PATIENCE_S)
        client.send(sent)
        client.send('{"type": "ping"}')
        refused, pong = (json.loads(client.recv(PATIENCE_S)) for _ in range(2))
    assert (refused["type"], refused["error"]["code"]) == ("error", code)
    assert refused["error"]["message"] and len(refused["error"]["message"]) <= 300
    assert not refused["fatal"] and pong["type"] == "pong"


def test_an_id_is_used_once_and_what_has_ended_is_not_cancelled(served: Served) -> None:
    with connect(served.url, subprotocols=["ivl.v1"]) as client:  # type: ignore[list-item]
        codes: list[str] = []
        client.send(create(max_tokens=1))
        client.send(create(max_tokens=1))
        while len(codes) < 3:
            message = json.loads(client.recv(PATIENCE_S))
            if message["type"] == "error":
                codes.append(message["error"]["code"])
            elif message["type"] == "answer.done":
                client.send(create())
                client.send('{"type": "query.cancel", "id": "q"}')
    assert codes == ["duplicate_id", "duplicate_id", "already_done"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(Sec_WebSocket_Version="12"), 400),
        (request(Sec_WebSocket_Key="x"), 400),
        (request(Sec_WebSocket_Protocol="ivl.v0"), 400),
        (request(Sec_WebSocket_Protocol=None), 400),
        (request(Upgrade=None), 426),
        (request(Upgrade="h2c"), 426),
        (request(version="HTTP/1.0"), 505),
        (request("/" + "x" * 20_000), 414),
        (request("/v1/streams/../../etc/passwd"), 404),
        (request(X="x" * 20_000), 431),
        (request(**{f"X{n}": "x" for n in range(300)}), 431),
        (request(Host="evil.example"), 403),
        (request(Origin="https://evil.example"), 403),
        (request(Origin="null"), 403),
    ],
    ids=lambda value: value[:40].decode() if isinstance(value, bytes) else None,
)
@ONLY_WEBSOCKETS
def test_a_bad_handshake_is_refused_with_its_status(
    served: Served, sent: bytes, status: int
) -> None:
    with tcp(served) as line:
        line.sendall(sent)
        assert rest(line).startswith(f"HTTP/1.1 {status} ".encode())
    assert_alive(served)


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00" + bytes(200) + b"\n", b"\r\n" * 100, b"hello\n"]
)
@ONLY_WEBSOCKETS
def test_what_is_no_http_is_not_answered_as_if_it_were(served: Served, sent: bytes) -> None:
    with tcp(served) as line:
        line.sendall(sent)
        assert b" 101 " not in rest(line)
    assert_alive(served)


def test_nobody_may_compress(served: Served) -> None:
    """Else a few bytes could become gigabytes; who offers it is told nothing, and may go on."""
    with tcp(served) as line:
        line.sendall(request(Sec_WebSocket_Extensions="permessage-deflate"))
        answer = line.recv(1 << 16)
        assert b" 101 " in answer and b"Extensions" not in answer


def compressed(count: int) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(b"0" * count) + packer.flush(zlib.Z_SYNC_FLUSH)[:-4]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(frame(TEXT, b"{}", bits=COMPRESSED), 1002, id="marked as compressed"),
        pytest.param(frame(TEXT, compressed(1 << 25), bits=COMPRESSED), 1002, id="a bomb"),
        pytest.param(frame(TEXT, b"{}", mask=0), 1002, id="without a mask"),
        pytest.param(frame(3), 1002, id="an unknown opcode"),
        pytest.param(frame(CONTINUATION, b"x"), 1002, id="a continuation of nothing"),
        pytest.param(frame(PING, b"x" * 126), 1002, id="a long ping"),
        pytest.param(frame(PING, fin=False), 1002, id="half a ping"),
        pytest.param(frame(CLOSE, struct.pack("!H", 1005)), 1002, id="a code nobody may send"),
        pytest.param(b"\x81\xff" + b"\xff" * 12, 1009, id="less than no bytes"),
        pytest.param(b"\x81\xff\x7f" + b"\xff" * 11, 1009, id="more bytes than there are"),
        pytest.param(frame(TEXT, bytes(70_000)), 1009, id="a long message"),
        pytest.param(
            frame(TEXT, b"x" * 60_000, fin=False) + frame(CONTINUATION, b"x" * 60_000),
            1009,
            id="a long message in parts",
        ),
        pytest.param(frame(TEXT, b"\xff\xfe"), 1007, id="text that is no UTF-8"),
        pytest.param(
            frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 1000, 1008, id="empty parts"
        ),
        pytest.param(frame(PING) * 1000, 1008, id="1000 pings"),
        pytest.param(frame(PONG) * 1000, 1008, id="1000 pongs"),
    ],
)
def test_bad_frames_close_the_connection_with_their_code(
    served: Served, sent: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Also if the client never closes its end; and none of it is a failure of ours."""
    with tcp(served) as line:
        first(line)
        line.sendall(sent)
        heard = rest(line)
    assert b"\x88" in heard and struct.pack("!H", code) in heard[heard.index(b"\x88") :][:4]
    assert_alive(served)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_million_pings_are_not_a_million_pongs(served: Served) -> None:
    with tcp(served) as line:
        first(line)
        with pytest.raises(OSError):  # long before the last
            for _ in range(1000):
                line.sendall(frame(PING) * 1000)
    assert_alive(served)


def test_binary_where_text_is_due_and_text_where_pictures_are(served: Served) -> None:
    with connect(served.url, subprotocols=["ivl.v1"]) as client:  # type: ignore[list-item]
        client.recv(PATIENCE_S)
        client.send(b"{}")
        assert json.loads(client.recv(PATIENCE_S))["error"]["code"] == "bad_request"
    pushed = served.url.replace("/v1/stream", "/v1/ingest/cam")
    with connect(pushed, subprotocols=["ivl.v1"]) as client:  # type: ignore[list-item]
        refused = json.loads(client.recv(PATIENCE_S))
        assert (refused["error"]["code"], refused["fatal"]) == ("not_found", True)


def test_half_a_handshake_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "OPEN_S", 0.1)
    with serving() as served:
        with tcp(served) as line:
            line.sendall(request()[:-2])
            assert b" 101 " not in rest(line)
        assert_alive(served)


def test_who_does_not_answer_pings_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its machine may have lost its power: nothing more would ever come of it."""
    monkeypatch.setattr(server, "PING_S", 0.1)
    with serving() as served:
        with tcp(served) as line:
            first(line)
            heard = rest(line)
            assert struct.pack("!H", 1011) in heard
        assert_alive(served)


def test_sockets_that_say_nothing_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded_socket, "MOST_SOCKETS", 3)
    with serving() as served:
        with tcp(served), tcp(served), tcp(served), tcp(served) as last:
            assert rest(last) == b""
        wait_until(lambda: takes_a_call(served))  # once it has seen that they are gone
        assert_alive(served)


def takes_a_call(served: Served) -> bool:
    with tcp(served) as line:
        line.sendall(request())
        try:
            return line.recv(1) != b""
        except ConnectionResetError:
            return False
