"""A websocket of the HTTP application, whose client can neither keep us busy nor fill our memory.

It is uvicorn's, and is made as careful as a `GuardedSocket`: frames that are no messages are
counted, no more is taken apart than one message after the other, and who does not hear that it is
let go is cut off.
"""

from asyncio.transports import BaseTransport
from typing import Any

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request

from stream.guarded_socket import (
    FRAME_BURST,
    FRAMES_S,
    MOST_SOCKETS,
    PIECE_BYTES,
    is_no_message,
)
from stream.token_bucket import TokenBucket

# How long a client that is let go has for hearing why.
_CLOSE_S = 1.0


class UpgradedSocket(WebSocketsSansIOProtocol):
    """The application finds it as `line` in its state, to end it or to allow longer messages."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._other_frames = TokenBucket(FRAMES_S, FRAME_BURST, self.loop.time())
        self._unread = bytearray()
        self._ended = False

    def allow(self, message_bytes: int) -> None:
        """Take messages of so many bytes."""
        self.conn.max_message_size = message_bytes

    def abort(self) -> None:
        """End it at once, whatever waits to be sent."""
        self._ended = True
        self.transport.abort()

    def hang_up(self, code: int, reason: str = "") -> None:
        """Say why and heed no more; who does not hear it is cut off all the same."""
        if self._ended or self.disconnected:
            return
        self._ended = self.close_sent = True
        self.stop_keepalive()
        self.conn.fail(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        # What the client still sends is read and forgotten: were it left in the line, closing would
        # take from the client what it was told.
        self._unread.clear()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.transport.resume_reading()
        self.close_timer = self.loop.call_later(_CLOSE_S, self.transport.abort)
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.close_timeout = _CLOSE_S
        if len(self.connections) > MOST_SOCKETS:
            self.abort()

    def data_received(self, data: bytes) -> None:
        if not self._ended:
            self._unread += data
            self._read_on()

    async def receive(self) -> ASGIReceiveEvent:
        message = await super().receive()
        self._read_on()
        return message

    async def send(self, message: ASGISendEvent) -> None:
        await self.writable.wait()
        if self._ended:
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            # A refusal is an answer; uvicorn would log that there was none.
            self.handshake_complete = True

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            # The application begins only after this.
            self.scope["state"]["line"] = self

    def handle_ping(self) -> None:
        if not self._ended:  # there may be more of them in the piece that was one too many
            super().handle_ping()
            self._count()

    def handle_pong(self, event: Frame) -> None:
        super().handle_pong(event)
        self._count()

    def handle_cont(self, event: Frame) -> None:
        super().handle_cont(event)
        self._count(event)

    def handle_text(self, event: Frame) -> None:
        super().handle_text(event)
        self._count(event)

    def handle_bytes(self, event: Frame) -> None:
        super().handle_bytes(event)
        self._count(event)

    def handle_close(self, event: Frame) -> None:
        super().handle_close(event)
        if self.close_timer is None:
            # Also if it says so, and does not read what is on its way.
            self.close_timer = self.loop.call_later(_CLOSE_S, self.transport.abort)

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not _is_utf8(b"".join(self.frames)):
            self.hang_up(CloseCode.INVALID_DATA, "text is UTF-8")
        else:
            super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        self.hang_up(CloseCode.PROTOCOL_ERROR)  # unless it has said already what is wrong

    def keepalive_timeout(self) -> None:
        self.hang_up(CloseCode.INTERNAL_ERROR, "no answer to a ping")

    def shutdown(self) -> None:
        if self.handshake_complete:
            while not self.queue.empty():  # or they would be read first, as slowly as ever
                self.queue.get_nowait()
            self.hang_up(CloseCode.GOING_AWAY, "the server ends")
        else:
            super().shutdown()

    def _read_on(self) -> None:
        """Take apart what has come, until there is a message that the application has not read."""
        while self._unread and not (self.read_paused or self._ended):
            piece = bytes(self._unread[:PIECE_BYTES])
            del self._unread[:PIECE_BYTES]
            super().data_received(piece)
            if self.conn.handshake_exc is not None and not self.handshake_initiated:
                # A request that is too long for it; nothing would ever answer.
                self._ended = True
                self.transport.write(b"".join(self.conn.data_to_send()))
                self.transport.close()

    def _count(self, frame: Frame | None = None) -> None:
        """Let go who sends too many frames that are no messages."""
        if self._ended or (frame is not None and not is_no_message(frame)):
            return
        if self._other_frames.wait_s(self.loop.time()):
            self.hang_up(CloseCode.POLICY_VIOLATION, "too many pings or fragments")
            self.transport.pause_reading()  # there may be no end to them
        else:
            self._other_frames.take()


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
