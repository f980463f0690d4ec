"""Why a capture could not begin or go on, by a code, and what the codes mean in words.

Libraries' own messages are never passed on: they hold addresses with passwords.
"""

import socket

import av

WORDS = {
    "absent": "it is not there; plug it in, or check its number or path",
    "busy": "it gives no picture; close other programs that use it",
    "denied": "access was denied; check the user name, password or token",
    "died": "the decoder crashed",
    "ended": "it ended",
    "forbidden": "it leads to an address that clients may not ask for",
    "failed": "the connection failed; check that the address is a video stream",
    "lost": "no more pictures came",
    "memory": "decoding it takes too much memory",
    "missing": "the server has no such stream; check the path",
    "no_video": "it carries no video that can be decoded",
    "redirected": "the server sends us elsewhere, which is not followed; give the final address",
    "refused": "the connection was refused; check host and port, and that the server runs",
    "silent": "it was silent for too long",
    "too_large": "its pictures are larger than is allowed",
    "unknown_host": "there is no such host; check the name",
    "unsupported": "this cannot be captured here",
}

# What trying again would not change.
FINAL = ("forbidden", "redirected")


class CaptureError(Exception):
    """A capture came to an end; `code` is one of WORDS."""

    def __init__(self, code: str) -> None:
        assert code in WORDS, code
        super().__init__(code)
        self.code = code


def error_code(error: Exception) -> str:
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
