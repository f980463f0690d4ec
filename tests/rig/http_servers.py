"""HTTP servers on 127.0.0.1 that behave as cameras do, and misbehave at a test's command."""

import contextlib
import functools
import io
import math
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import av
import cv2

from tests.rig.barcode import film, numbered_frame


class HttpServer(ThreadingHTTPServer):
    """Answers from entering to leaving; `requests` has the paths that were asked for."""

    daemon_threads = False  # so that leaving waits for them
    path = "/"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[str] = []
        self._sockets: set[socket.socket] = set()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), name="http rig")

    @property
    def url(self) -> str:
        """What a client is to open."""
        return f"http://127.0.0.1:{self.server_address[1]}{self.path}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one GET."""
        raise NotImplementedError

    def drop(self) -> None:
        """Hang up on all clients; new ones are answered as before."""
        for client in list(self._sockets):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ending.set()
        self.shutdown()
        self._thread.join()
        self.drop()
        self.server_close()

    def finish_request(self, request: Any, client_address: Any) -> None:
        self._sockets.add(request)
        try:
            super().finish_request(request, client_address)
        except ConnectionError:
            pass  # clients come and go
        finally:
            self._sockets.discard(request)


class _Handler(BaseHTTPRequestHandler):
    server: HttpServer

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        self.server.answer(self)

    def log_message(self, format: str, *args: object) -> None:
        pass


class MjpegServer(HttpServer):
    """Sends JPEGs without end, numbered by the clock from the start, `fps` a second."""

    path = "/live.mjpg"

    def __init__(self, *, fps: float = 25.0, size: tuple[int, int] = (320, 240)) -> None:
        super().__init__()
        self._fps, self._size = fps, size
        self._started = time.monotonic()
        self._status = 200
        self._flowing = threading.Event()
        self._flowing.set()

    def stall(self) -> None:
        """Keep all connections and take new ones, but send no picture."""
        self._flowing.clear()

    def resume(self) -> None:
        """End a stall; what was missed is not sent."""
        self._flowing.set()

    def status(self, code: int) -> None:
        """Answer new requests with this HTTP status, 200 being normal."""
        self._status = code

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        if self._status != 200:
            handler.send_error(self._status)
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        number = self._due()
        while True:
            self._flowing.wait()
            if self._ending.wait(self._started + number / self._fps - time.monotonic()):
                return
            bgr = numbered_frame(number, *self._size)[..., ::-1]
            jpeg = cv2.imencode(".jpg", bgr)[1].tobytes()
            part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n"
            handler.wfile.write(part % (len(jpeg), jpeg))
            # A busy machine skips no number; a stall or a slow client does, as of a camera.
            late = self._due() - number
            number += 1 if late < self._fps / 2 else late

    def __exit__(self, *error: object) -> None:
        self._ending.set()
        self.resume()
        super().__exit__(*error)

    def _due(self) -> int:
        return int((time.monotonic() - self._started) * self._fps)


class HlsServer(HttpServer):
    """A live playlist of the newest `window` segments, `/NUMBER.ts`, of numbered pictures.

    The pictures of segment n begin with number n * segment_s * fps. The first window is there
    from the start, and from then on a segment comes every `segment_s` seconds.
    """

    path = "/live.m3u8"

    def __init__(
        self,
        *,
        segment_s: float = 1.0,
        window: int = 5,
        fps: int = 25,
        size: tuple[int, int] = (320, 240),
    ) -> None:
        super().__init__()
        self._segment_s, self._window, self._fps, self._size = segment_s, window, fps, size
        self._started = time.monotonic()
        self._last: int | None = None
        self._lost: set[int] = set()
        self._elsewhere: dict[int, str] = {}

    @property
    def newest(self) -> int:
        """The number of the newest segment in the playlist."""
        if self._last is not None:
            return self._last
        return self._window - 1 + int((time.monotonic() - self._started) / self._segment_s)

    def lose(self, segment: int) -> None:
        """Answer 404 for this segment, which stays in the playlist."""
        self._lost.add(segment)

    def point(self, segment: int, url: str) -> None:
        """Let the playlist's entry of this segment be any other URL."""
        self._elsewhere[segment] = url

    def end(self) -> None:
        """End the playlist with what is in it now."""
        self._last = self.newest

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        name, _, kind = handler.path.strip("/").partition(".")
        if handler.path == self.path:
            body, mime = self._playlist().encode(), "application/vnd.apple.mpegurl"
        elif kind == "ts" and name.isdigit() and int(name) not in self._lost:
            count = round(self._segment_s * self._fps)
            body, mime = segment(int(name) * count, count, self._fps, self._size), "video/mp2t"
        else:
            handler.send_error(404)
            return
        handler.send_response(200)
        handler.send_header("Content-Type", mime)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _playlist(self) -> str:
        newest = self.newest
        oldest = newest - self._window + 1
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:3",
            f"#EXT-X-TARGETDURATION:{math.ceil(self._segment_s)}",
            f"#EXT-X-MEDIA-SEQUENCE:{oldest}",
        ]
        for number in range(oldest, newest + 1):
            lines.append(f"#EXTINF:{self._segment_s:.3f},")
            lines.append(self._elsewhere.get(number, f"{number}.ts"))
        if self._last is not None:
            lines.append("#EXT-X-ENDLIST")
        return "\n".join(lines) + "\n"


class RedirectServer(HttpServer):
    """Sends every client on to `target` with a 302."""

    path = "/moved"

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", self.target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()


@functools.lru_cache(maxsize=64)
def segment(first: int, count: int, fps: int, size: tuple[int, int]) -> bytes:
    """Return pictures number `first` and on as MPEG-TS, timed number / fps."""
    memory = io.BytesIO()
    # Counters begin anew with each segment, which is to be said lest packets count as lost.
    options = {"mpegts_flags": "initial_discontinuity"}
    with av.open(memory, "w", format="mpegts", options=options) as container:
        film(container, range(first, first + count), fps=fps, size=size)
    return memory.getvalue()
