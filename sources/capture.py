"""What the capturing process captures: a network stream, a camera, or a screen.

A capture is a generator of Opened (once), Picture and Losses; it returns when a stream with an end
has ended, and raises CaptureError when it is lost. It may hang in a library: who runs it must be
able to kill it.
"""

import io
import socket
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import av
from av.codec.codec import Codec
from av.codec.context import Flags
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.container import InputContainer
from av.video.stream import VideoStream

from sources.capture_errors import CaptureError
from sources.catch_up import CatchUp, Played
from sources.decode import Picture, choose_video, stream_fps, upright_rgb
from sources.errors import SourceRefusedError
from sources.fetch import Fetch
from sources.policy import ClientPolicy, allowed_address, check_url

_NETWORK_OPTIONS = {
    # Not nobuffer: it throws away the key frame that was probed, and waits for the next one.
    "fflags": "discardcorrupt",
    "flags": "low_delay",
    "max_delay": "500000",
    "probesize": "100000",
    "analyzeduration": "300000",
    "protocol_whitelist": "rtsp,rtp,udp,tcp,tls,http,https,httpproxy,crypto,data",
}
# For what clients ask for: nothing that FFmpeg would open by itself, past `io_open`. Without rtsp
# among the protocols it still opens RTSP, but does not follow a server that sends it elsewhere.
_CLIENT_OPTIONS = {
    "http_persistent": "0",
    "format_whitelist": "rtsp,hls,mpegts,aac,mpjpeg,mjpeg,jpeg_pipe,mov,matroska,flv,avi,h264,hevc",
    "protocol_whitelist": "rtp,tcp,tls",
}
# Who runs the capture watches the pictures and ends it sooner; HLS may wait for a whole segment.
OPEN_TIMEOUT_S, READ_TIMEOUT_S = 8.0, 30.0


@dataclass(frozen=True, slots=True)
class Opened:
    """The first picture is there: its size in pixels, the nominal rate, and more in words."""

    width: int
    height: int
    fps: float | None
    detail: str


@dataclass(frozen=True, slots=True)
class Losses:
    """Packets that did not decode, and packets skipped to catch up."""

    corrupt: int = 0
    stale: int = 0


Captured = Opened | Picture | Losses


def open_capture(
    capture: dict[str, Any], clock: Callable[[], float]
) -> Generator[Captured, None, None]:
    """Begin to capture what a description says; its "kind" is network, screen or camera."""
    match capture["kind"]:
        case "network":
            yield from capture_network(capture, clock)
        case "screen":
            yield from capture_screen(capture, clock)
        case _:
            # OpenCV takes a while to import, and only cameras need it.
            from sources.capture_camera import capture_camera

            yield from capture_camera(capture, clock)


def capture_network(capture: dict[str, Any], clock: Callable[[], float]) -> Iterator[Captured]:
    """A stream at capture["url"], by FFmpeg.

    "transport" is tcp or udp for RTSP; "hwaccel" a device type, auto or None. With "policy" a
    client has asked for it, and only what that ClientPolicy allows is connected to.
    """
    options = _NETWORK_OPTIONS | {"rtsp_transport": capture.get("transport", "tcp")}
    url, io_open, began_s = capture["url"], None, clock()
    try:
        if "policy" in capture:
            url, io_open = _guarded(url, ClientPolicy.from_dict(capture["policy"]), clock)
            options |= _CLIENT_OPTIONS
            if io_open is not None:
                options["protocol_whitelist"] = "data"
        else:
            # FFmpeg does not tell an unknown host from other failures.
            socket.getaddrinfo(urlsplit(url).hostname, None)
        container = av.open(
            url,
            options=options,
            timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S),
            io_open=io_open,
            hwaccel=choose_hwaccel(capture.get("hwaccel")),
        )
    except SourceRefusedError:
        raise CaptureError("forbidden") from None
    except (av.FFmpegError, OSError) as error:
        # FFmpeg has several errors for one and the same silence.
        silent = isinstance(error, av.FFmpegError) and clock() - began_s >= OPEN_TIMEOUT_S
        raise CaptureError("silent" if silent else _code(error)) from None
    with container:
        yield from _pictures(container, capture["max_pixels"], clock, capture.get("hwaccel"))


def _guarded(
    url: str, policy: ClientPolicy, clock: Callable[[], float]
) -> tuple[str, Callable[..., io.RawIOBase] | None]:
    """The address to open and what opens it, so that only what was judged is connected to."""
    parts = check_url(url, policy)
    if parts.scheme.startswith("http"):
        return url, Fetch(policy, clock).open
    address, port = allowed_address(parts, policy)
    user, at, _ = parts.netloc.rpartition("@")
    host = f"[{address}]" if ":" in address else address
    return parts._replace(netloc=f"{user}{at}{host}:{port}").geturl(), None


def capture_screen(capture: dict[str, Any], clock: Callable[[], float]) -> Iterator[Captured]:
    """An X11 display, such as :0, at capture["fps"]."""
    options = {"framerate": str(capture.get("fps", 25)), "draw_mouse": "1"}
    try:
        container = av.open(capture["display"], format="x11grab", options=options)
    except (av.FFmpegError, OSError, ValueError):
        raise CaptureError("absent") from None
    with container:
        yield from _pictures(container, capture["max_pixels"], clock)


def choose_hwaccel(wanted: str | None) -> HWAccel | None:
    """A device to decode on: `wanted`, or with auto the first that works; None for software."""
    if wanted is None:
        return None
    known = hwdevices_available()
    for kind in known if wanted == "auto" else [wanted]:
        try:
            device = HWAccel(device_type=kind, allow_software_fallback=True)
            device.create(Codec("h264", "r"))
        except (av.FFmpegError, ValueError, NotImplementedError, RuntimeError, KeyError):
            continue
        return HWAccel(device_type=kind, allow_software_fallback=True)
    return None


def _pictures(
    container: InputContainer,
    max_pixels: int,
    clock: Callable[[], float],
    hwaccel: str | None = None,
) -> Iterator[Captured]:
    """Decode as packets come, keeping up with the present."""
    stream = choose_video(container)
    if stream is None:
        raise CaptureError("no_video")
    # Decoding several frames at a time would hold each of them back.
    stream.thread_type = "SLICE"
    stream.codec_context.flags |= Flags.low_delay
    # Refused by the decoder before it takes the memory, also when the size changes later.
    stream.codec_context.options = {"max_pixels": str(max_pixels)}
    has_end = bool(container.duration and container.duration > 0)
    format_ = container.format.name
    # What comes whole or in segments is played by its own clock; a camera's MJPEG has none.
    played = Played(clock) if has_end or "hls" in format_ else None
    catch_up = CatchUp(clock) if played is None and "jpeg" not in format_ else None
    opened = False
    try:
        for packet in container.demux(stream):
            if catch_up is not None and not catch_up.take(_stamp(packet), packet.is_keyframe):
                yield Losses(stale=1)
                continue
            began_s = clock()
            try:
                frames = packet.decode()
            except av.FFmpegError:
                yield Losses(corrupt=1)
                continue
            for frame in frames:
                image = upright_rgb(frame)
                picture = Picture(image, frame.time, clock() - began_s)
                if not opened:
                    opened = True
                    yield _opened(stream, picture, hwaccel)
                if played is not None:
                    played.wait_until_due(frame.time)
                yield picture
                began_s = clock()
    except (av.FFmpegError, OSError) as error:
        raise CaptureError(_code(error) if not opened else "lost") from None
    if not has_end:
        # A live stream has no end: how its loss is reported varies, a clean end among it.
        raise CaptureError("lost" if opened else "no_video")


def _stamp(packet: "av.Packet[VideoStream]") -> float | None:
    stamp = packet.pts if packet.pts is not None else packet.dts
    return None if stamp is None or packet.time_base is None else float(stamp * packet.time_base)


def _opened(stream: VideoStream, picture: Picture, hwaccel: str | None) -> Opened:
    height, width = picture.image.shape[:2]
    fps = stream_fps(stream)
    detail = f"{width}x{height}"
    if fps is not None:
        detail += f" at {fps:g} fps"
    detail += f", {stream.codec_context.name}"
    if stream.codec_context.is_hwaccel:
        detail += " in hardware"
    elif hwaccel is not None:
        detail += f" in software (hwaccel {hwaccel} cannot be used)"
    return Opened(width, height, fps, detail)


def _code(error: Exception) -> str:
    """What an error of FFmpeg means; its text is not read, since it holds the address."""
    match error:
        case av.error.HTTPUnauthorizedError() | av.error.HTTPForbiddenError():
            return "denied"
        case av.error.HTTPNotFoundError():
            return "missing"
        case av.error.ConnectionRefusedError():
            return "refused"
        case av.error.TimeoutError() | av.error.ExitError():
            return "silent"
        case socket.gaierror():
            return "unknown_host"
        case av.error.InvalidDataError():
            return "no_video"
        case MemoryError():
            return "memory"
    return "failed"
