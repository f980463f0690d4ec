"""Turns what a user writes (a camera, a screen, an address or a path) into a source."""

import math
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from urllib.request import url2pathname

from sources.errors import SourceOpenError
from sources.file import FileSource
from sources.frame import VideoSource
from sources.live import LiveSource
from sources.policy import ClientPolicy, check_url
from sources.pushed import PushedSource
from sources.redact import safe_url
from sources.synthetic import SyntheticSource

_NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https")
_SUPPORTED = (
    "give a camera index, camera:DEVICE, screen, push, synthetic, a file, a folder, or an rtsp://, "
    "rtsps://, http://, https:// or file:// address"
)
_MAX_FPS = 120.0


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How sources are opened, where it makes a difference.

    Attributes:
        loop: what has an end starts again.
        transport: tcp or udp, for RTSP.
        hwaccel: a device to decode network streams on, auto, or None for software.
        start_s: how much of files to pass over, in seconds; with `loop`, in every round.
        image_fps: how many of a folder's pictures are a second.
    """

    loop: bool = False
    transport: str = "tcp"
    hwaccel: str | None = None
    start_s: float = 0.0
    image_fps: float = 25.0

    def __post_init__(self) -> None:
        """Refuse with a ValueError what makes no sense."""
        if not 0.0 <= self.start_s < math.inf:
            raise ValueError(f"start {self.start_s:g} s: give the seconds to pass over")
        if not 0.0 < self.image_fps < math.inf:
            raise ValueError(f"{self.image_fps:g} pictures a second: give a number above 0")


def open_source(
    uri: str,
    options: SourceOptions | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> VideoSource:
    """Open a camera, a screen, `push`, `synthetic...`, a network address, a path or a file:// one.

    Live sources are not waited for: whether they are there is told by what they give. Raises
    SourceOpenError for what can never be opened.
    """
    options = options or SourceOptions()
    camera = re.fullmatch(r"(?:/dev/video)?([0-9]{1,4})", uri)
    if camera is not None or uri.startswith("camera:"):
        device = camera[1] if camera else uri.removeprefix("camera:")
        return _camera(device, clock)
    if uri == "push":
        return PushedSource("pushed pictures", clock=clock)
    if uri == "screen" or uri.startswith("screen:"):
        return _screen(uri, clock)
    if uri == "synthetic" or uri.startswith(("synthetic:", "synthetic#")):
        return SyntheticSource(uri, loop=options.loop, clock=clock)
    scheme, has_scheme, path = uri.partition("://")
    if not has_scheme:
        if not uri.strip():
            raise SourceOpenError(f"No source was named; {_SUPPORTED}.")
        return _file(Path(uri), options, clock)
    if scheme.lower() in _NETWORK_SCHEMES:
        return _network(uri, options, clock)
    if scheme.lower() == "file":
        return _file(Path(url2pathname(path)), options, clock)
    raise SourceOpenError(f"The scheme of {safe_url(uri)} is not supported; {_SUPPORTED}.")


def open_client_source(
    url: str,
    policy: ClientPolicy,
    options: SourceOptions | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> VideoSource:
    """Open a network address that a client gave, if the policy allows it.

    Where it leads is judged as it is connected to: a source that leads to an address that is not
    allowed fails. Raises SourceRefusedError for what is never allowed.
    """
    check_url(url, policy)
    capture = {
        "kind": "network",
        "url": url,
        "hwaccel": (options or SourceOptions()).hwaccel,
        "policy": policy.to_dict(),
    }
    return LiveSource(safe_url(url), capture, clock=clock)


def _file(path: Path, options: SourceOptions, clock: Callable[[], float]) -> FileSource:
    return FileSource(
        path,
        loop=options.loop,
        clock=clock,
        start_s=options.start_s,
        image_fps=options.image_fps,
    )


def _network(url: str, options: SourceOptions, clock: Callable[[], float]) -> LiveSource:
    name = safe_url(url)
    try:
        parts = urlsplit(url)
        well_formed = bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        well_formed = False
    if not well_formed or any(character.isspace() for character in url):
        raise SourceOpenError(
            f"{name} is not an address; write scheme://host:port/path, and special characters of "
            "a password as %XX."
        )
    capture = {
        "kind": "network",
        "url": url,
        "transport": options.transport,
        "hwaccel": options.hwaccel,
    }
    return LiveSource(name, capture, clock=clock)


def _camera(text: str, clock: Callable[[], float]) -> LiveSource:
    """`0`, `/dev/video0`, or either with `?size=1280x720&fps=30&format=mjpg`."""
    device, _, query = text.partition("?")
    device = device.removeprefix("/dev/video") if device[10:].isdigit() else device
    capture: dict[str, Any] = {"kind": "camera", "device": device}
    if device.isdigit():
        capture["device"] = int(device)
    elif not device.startswith("/"):
        raise SourceOpenError(f"camera:{text}: name a camera by index or by its path in /dev.")
    for key, value in parse_qsl(query, keep_blank_values=True):
        size = re.fullmatch(r"(\d{2,5})x(\d{2,5})", value)
        if key == "size" and size is not None:
            capture["size"] = [int(size[1]), int(size[2])]
        elif key == "fps" and re.fullmatch(r"\d{1,3}(\.\d+)?", value) and float(value) > 0:
            capture["fps"] = float(value)
        elif key == "format" and re.fullmatch(r"[A-Za-z0-9]{3,4}", value):
            capture["format"] = value
        else:
            raise SourceOpenError(
                f"camera:{text}: {key}={value} is not understood; "
                "write camera:0?size=1280x720&fps=30&format=mjpg."
            )
    return LiveSource(f"camera {device}", capture, clock=clock)


def _screen(uri: str, clock: Callable[[], float]) -> LiveSource:
    """`screen`, `screen::0` or `screen::0@15`: an X11 display and a frame rate."""
    match = re.fullmatch(r"screen(?::([^@]+))?(?:@(\d{1,3}(?:\.\d+)?))?", uri)
    display = (match[1] if match else None) or os.environ.get("DISPLAY", "")
    fps = float(match[2]) if match and match[2] else 25.0
    if (
        match is None
        or not re.fullmatch(r"[\w.-]*:\d+(\.\d+)?", display)
        or not 0 < fps <= _MAX_FPS
    ):
        raise SourceOpenError(
            f"{uri!r} is no screen; write screen:DISPLAY@FPS, for example screen::0@15, "
            "or set DISPLAY."
        )
    capture = {"kind": "screen", "display": display, "fps": fps}
    return LiveSource(f"screen {display}", capture, clock=clock)
