"""The rig of the network tests does what it says, seen with PyAV, and leaves nothing behind."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.rig import rtsp
from tests.rig.barcode import film, numbered_frame, read_number
from tests.rig.belongings import belongings
from tests.rig.corruption import Corruption
from tests.rig.http_servers import HlsServer, MjpegServer, RedirectServer
from tests.rig.proxy import FaultProxy
from tests.rig.rtsp import RtspServer, missing_rtsp
from tests.stream_helpers import PATIENCE_S

needs_rtsp = pytest.mark.skipif(missing_rtsp() is not None, reason=str(missing_rtsp()))
FAST = {"rtsp_transport": "tcp", "analyzeduration": "300000", "probesize": "100000"}
READ_S = 2.0
REQUEST = b"GET / HTTP/1.0\r\n\r\n"


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """No test leaves a thread, a child process, a socket or a pipe."""
    before = belongings()
    yield
    assert [now - then for now, then in zip(belongings(), before, strict=True)] == [set()] * 3


@contextlib.contextmanager
def watching(url: str, read_s: float = PATIENCE_S) -> Iterator[Iterator[int | None]]:
    """Open a stream and give the numbers of its pictures as they come."""
    with av.open(url, options=FAST, timeout=(PATIENCE_S, read_s)) as container:
        frames = container.decode(video=0)
        yield (read_number(frame.to_ndarray(format="rgb24")) for frame in frames)


def ending(numbers: Iterator[int | None]) -> float:
    """Read to the end, and return how long it took.

    The error is not looked at: for one and the same fault, FFmpeg has several and sometimes none.
    """
    started = time.monotonic()
    with contextlib.suppress(av.error.FFmpegError):
        for _ in numbers:
            pass
    return time.monotonic() - started


def follow(numbers: list[int | None]) -> bool:
    """Whether all numbers were read and none is missing between them."""
    return numbers[0] is not None and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def through(proxy: FaultProxy, url: str) -> str:
    """The URL of what `proxy` passes on."""
    return url.replace(f":{proxy.upstream}/", f":{proxy.port}/")


@pytest.mark.parametrize("number", [0, 1, 0xA5C3, 0xFFFF])
def test_number_survives_jpeg_and_scaling(number: int) -> None:
    """A number is read back from a poor and from a small picture; black and torn ones have none."""
    image = numbered_frame(number)
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 20])[1]
    assert read_number(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)) == number
    assert read_number(cv2.resize(image, (160, 90), interpolation=cv2.INTER_AREA)) == number
    assert read_number(np.zeros_like(image)) is None
    image[:, 100:200] = 128
    assert read_number(image) is None


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Debian's Python is not, the reason says so."""
    monkeypatch.setattr(rtsp, "PYTHON", "/nowhere/python3")
    assert "/nowhere/python3" in str(missing_rtsp.__wrapped__())


@needs_rtsp
def test_rtsp_pictures_come_through_the_proxy_and_outlast_a_stall() -> None:
    """What a stall holds back is late and not lost; a longer one is a timeout."""
    with RtspServer() as server, FaultProxy(server.port) as proxy:
        with watching(through(proxy, server.url), READ_S) as numbers:
            assert follow(list(islice(numbers, 10)))
            proxy.stall()
            held = proxy.bytes_down
            resume = threading.Timer(0.4, proxy.pass_through)
            resume.start()
            assert follow(list(islice(numbers, 20)))
            resume.join()
            assert proxy.bytes_down > held
            proxy.stall()
            assert READ_S - 0.1 < ending(numbers) < 5 * READ_S
        assert (proxy.connections, proxy.open_connections) == (1, 1)


@needs_rtsp
def test_rtsp_reset_ends_the_stream_at_once() -> None:
    """A reset ends the stream without a wait, and the next connection is served."""
    with RtspServer() as server, FaultProxy(server.port) as proxy:
        with watching(through(proxy, server.url)) as numbers:
            assert follow(list(islice(numbers, 5)))
            proxy.reset()
            assert proxy.open_connections == 0
            assert ending(numbers) < PATIENCE_S / 2
        with watching(through(proxy, server.url)) as numbers:
            assert follow(list(islice(numbers, 5)))


@needs_rtsp
def test_corrupt_rtsp_goes_on_in_pieces() -> None:
    """Flipped bytes spoil pictures; the connection and its messages stay."""
    with RtspServer() as server, FaultProxy(server.port) as proxy:
        proxy.corrupt(seed=1, share=0.002)
        with watching(through(proxy, server.url)) as numbers:
            assert None in list(islice(numbers, 40))
        proxy.pass_through()
        with watching(through(proxy, server.url)) as numbers:
            assert follow(list(islice(numbers, 5)))


@needs_rtsp
def test_rtsp_server_is_killed_and_comes_back_at_another_size() -> None:
    """A killed server's stream ends, its port is closed, and it comes back with other pictures."""
    with RtspServer() as server:
        port = server.port
        with watching(server.url) as numbers:
            assert follow(list(islice(numbers, 5)))
            server.kill()
            assert ending(numbers) < PATIENCE_S / 2
        with pytest.raises(av.error.ConnectionRefusedError), watching(server.url):
            pass
        server.restart((640, 480))
        assert server.port == port
        with av.open(server.url, options=FAST, timeout=(PATIENCE_S, READ_S)) as container:
            frame = next(container.decode(video=0))
            assert (frame.width, frame.height) == (640, 480)
            assert read_number(frame.to_ndarray(format="rgb24")) is not None


@needs_rtsp
def test_frozen_rtsp_server_sends_nothing_until_it_goes_on() -> None:
    """SIGSTOP is a timeout for the client; after SIGCONT the numbers have moved on."""
    with RtspServer() as server:
        with watching(server.url, READ_S) as numbers:
            (seen,) = list(islice(numbers, 25))[-1:]
            server.stop()
            assert ending(numbers) > READ_S - 0.1
        server.cont()
        with watching(server.url) as numbers:
            new = next(numbers)
        assert seen is not None and new is not None
        assert new > seen + READ_S * 25


@needs_rtsp
@pytest.mark.parametrize("digest", [False, True])
def test_rtsp_password_is_asked_for(digest: bool) -> None:
    """The right password opens the stream, another or none does not."""
    with RtspServer(user="joe", password="right", digest=digest) as server:
        with watching(server.url.replace("//", "//joe:right@")) as numbers:
            assert next(numbers) is not None
        for login in ("", "joe:wrong@"):
            url = server.url.replace("//", f"//{login}")
            with pytest.raises(av.error.HTTPUnauthorizedError), watching(url):
                pass


@needs_rtsp
def test_rtsp_file_is_served_once(tmp_path: Path) -> None:
    """A clip is sent at its own speed to its end, and not again."""
    clip = tmp_path / "clip.mp4"
    with av.open(str(clip), "w") as container:
        film(container, range(25))
    with RtspServer(file=clip) as server, watching(server.url) as numbers:
        assert list(numbers) == list(range(25))


def test_mjpeg_numbers_stall_drop_and_status() -> None:
    """Numbers follow; a stall is a hole, a drop an end, a status an error."""
    with MjpegServer() as server:
        with watching(server.url) as numbers:
            *_, seen = first = [n for n in islice(numbers, 10) if n is not None]
            assert len(first) == 10 and first == sorted(set(first))
            server.stall()
            resume = threading.Timer(0.6, server.resume)
            resume.start()
            new = list(islice(numbers, 3))[-1]
            resume.join()
            assert new is not None and new > seen + 10
            server.drop()
            assert ending(numbers) < PATIENCE_S / 2
        server.status(404)
        with pytest.raises(av.error.HTTPNotFoundError), watching(server.url):
            pass
        server.status(200)
        with watching(server.url, READ_S) as numbers:
            server.stall()
            assert ending(numbers) > READ_S - 0.1


def test_redirect_leads_on() -> None:
    """A client is sent on to the target, and both have seen it come."""
    with MjpegServer() as server, RedirectServer(server.url) as redirect:
        with watching(redirect.url) as numbers:
            assert next(numbers) is not None
        assert (redirect.requests, server.requests) == (["/moved"], ["/live.mjpg"])


def test_hls_plays_without_a_lost_segment_and_ends() -> None:
    """Segments follow each other; a lost one is a hole, ENDLIST an end."""
    with HlsServer(segment_s=0.4) as server, watching(server.url, read_s=3.0) as numbers:
        lost = server.newest + 2
        server.lose(lost)
        seen = list(islice(numbers, 60))
        assert None not in seen
        missing = set(range(seen[0] or 0, (seen[-1] or 0) + 1)) - set(seen)
        assert missing == set(range(lost * 10, lost * 10 + 10))
        server.end()
        assert ending(numbers) < 2.0


def test_hls_playlist_can_point_elsewhere() -> None:
    """FFmpeg follows an entry to another server, so a source that is safe must not."""
    with MjpegServer() as other, HlsServer(segment_s=0.4) as server:
        other.status(404)
        server.point(server.newest - 1, other.url.replace("live.mjpg", "inside.ts"))
        with watching(server.url, read_s=3.0) as numbers:
            assert None not in list(islice(numbers, 20))
        assert set(other.requests) == {"/inside.ts"}


def test_proxy_refuses_keeps_silent_and_changes_its_upstream() -> None:
    """Each command is what a client sees, and the counts are right."""
    with (
        MjpegServer() as one,
        RedirectServer("http://nowhere/") as two,
        FaultProxy(one.server_address[1]) as proxy,
    ):
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            ask(proxy)
        proxy.listen()
        proxy.silent()
        with pytest.raises(TimeoutError):
            ask(proxy)
        proxy.pass_through()
        assert b"200 OK" in ask(proxy)
        proxy.upstream = two.server_address[1]
        assert b"302" in ask(proxy)
        assert proxy.connections == 3
        assert proxy.bytes_up == 2 * len(REQUEST)
        with socket.create_connection(("127.0.0.1", proxy.port), 5.0) as client:
            proxy.stall()
            client.sendall(REQUEST)
            proxy.reset()
            with pytest.raises(ConnectionResetError):
                client.recv(1)


def ask(proxy: FaultProxy) -> bytes:
    with socket.create_connection(("127.0.0.1", proxy.port), 0.3) as client:
        client.sendall(REQUEST)
        return client.recv(100)


@pytest.mark.parametrize("chunk", [1, 7, 100_000])
def test_corruption_flips_media_and_nothing_else(chunk: int) -> None:
    """The same bits are flipped however the bytes come, in media only, as many as asked for."""
    head = b"RTSP/1.0 200 OK\r\nContent-Length: 500\r\n\r\n" + b"v" * 500
    media, rtcp = b"$\x00\x03\xe8" + bytes(1000), b"$\x01\x00\x32" + bytes(50)
    data = head + (media + rtcp) * 20 + head
    results = []
    for size in (chunk, len(data)):
        corruption = Corruption()
        corruption.start("1", 0.01)
        pieces = (data[start : start + size] for start in range(0, len(data), size))
        results.append(b"".join(corruption.pass_on(piece) for piece in pieces))
    assert results[0] == results[1]
    flipped = [index for index in range(len(data)) if results[0][index] != data[index]]
    assert 150 < len(flipped) < 250
    places = {(index - len(head)) % len(media + rtcp) for index in flipped}
    assert places <= set(range(4, len(media)))
    assert len(head) < min(flipped) and max(flipped) < len(data) - len(head)
