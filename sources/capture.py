"""What the capturing process captures: a network stream, a camera, or a screen.

A capture is a generator of Opened (once), Picture and Losses; it returns when a stream with an end
has ended, and raises CaptureError when it is lost. It may hang in a library: who runs it must be
able to kill it.
"""

import io
import socket
from collections.abc import Callable, Generator, Iterator
from typing import Any
from urllib.parse import urlsplit

import av
from av.codec.codec import Codec
from av.codec.hwaccel import HWAccel, hwdevices_available

from sources.capture_errors import CaptureError, error_code
from sources.captured import Captured
from sources.errors import SourceRefusedError
from sources.fetch import Fetch
from sources.live_pictures import live_pictures
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
    except UnicodeError:  # a part of the host's name is empty or too long
        raise CaptureError("unknown_host") from None
    except (av.FFmpegError, OSError) as error:
        # FFmpeg has several errors for one and the same silence.
        silent = isinstance(error, av.FFmpegError) and clock() - began_s >= OPEN_TIMEOUT_S
        raise CaptureError("silent" if silent else error_code(error)) from None
    with container:
        yield from live_pictures(
            container,
            capture["max_pixels"],
            clock,
            hwaccel=capture.get("hwaccel"),
            bounded="policy" in capture,
        )


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
        yield from live_pictures(container, capture["max_pixels"], clock)


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
