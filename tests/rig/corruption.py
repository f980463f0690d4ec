"""Flips bytes of a video on its way, and leaves the protocol around it readable."""

import random
import re

LONGEST_HEADER = 65536
ENDLESS = 1 << 62


class Corruption:
    """Flips a bit in a `share` of the media bytes of one connection: always the same bits.

    Media are RTSP's interleaved packets, all but their headers and RTCP, and the bodies of HTTP's
    answers or of the parts of these. Texts of both protocols stay whole.
    """

    def __init__(self) -> None:
        self._pending = b""  # of a header not yet whole
        self._left = 0  # bytes until the next header
        self._media = False
        self._gap = 0
        self._random = random.Random()
        self.share = 0.0

    def start(self, seed: str, share: float) -> None:
        """Flip bytes from here on; a share of 0 ends it."""
        self._random.seed(seed)
        self.share = share
        self._gap = self._next_gap()

    def _next_gap(self) -> int:
        return int(self._random.expovariate(self.share)) if self.share else 0

    def pass_on(self, data: bytes) -> bytes:
        """Return what of `data`, and of what was held back before it, can be sent on."""
        data, self._pending = self._pending + data, b""
        out = bytearray()
        while data:
            if not self._left:
                size = self._header(data)
                if not size:
                    self._pending = data
                    break
                out += data[:size]
                data = data[size:]
            piece, data = data[: self._left], data[self._left :]
            self._left -= len(piece)
            out += self._flip(piece) if self._media and self.share else piece
        return bytes(out)

    def _header(self, data: bytes) -> int:
        """Return the size of the header that `data` begins with, 0 if its end has yet to come."""
        if data[:1] == b"$":
            if len(data) < 4:
                return 0
            self._left, self._media = int.from_bytes(data[2:4]), data[1] % 2 == 0
            return 4
        head, end, _ = data.partition(b"\r\n\r\n")
        if not end and len(data) < LONGEST_HEADER:
            return 0
        fields = head.lower()
        self._media = not fields.startswith(b"rtsp/")
        self._left = 0
        if length := re.search(rb"\r\ncontent-length: *(\d+)", fields):
            self._left = int(length[1])
        elif self._media and b"multipart/" not in fields:
            self._left = ENDLESS
        return len(head + end)

    def _flip(self, piece: bytes) -> bytearray:
        flipped = bytearray(piece)
        while self._gap < len(piece):
            flipped[self._gap] ^= 1 << self._random.randrange(8)
            self._gap += 1 + self._next_gap()
        self._gap -= len(piece)
        return flipped
