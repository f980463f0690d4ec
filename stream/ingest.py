"""Pictures that clients push: a websocket at /v1/ingest/NAME for each stream that takes them.

A binary frame is one JPEG, PNG or WebP picture; each is answered by `frame.ack`, or by `error` if
it is none that is taken. A client has as many pictures on their way as it has credit, which every
answer gives back: so a slow line holds few old pictures.
"""

from collections.abc import Mapping
from typing import Protocol

from sources.errors import PictureError, SourceError
from stream.client_socket import Socket
from stream.protocol import ErrorCode, FrameAck, IngestReady
from stream.protocol_replies import refusal

INGEST_PATH = "/v1/ingest/"
MAX_PICTURE_BYTES = 2 << 20
CREDIT = 4


class TakesPictures(Protocol):
    """A source that pictures are pushed to; it raises PictureError, or SourceError if it ended."""

    def push(self, data: bytes) -> None: ...


class Ingest:
    """The streams that take pictures, each from one client at a time."""

    def __init__(self, sources: Mapping[str, TakesPictures]) -> None:
        self._sources = sources
        self._busy: set[str] = set()

    async def handle(self, socket: Socket, name: str) -> None:
        """One client, until it goes; it may come again."""
        source = self._sources.get(name)
        if source is None:
            return await _refuse(socket, "not_found", "No stream of this name takes pictures.")
        if name in self._busy:
            return await _refuse(socket, "forbidden", "Another client pushes to this stream.")
        self._busy.add(name)
        try:
            await socket.send(IngestReady(stream=name, credit=CREDIT).to_json())
            await self._take(socket, source)
        finally:
            self._busy.discard(name)

    async def _take(self, socket: Socket, source: TakesPictures) -> None:
        num_taken = 0
        async for data in socket:
            if isinstance(data, str):
                answer = refusal("bad_request", "A picture is a binary frame.")
            else:
                try:
                    source.push(data)
                except PictureError as error:
                    answer = refusal("bad_picture", str(error))
                except SourceError as error:
                    return await _refuse(socket, "not_found", str(error))
                else:
                    num_taken += 1
                    await socket.send(FrameAck(taken=num_taken).to_json())
                    continue
            await socket.send(answer.to_json())


async def _refuse(socket: Socket, code: ErrorCode, message: str) -> None:
    await socket.send(refusal(code, message, fatal=True).to_json())
    await socket.close(1008, code)
