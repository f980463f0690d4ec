"""Reads a live stream over RTSP or HTTP(S).

Time is the clock at arrival, because a camera's own stamps jump and drift. A live stream has no
end, so one that stops, even cleanly, is lost. There is no reconnecting here: the caller opens anew.
"""

from collections.abc import Callable
from typing import NoReturn

import av
from av.codec.context import Flags
from av.container import InputContainer

from sources.decode import choose_video, pictures, stream_fps
from sources.errors import SourceLostError, SourceOpenError
from sources.frame import SourceInfo, VideoFrame
from sources.guard import ReadGuard
from sources.live import Arrivals
from sources.redact import safe_url

_OPTIONS = {
    "rtsp_transport": "tcp",
    "fflags": "nobuffer+discardcorrupt",
    "max_delay": "500000",
    "probesize": "500000",
    "analyzeduration": "500000",
    "protocol_whitelist": "rtsp,rtp,udp,tcp,tls,http,https,httpproxy,crypto,data",
}
# A stream is often joined between keyframes, and nothing can be shown before the next one.
_PICTURE_TIMEOUT_S = 10.0


class NetworkSource:
    """The frames of a live stream, as they arrive.

    `timeout` is the longest wait, in seconds, to connect and for the next bytes; FFmpeg may take
    twice the latter to notice. Raises SourceOpenError where no first frame comes.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], float],
        timeout: tuple[float, float] = (5.0, 2.0),
    ) -> None:
        self._name = safe_url(url)
        self._clock = clock
        self._arrivals = Arrivals(clock)
        self._container = _connect(url, self._name, timeout)
        self._guard = ReadGuard(self._container.close)
        stream = choose_video(self._container)
        if stream is None:
            self._refuse("it carries no video; give a stream with video")
        # Decoding several frames at a time would hold each of them back.
        stream.thread_type = "SLICE"
        stream.codec_context.flags |= Flags.low_delay
        self._pictures = pictures(self._container, stream, clock)
        try:
            self._first = self._receive()
        except SourceLostError:
            self._first = None
        if self._first is None:
            self._refuse("it sent no picture; check that the camera is sending video")
        height, width = self._first.image.shape[:2]
        self._info = SourceInfo(self._name, True, width, height, stream_fps(stream))

    @property
    def info(self) -> SourceInfo:
        """What the stream is."""
        return self._info

    def read(self) -> VideoFrame | None:
        """Return the next frame, None once closed; raises SourceLostError."""
        return self._guard.run(self._next)

    def close(self) -> None:
        """End the source; a blocked read returns None at the next packet or read timeout."""
        self._guard.close()

    def _next(self) -> VideoFrame | None:
        first, self._first = self._first, None
        return first or self._receive()

    def _receive(self) -> VideoFrame | None:
        """Return the next frame off the network, None once closed; raises SourceLostError."""
        deadline_s = self._clock() + _PICTURE_TIMEOUT_S
        try:
            for picture in self._pictures:
                if self._guard.closed:
                    return None
                if picture is not None:
                    return self._arrivals.frame(picture.image, picture.decode_s)
                if self._clock() > deadline_s:
                    break
        except av.FFmpegError:
            # How a stall is reported varies, and the message would show the password.
            pass
        raise SourceLostError(
            f"The stream {self._name} was lost; open it again once it is back on air."
        )

    def _refuse(self, reason: str) -> NoReturn:
        self._guard.close()
        raise SourceOpenError(f"Could not open {self._name}: {reason}.")


def _connect(url: str, name: str, timeout: tuple[float, float]) -> InputContainer:
    try:
        return av.open(url, options=_OPTIONS, timeout=timeout)
    except (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError):
        reason = "access was denied; check the user name, password or token"
    except av.error.HTTPNotFoundError:
        reason = "the server has no such stream; check the path"
    except av.error.ConnectionRefusedError:
        reason = "the connection was refused; check host and port, and that the server is running"
    except (av.FFmpegError, OSError):
        reason = f"no video came within {timeout[0]:g} s; check that the address is a video stream"
    raise SourceOpenError(f"Could not open {name}: {reason}.")
