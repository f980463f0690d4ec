"""Sources that clients asked for, against real servers: only what is allowed is connected to."""

import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from sources import allowance, live_pictures
from sources.allowance import BURST_S, MAX_BYTES_S, MAX_PACKETS_S, Allowance
from sources.capture import capture_network
from sources.capture_errors import CaptureError
from sources.decode import Picture
from sources.errors import SourceRefusedError
from sources.frame import MAX_PIXELS, VideoFrame
from sources.open import open_client_source
from sources.policy import ClientPolicy
from sources.status import SourceCondition, SourceStatus
from tests.rig.http_servers import HlsServer, MjpegServer, segment
from tests.rig.rtsp import RtspServer, missing_rtsp
from tests.stream_helpers import PATIENCE_S, FakeClock

CITY = Path(__file__).parent.parent / "assets" / "city.mp4"
LOCAL = ClientPolicy(("http", "rtsp"), ("127.0.0.1",), ("127.0.0.1",))
needs_rtsp = pytest.mark.skipif(missing_rtsp() is not None, reason=str(missing_rtsp()))


class Shelf(ThreadingHTTPServer):
    """Serves `files`; a value that is a string is where a request is sent on to."""

    def __init__(self, host: str) -> None:
        super().__init__((host, 0), _Handler)
        self.files: dict[str, bytes | str] = {}
        self.asked: list[tuple[str, str | None, str | None]] = []
        self.connections = 0

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]}:{self.server_address[1]}"  # type: ignore[str-bytes-safe]

    def verify_request(self, request: Any, client_address: Any) -> bool:
        self.connections += 1
        return True

    def __enter__(self) -> "Shelf":
        Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Shelf

    def do_GET(self) -> None:
        headers = self.headers
        self.server.asked.append((self.path, headers.get("Host"), headers.get("Authorization")))
        body = self.server.files.get(self.path)
        if isinstance(body, str):
            self.send_response(302)
            self.send_header("Location", body)
            self.end_headers()
        elif body is None:
            self.send_error(404)
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def near() -> Iterator[Shelf]:
    with Shelf("127.0.0.1") as shelf:
        yield shelf


@pytest.fixture
def far() -> Iterator[Shelf]:
    """A server that is not allowed, with everything one might want of it."""
    with Shelf("127.0.0.2") as shelf:
        shelf.files = {"/0.ts": segment(0, 25, 25, (160, 120)), "/key": bytes(16)}
        shelf.files["/ok.m3u8"] = playlist("0.ts")
        yield shelf


def playlist(entry: str, more: str = "") -> bytes:
    head = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n"
    return f"{head}{more}#EXTINF:1.0,\n{entry}\n#EXT-X-ENDLIST\n".encode()


def capture(url: str, policy: ClientPolicy = LOCAL, most: int = 1000) -> tuple[int, str]:
    """The number of pictures, up to `most`, and how it ended."""
    count = 0
    described = {"url": url, "max_pixels": MAX_PIXELS, "policy": policy.to_dict()}
    try:
        for item in capture_network(described, time.monotonic):
            count += isinstance(item, Picture)
            if count == most:
                return count, "goes on"
    except CaptureError as error:
        return count, error.code
    return count, "ended"


def test_what_is_allowed_is_played(near: Shelf) -> None:
    """A film, and a playlist with its segments; user name and password go with each request."""
    near.files = {"/ok.m3u8": playlist("0.ts"), "/0.ts": segment(0, 25, 25, (160, 120))}
    near.files["/city.mp4"] = CITY.read_bytes()
    assert capture(near.url.replace("//", "//user:p%40ss@") + "/ok.m3u8") == (25, "ended")
    host = near.url.removeprefix("http://")
    basic = "Basic dXNlcjpwQHNz"
    assert near.asked == [("/ok.m3u8", host, basic), ("/0.ts", host, basic)]
    assert capture(near.url + "/city.mp4", most=10) == (10, "goes on")
    assert capture(near.url + "/none") == (0, "missing")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("playlist:{far}/0.ts", "forbidden"),
        ("playlist:file:///etc/passwd", "no_video"),
        ('playlist:0.ts:#EXT-X-KEY:METHOD=AES-128,URI="{far}/key"\n', "forbidden"),
        ('playlist:0.ts:#EXT-X-MAP:URI="{far}/0.ts"\n', "forbidden"),
        ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=100000\n{far}/ok.m3u8\n", "forbidden"),
        ("ffconcat version 1.0\nfile '{far}/0.ts'\n", "failed"),
        ("ffconcat version 1.0\nfile '0.ts'\n", "failed"),
        ("v=0\nc=IN IP4 127.0.0.2\nm=video 5004 RTP/AVP 96\n", "failed"),
        ('<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>', "no_video"),
    ],
)
def test_nothing_leads_to_where_clients_may_not_go(
    near: Shelf, far: Shelf, body: str, reason: str
) -> None:
    """Whatever a server answers, no other server and no file is opened."""
    content = body.replace("{far}", far.url)
    if content.startswith("playlist:"):
        entry, hashed, more = content.removeprefix("playlist:").partition(":#")
        near.files["/a"] = playlist(entry, f"#{more}" if hashed else "")
        near.files["/a.m3u8"] = near.files["/a"]
    else:
        near.files["/a.m3u8"] = content.encode()
    near.files["/0.ts"] = segment(0, 25, 25, (160, 120))
    assert capture(near.url + "/a.m3u8") == (0, reason)
    assert far.connections == 0
    assert [path for path, *_ in near.asked] == ["/a.m3u8"]


def test_redirects_are_not_followed(near: Shelf, far: Shelf) -> None:
    near.files = {"/away": far.url + "/0.ts", "/near": "/0.ts", "/0.ts": b"x"}
    assert capture(near.url + "/away") == (0, "redirected")
    assert capture(near.url + "/near") == (0, "redirected")
    assert far.connections == 0 and len(near.asked) == 2


def test_rtsp_redirects_are_not_followed(far: Shelf) -> None:
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        elsewhere = far.url.replace("http", "rtsp") + "/x"
        moved = f"RTSP/1.0 302 Moved\r\nCSeq: 1\r\nLocation: {elsewhere}\r\n\r\n"

        def answer() -> None:
            client = server.accept()[0]
            with client:
                asked.append(client.recv(4096))
                client.sendall(moved.encode())

        thread = Thread(target=answer, daemon=True)
        thread.start()
        assert capture(f"rtsp://127.0.0.1:{server.getsockname()[1]}/x") == (0, "failed")
        thread.join(PATIENCE_S)
    assert asked[0].startswith(b"OPTIONS")
    assert far.connections == 0


def test_a_name_is_judged_by_the_address_it_stands_for(near: Shelf) -> None:
    """Of an allowed name at an address that is not, nothing is asked."""
    port = near.server_address[1]
    policy = ClientPolicy(("http",), ("localhost",), ())
    assert capture(f"http://localhost:{port}/0.ts", policy) == (0, "forbidden")
    assert near.connections == 0


def test_a_forbidden_source_fails_instead_of_trying_for_ever(near: Shelf, far: Shelf) -> None:
    near.files["/a.m3u8"] = playlist(far.url + "/0.ts")
    source = open_client_source(near.url + "/a.m3u8", LOCAL)
    try:
        status = source.read()
        assert isinstance(status, SourceStatus)
        assert status.condition is SourceCondition.CONNECTING
        with pytest.raises(SourceRefusedError, match="may not ask for"):
            source.read()
        assert source.read() is None
    finally:
        source.close()


def frames_of(url: str, count: int) -> int:
    source = open_client_source(url, LOCAL)
    seen = 0
    try:
        while seen < count and (item := source.read()) is not None:
            seen += isinstance(item, VideoFrame)
            assert not (isinstance(item, SourceStatus) and item.retry_s is not None), item
    finally:
        source.close()
    return seen


def test_live_http_streams_are_watched() -> None:
    with MjpegServer() as mjpeg, HlsServer() as hls:
        assert frames_of(mjpeg.url, 10) == 10
        assert frames_of(hls.url, 10) == 10


@needs_rtsp
def test_a_named_rtsp_host_is_watched() -> None:
    with RtspServer() as server:
        assert frames_of(server.url, 10) == 10


def test_bytes_are_allowed_at_a_rate() -> None:
    """A burst is free; beyond it reading takes as long as the rate says."""
    clock = FakeClock()
    allowance = Allowance(MAX_BYTES_S, clock, clock.advance)
    clock.advance(100.0)
    began_s = clock()
    for _ in range(int(BURST_S)):
        allowance.spend(MAX_BYTES_S)
    assert clock() == began_s
    for _ in range(10):
        allowance.spend(MAX_BYTES_S)
    assert clock() - began_s == pytest.approx(10.0)


@pytest.mark.parametrize("bounded", [True, False])
def test_pictures_of_clients_are_taken_at_a_rate(
    bounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a burst each takes its share of a second, on a clock that nothing else moves."""
    clock = FakeClock()
    monkeypatch.setattr(allowance, "BURST_S", 0.0)
    monkeypatch.setattr(
        live_pictures, "Allowance", lambda per_s, clock: Allowance(per_s, clock, clock.advance)
    )
    with MjpegServer(fps=500) as server:
        described = {"url": server.url, "max_pixels": MAX_PIXELS}
        if bounded:
            described["policy"] = LOCAL.to_dict()
        pictures = (item for item in capture_network(described, clock) if isinstance(item, Picture))
        next(pictures)
        began_s = clock()
        for _ in range(60):
            next(pictures)
    taken_s = clock() - began_s
    assert taken_s >= 60 / MAX_PACKETS_S if bounded else taken_s == 0.0
