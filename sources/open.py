"""Turns what a user writes (a camera index, an address or a path) into an open source."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import url2pathname

from sources.camera import CameraSource
from sources.errors import SourceOpenError
from sources.file import FileSource
from sources.frame import VideoSource
from sources.network import NetworkSource
from sources.redact import safe_url
from sources.synthetic import SyntheticSource

_NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https")
_SUPPORTED = (
    "give a camera index, synthetic, a file path, or an rtsp://, rtsps://, http://, https:// "
    "or file:// address"
)


def open_source(
    uri: str, *, loop: bool = False, clock: Callable[[], float] = time.monotonic
) -> VideoSource:
    """Open a camera index, `synthetic...`, a network address, a path or a file:// address.

    `loop` makes what has an end start again; live sources ignore it. Raises SourceOpenError.
    """
    camera = re.fullmatch(r"(?:/dev/video)?([0-9]{1,4})", uri)
    if camera is not None:
        return CameraSource(int(camera[1]), clock=clock)
    if uri == "synthetic" or uri.startswith(("synthetic:", "synthetic#")):
        return SyntheticSource(uri, loop=loop, clock=clock)
    scheme, has_scheme, path = uri.partition("://")
    if not has_scheme:
        if not uri.strip():
            raise SourceOpenError(f"No source was named; {_SUPPORTED}.")
        return FileSource(Path(uri), loop=loop, clock=clock)
    if scheme.lower() in _NETWORK_SCHEMES:
        return NetworkSource(uri, clock=clock)
    if scheme.lower() == "file":
        return FileSource(Path(url2pathname(path)), loop=loop, clock=clock)
    raise SourceOpenError(f"The scheme of {safe_url(uri)} is not supported; {_SUPPORTED}.")
