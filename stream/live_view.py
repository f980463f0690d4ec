"""What a stream looks like right now, for people: a websocket at /v1/live/NAME, or MJPEG.

Every new picture is scaled down and encoded once, however many look at it. On the websocket each is
one binary message: the frame's number (uint64), its `pts_s` (float64) and its age in milliseconds
(float64), big-endian, and then a JPEG. Whoever looks gives credit back by any text message; so a
slow line sees fewer pictures and never old ones.
"""

import asyncio
import contextlib
import logging
import struct
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

import cv2
import numpy as np
from websockets.exceptions import ConnectionClosed

from sources.frame import VideoFrame
from sources.picture import encode_jpeg
from stream.client_socket import Socket
from stream.events import Event, FrameAdmitted
from stream.protocol_replies import refusal
from stream.registry import StreamRegistry, UnknownStreamError
from stream.token_bucket import TokenBucket

LIVE_PATH = "/v1/live/"
MJPEG_PATH = "/v1/streams/{name}/live.mjpg"
MJPEG_BOUNDARY = "ivl-picture"
CREDIT = 2
MAX_SIDE = 640
MAX_LOOKERS = 128
_JPEG_QUALITY = 80
_MESSAGES_S, _MESSAGE_BURST = 60.0, 60
_LOOK_AGAIN_S = 1.0
_HEADER = struct.Struct(">Qdd")


@dataclass(frozen=True, slots=True, eq=False)
class LivePicture:
    """A frame and its JPEG, scaled down to MAX_SIDE."""

    frame: VideoFrame
    jpeg: bytes

    def message(self, now_s: float) -> bytes:
        """With what is told of it in front."""
        frame = self.frame
        return _HEADER.pack(frame.seq, frame.pts_s, 1e3 * (now_s - frame.arrived_s)) + self.jpeg


class LiveView:
    """The newest pictures of a registry's streams; all methods but `subscribe` run on its loop."""

    def __init__(
        self, registry: StreamRegistry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._registry, self._clock = registry, clock
        self._awaited: dict[str, asyncio.Event] = {}
        self._made: dict[str, tuple[VideoFrame, asyncio.Task[LivePicture]]] = {}
        self._lookers: dict[str, int] = {}

    def num_lookers(self, name: str) -> int:
        """How many look at a stream."""
        return self._lookers.get(name, 0)

    def subscribe(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        """Hear of new frames from now on; returns what ends it."""

        def listener(event: Event) -> None:
            if isinstance(event, FrameAdmitted) and event.stream in self._awaited:
                with contextlib.suppress(RuntimeError):  # the loop may have closed just now
                    loop.call_soon_threadsafe(self._came, event.stream)

        return self._registry.subscribe(listener)

    async def next(self, name: str, after: LivePicture | None = None) -> LivePicture:
        """The newest picture, once there is a newer one; raises UnknownStreamError."""
        while True:
            awaited = self._awaited.setdefault(name, asyncio.Event())
            frame = self._registry.snapshot(name)
            if frame is not None and (after is None or frame is not after.frame):
                return await self._encoded(name, frame)
            with contextlib.suppress(TimeoutError):
                # Not for ever: the stream may be closed meanwhile.
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await awaited.wait()

    async def pictures(self, name: str) -> AsyncGenerator[LivePicture]:
        """The newest again and again; raises UnknownStreamError once the stream is closed."""
        self._lookers[name] = self.num_lookers(name) + 1
        picture = None
        try:
            while True:
                picture = await self.next(name, picture)
                yield picture
        finally:
            self._lookers[name] -= 1
            if not self._lookers[name]:
                # Of what nobody looks at nothing is kept.
                del self._lookers[name]
                self._made.pop(name, None)
                self._awaited.pop(name, None)

    async def handle(self, socket: Socket, name: str, slow_s: float) -> None:
        """One who looks, by a websocket, until they go or take a picture longer than `slow_s`."""
        if sum(self._lookers.values()) >= MAX_LOOKERS:
            return await socket.close(1013, "too many look")
        credit = asyncio.BoundedSemaphore(CREDIT)
        bucket = TokenBucket(_MESSAGES_S, _MESSAGE_BURST, self._clock())
        sending = asyncio.create_task(self._send(socket, name, credit, slow_s))
        try:
            async for _ in socket:
                await asyncio.sleep(bucket.wait_s(self._clock()))
                bucket.take()
                with contextlib.suppress(ValueError):  # more than there is to give back
                    credit.release()
        finally:
            sending.cancel()
            await asyncio.wait([sending])

    async def _send(
        self, socket: Socket, name: str, credit: asyncio.Semaphore, slow_s: float
    ) -> None:
        try:
            await credit.acquire()
            async with contextlib.aclosing(self.pictures(name)) as pictures:
                async for picture in pictures:
                    async with asyncio.timeout(slow_s):
                        await socket.send(picture.message(self._clock()))
                    await credit.acquire()
        except UnknownStreamError as error:
            with contextlib.suppress(ConnectionClosed):
                await socket.send(refusal("not_found", str(error), fatal=True).to_json())
                await socket.close(1008, "not_found")
        except TimeoutError:
            socket.abort()
        except ConnectionClosed:
            pass
        except Exception:
            logging.getLogger(__name__).exception("a picture cannot be shown")
            socket.abort()

    async def mjpeg(self, name: str) -> AsyncGenerator[bytes]:
        """The parts of a multipart/x-mixed-replace body, for browsers without websockets."""
        with contextlib.suppress(UnknownStreamError):
            async for picture in self.pictures(name):
                head = f"--{MJPEG_BOUNDARY}\r\nContent-Type: image/jpeg\r\n"
                length = f"Content-Length: {len(picture.jpeg)}\r\n\r\n"
                yield (head + length).encode() + picture.jpeg + b"\r\n"

    def _came(self, name: str) -> None:
        awaited = self._awaited.pop(name, None)
        if awaited is not None:
            awaited.set()

    async def _encoded(self, name: str, frame: VideoFrame) -> LivePicture:
        """The picture of a frame: made by whoever is first to want it, for all who do."""
        made = self._made.get(name)
        if made is None or made[0] is not frame:
            made = frame, asyncio.create_task(asyncio.to_thread(_encode, frame))
            self._made[name] = made
        return await asyncio.shield(made[1])


def _encode(frame: VideoFrame) -> LivePicture:
    image, (height, width) = frame.image, frame.image.shape[:2]
    scale = MAX_SIDE / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return LivePicture(frame, encode_jpeg(image, _JPEG_QUALITY))
