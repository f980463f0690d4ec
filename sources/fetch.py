"""HTTP for sources that clients asked for: each connection judged, no redirects, bounded bytes.

FFmpeg is given these readers instead of addresses, for playlists' entries as well, so it never
connects anywhere by itself.
"""

import base64
import http.client
import io
import socket
import ssl
from collections.abc import Callable
from urllib.parse import SplitResult, unquote

from sources.allowance import MAX_BYTES_S, Allowance
from sources.capture_errors import CaptureError
from sources.errors import SourceRefusedError
from sources.policy import ClientPolicy, allowed_address, check_url

TIMEOUT_S = 8.0
_REFUSALS = {401: "denied", 403: "denied", 404: "missing"}


class Fetch:
    """Opens HTTP addresses that a policy allows, as av.open's `io_open`."""

    def __init__(self, policy: ClientPolicy, clock: Callable[[], float]) -> None:
        self._policy = policy
        self._allowance = Allowance(MAX_BYTES_S, clock)
        self._opened = False

    def open(self, url: str, flags: int, options: dict[str, str]) -> io.RawIOBase:
        """Return a reader of the body of `url`.

        What is missing inside a playlist is empty, since a live one moves on. Raises CaptureError
        for everything else that is not there or not allowed.
        """
        try:
            parts = check_url(url, self._policy)
            if not parts.scheme.startswith("http"):
                raise CaptureError("forbidden")
            response = _get(parts, *allowed_address(parts, self._policy))
        except SourceRefusedError:
            raise CaptureError("forbidden") from None
        except socket.gaierror:
            raise CaptureError("unknown_host") from None
        except TimeoutError:
            raise CaptureError("silent") from None
        except (OSError, http.client.HTTPException, ValueError):
            raise CaptureError("refused") from None
        nested, self._opened = self._opened, True
        if response.status == http.client.OK:
            return _Body(response, self._allowance)
        response.close()
        if 300 <= response.status < 400:
            raise CaptureError("redirected")
        if nested:
            return io.BytesIO()  # type: ignore[return-value]
        raise CaptureError(_REFUSALS.get(response.status, "failed"))


class _Body(io.RawIOBase):
    """The body of a response, as it comes."""

    def __init__(self, response: http.client.HTTPResponse, allowance: Allowance) -> None:
        self._response = response
        self._allowance = allowance

    def read(self, size: int = -1) -> bytes:
        data = self._response.read1(size)
        self._allowance.spend(len(data))
        return data

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._response.close()
        super().close()


def _get(parts: SplitResult, address: str, port: int) -> http.client.HTTPResponse:
    """Ask `address` for what is at an address that names it otherwise."""
    raw = socket.create_connection((address, port), TIMEOUT_S)
    try:
        if parts.scheme == "https":
            context = ssl.create_default_context()
            raw = context.wrap_socket(raw, server_hostname=parts.hostname)
        assert parts.hostname is not None
        connection = http.client.HTTPConnection(parts.hostname, port, timeout=TIMEOUT_S)
        connection.sock = raw
        headers = {"Connection": "close", "Host": parts.netloc.rpartition("@")[2]}
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers=headers)
        return connection.getresponse()
    except BaseException:
        raw.close()
        raise
