"""HTTP streams from a server on this machine: read live, lost, stalled, closed and refused."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from sources.errors import SourceLostError, SourceOpenError
from sources.frame import VideoFrame
from sources.network import NetworkSource
from sources.open import open_source

CANARY = "hunter2"
FRAMES = 12


class MjpegHandler(BaseHTTPRequestHandler):
    """Sends FRAMES green JPEGs, then hangs up, or for /stall keeps silent until told to end."""

    server: "MjpegServer"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path in ("/401", "/404"):
            self.send_error(int(path[1:]))
            return
        self.send_response(200)
        if path == "/text":
            self.end_headers()
            self.wfile.write(b"hello world\n" * 1000)
            return
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        image = np.full((48, 64, 3), (0, 250, 0), np.uint8)
        jpeg = cv2.imencode(".jpg", image)[1].tobytes()
        part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n"
        for _ in range(FRAMES):
            self.wfile.write(part % (len(jpeg), jpeg))
        if path == "/stall":
            self.server.ending.wait()

    def log_message(self, format: str, *args: object) -> None:
        pass


class MjpegServer(ThreadingHTTPServer):
    """Stalled answers end when `ending` is set."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), MjpegHandler)
        self.ending = threading.Event()


@pytest.fixture
def address() -> Iterator[str]:
    """The host and port of a running MjpegServer."""
    with MjpegServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.ending.set()
        server.shutdown()
        thread.join()


def test_mjpeg_stream_is_read_live_and_its_end_is_a_loss(address: str) -> None:
    """Frames are timed by arrival; the server hanging up is a loss, and stays one."""
    source = open_source(f"http://admin:{CANARY}@{address}/live?token={CANARY}")
    frames: list[VideoFrame] = []
    with pytest.raises(SourceLostError) as caught:
        while frame := source.read():
            frames.append(frame)
    assert 1 <= len(frames) <= FRAMES
    assert frames[0].image[24, 32, 1] > 200
    assert [frame.seq for frame in frames] == list(range(len(frames)))
    assert all(frame.pts_s == frame.arrived_s - frames[0].arrived_s for frame in frames)
    assert (source.info.live, source.info.width, source.info.height) == (True, 64, 48)
    assert CANARY not in repr(source.info) + str(caught.value) + repr(caught.value)
    with pytest.raises(SourceLostError):
        source.read()
    source.close()


def test_stalled_stream_is_lost_after_the_read_timeout(address: str) -> None:
    """A server that keeps silent is a loss once the read timeout is over."""
    source = NetworkSource(f"http://{address}/stall", clock=_no_time, timeout=(5.0, 0.2))
    with pytest.raises(SourceLostError):
        while source.read():
            pass
    source.close()


def test_close_from_another_thread_ends_a_blocked_read(address: str) -> None:
    """A read that waits for a silent server returns None, and no error, once closed."""
    source = NetworkSource(f"http://{address}/stall", clock=_no_time, timeout=(5.0, 0.5))
    results: list[VideoFrame | SourceLostError | None] = []

    def drain() -> None:
        try:
            while frame := source.read():
                results.append(frame)
            results.append(None)
        except SourceLostError as error:
            results.append(error)

    reader = threading.Thread(target=drain)
    reader.start()
    source.close()
    reader.join(timeout=10.0)
    assert not reader.is_alive()
    assert results[-1] is None


@pytest.mark.parametrize(
    ("path", "reason"),
    [("401", "access was denied"), ("404", "no such stream"), ("text", "no video came")],
)
def test_server_that_sends_no_video_is_refused_with_the_reason(
    address: str, path: str, reason: str
) -> None:
    """A wrong password, a wrong path and a page of text are told apart, without the password."""
    with pytest.raises(SourceOpenError, match=reason) as caught:
        open_source(f"http://admin:{CANARY}@{address}/{path}?key={CANARY}")
    assert CANARY not in str(caught.value) + repr(caught.value)


def _no_time() -> float:
    return 0.0
