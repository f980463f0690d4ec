"""A websocket whose client cannot keep us busy with what is no message.

Messages are read only as fast as a client may send them. Pings, pongs and tiny fragments are
handled by the websockets library as they come, a million of them as well: so they are counted
here, and who sends too many is let go.
"""

import asyncio
import time
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request

from stream.token_bucket import TokenBucket

FRAMES_S, FRAME_BURST = 20.0, 200
# Sockets in all, also those that have not yet said what they want.
MOST_SOCKETS = 256
_TINY_BYTES = 1024
# Frames that have come at once are looked at in pieces: after one too many no more are.
PIECE_BYTES = 1024


class GuardedSocket(ServerConnection):
    """Counts frames that are no messages; closes with 1008 when they are too many."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._frames = TokenBucket(FRAMES_S, FRAME_BURST, time.monotonic())
        self._unread = bytearray()
        self._refused = False

    def abort(self) -> None:
        """End it at once, whatever waits to be sent."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.recv_messages.resume = self._go_on
        if len(self.server.handler_tasks) > MOST_SOCKETS:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unread.clear()
        # Or it would refer to itself, and be kept until all garbage is looked for.
        self.recv_messages.resume = lambda: None

    def data_received(self, data: bytes) -> None:
        self._unread += data
        self._read_on()

    def _read_on(self) -> None:
        """Take messages from what has come, until as many wait as may.

        The rest stays as it came: thousands of tiny messages are many times as large as objects.
        """
        while self._unread and not (self._refused or self.recv_messages.paused):
            piece = bytes(self._unread[:PIECE_BYTES])
            del self._unread[:PIECE_BYTES]
            super().data_received(piece)

    def _go_on(self) -> None:
        """Few messages wait any more."""
        self._read_on()
        if not self.recv_messages.paused:
            self.transport.resume_reading()

    def process_event(self, event: Request | Frame) -> None:  # type: ignore[override]
        super().process_event(event)
        if self._refused or not (isinstance(event, Frame) and is_no_message(event)):
            return
        if self._frames.wait_s(time.monotonic()):
            self._refuse()
        else:
            self._frames.take()

    def _refuse(self) -> None:
        """Say why, and read no more; who does not hear it is cut off all the same."""
        self._refused = True
        self._unread.clear()
        self.protocol.fail(CloseCode.POLICY_VIOLATION, "too many pings or fragments")
        self.send_data()
        self.transport.pause_reading()
        self.loop.call_later(self.close_timeout or 0.0, self.transport.abort)


def is_no_message(frame: Frame) -> bool:
    """Whether a frame brings no message nearer, or hardly."""
    if frame.opcode in (Opcode.PING, Opcode.PONG):
        return True
    return not frame.fin and len(frame.data) < _TINY_BYTES
