"""RTSP over TCP, against a server of a few lines that carries MPEG-TS in RTP."""

import io
import socketserver
import struct
import threading
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import pytest

from sources.frame import VideoFrame
from sources.open import open_source
from sources.status import SourceStatus

FRAMES = 40
SDP = (
    b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
    b"m=video 0 RTP/AVP 33\r\na=control:track\r\n"
)


def transport_stream() -> bytes:
    """Return FRAMES red 160x120 pictures as MPEG-TS, 25 a second."""
    memory = io.BytesIO()
    with av.open(memory, "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(FRAMES):
            image = np.full((120, 160, 3), (250, 0, 0), np.uint8)
            frame = av.VideoFrame.from_ndarray(image)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return memory.getvalue()


class RtspHandler(socketserver.StreamRequestHandler):
    """Answers one client, sends it the whole stream at PLAY, and hangs up."""

    server: "RtspServer"

    def handle(self) -> None:
        while request := self.rfile.readline():
            headers = {}
            while (line := self.rfile.readline().strip()) != b"":
                key, _, value = line.partition(b":")
                headers[key.lower()] = value.strip()
            method = request.split()[0]
            extra, body = b"Session: 1\r\n", b""
            if method == b"DESCRIBE":
                extra, body = b"Content-Type: application/sdp\r\n", SDP
            elif method == b"SETUP":
                self.server.transports.append(headers[b"transport"])
                extra += b"Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            self.wfile.write(
                b"RTSP/1.0 200 OK\r\nCSeq: %s\r\n%sContent-Length: %d\r\n\r\n%s"
                % (headers[b"cseq"], extra, len(body), body)
            )
            if method == b"PLAY":
                self.send_stream()
                return

    def send_stream(self) -> None:
        data = self.server.stream
        for number, start in enumerate(range(0, len(data), 1316)):
            rtp = struct.pack(">BBHII", 0x80, 33, number & 0xFFFF, number * 900, 7)
            payload = rtp + data[start : start + 1316]
            self.wfile.write(b"$\0" + struct.pack(">H", len(payload)) + payload)


class RtspServer(socketserver.ThreadingTCPServer):
    """Serves `stream` and notes the transports that clients ask for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), RtspHandler)
        self.stream = transport_stream()
        self.transports: list[bytes] = []


@pytest.fixture
def server() -> Iterator[RtspServer]:
    with RtspServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_rtsp_is_read_over_tcp_until_it_is_lost(server: RtspServer) -> None:
    """An RTSP camera is asked for TCP, its frames come out, and its hanging up is a loss."""
    source = open_source(f"rtsp://127.0.0.1:{server.server_address[1]}/live")
    frames, conditions = [], []
    while "reconnecting" not in conditions:
        item = source.read()
        if isinstance(item, VideoFrame):
            frames.append(item)
        elif isinstance(item, SourceStatus):
            conditions.append(item.condition)
    source.close()
    assert conditions == ["connecting", "live", "reconnecting"]
    assert source.info.live
    assert (source.info.width, source.info.height) == (160, 120)
    assert 1 <= len(frames) <= FRAMES
    assert frames[0].image[60, 80, 0] > 200
    assert b"TCP" in server.transports[0]
