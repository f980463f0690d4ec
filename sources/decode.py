"""From an open container to upright RGB pictures, for files and networks alike.

Only packets of one video stream are read. An error of the container itself is left to the caller,
because it means the end for a file and a loss for a network.
"""

import heapq
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from sources.deinterlace import Deinterlacer
from sources.status import FramesLost, LossReason

_SLOWEST_FPS, _FASTEST_FPS = 0.1, 1000.0
_FALLBACK_TIME_BASE = Fraction(1, 90_000)
# Their decoders drop frames without a word; elsewhere a packet may hold half a frame, or none.
_ONE_TO_ONE = ("av1", "hevc")


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An upright uint8 RGB image [H, W, 3], its stamp in the stream (s) and its cost (s)."""

    image: npt.NDArray[np.uint8]
    stamp_s: float | None
    decode_s: float


def choose_video(container: InputContainer) -> VideoStream | None:
    """Return the first video stream that can be decoded, the others turned off; None without one.

    Cover art of an audio file does not count.
    """
    chosen = None
    for stream in container.streams:
        if (
            chosen is None
            and isinstance(stream, VideoStream)
            and stream.codec_context is not None
            and not stream.disposition & Disposition.attached_pic
        ):
            chosen = stream
        else:
            stream.discard = Discard.all
    return chosen


def stream_fps(stream: VideoStream) -> float | None:
    """Return the nominal rate of the stream in frames per second, None where it is nonsense."""
    rate = stream.average_rate or stream.guessed_rate
    return float(rate) if rate and _SLOWEST_FPS <= rate <= _FASTEST_FPS else None


def upright_rgb(frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
    """Return the frame, of any pixel format, as contiguous uint8 RGB [H, W, 3], turned upright."""
    image = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    if not _is_mirrored(frame):
        return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))
    # The angle is that of a matrix which has been mirrored after it was turned.
    turned = np.rot90(image, round((-180 - frame.rotation) / 90))
    return np.ascontiguousarray(turned[:, ::-1])


def _is_mirrored(frame: av.VideoFrame) -> bool:
    """Whether the frame is to be shown as in a mirror, apart from being turned."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return False
    a, b, _, c, d = struct.unpack_from("=5i", bytes(matrix))
    return a * d - b * c < 0


class Decoder:
    """Makes pictures of the packets of one stream, and counts those that never become one.

    A packet that does not decode is skipped, so that damage costs pictures, not the stream.
    """

    def __init__(self, stream: VideoStream, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._time_base = stream.time_base or _FALLBACK_TIME_BASE
        self._clock = clock
        self._stamps = Stamps()
        self._deinterlacer = Deinterlacer()
        one_to_one = stream.codec_context.codec.canonical_name in _ONE_TO_ONE
        self._owed = Owed() if one_to_one else None
        self._spent_s = 0.0

    def feed(self, packet: "av.Packet[VideoStream]") -> Iterator[Picture | FramesLost]:
        """Yield what becomes known with one more packet."""
        # To a decoder a packet of nothing is the end; containers mean "as before" by it.
        if packet.size == 0:
            return
        if self._owed is not None and packet.pts is not None and not packet.is_discard:
            self._owed.send(packet.pts)
        yield from self._decode(packet)

    def finish(self) -> Iterator[Picture | FramesLost]:
        """Yield what is left when there are no more packets."""
        yield from self._decode(None)
        for frame in self._deinterlacer.drain():
            yield self._picture(frame)
        if self._owed is not None and self._owed.left:
            yield FramesLost(self._owed.left, LossReason.CORRUPT)

    def _decode(self, packet: "av.Packet[VideoStream] | None") -> Iterator[Picture | FramesLost]:
        began_s = self._clock()
        ready: list[av.VideoFrame] = []
        lost = 0
        try:
            for frame in self._stream.decode(packet):
                if self._owed is not None:
                    lost += self._owed.receive(frame.pts)
                if frame.is_corrupt:
                    lost += 1
                    continue
                frame.pts = self._stamps.best(frame.pts, frame.dts)
                # The last ones come without.
                frame.time_base = self._time_base
                ready += self._deinterlacer.push(frame)
        except av.FFmpegError:
            # Where frames are owed by their stamps, this one will be missed by its own.
            lost += self._owed is None or packet is None or packet.pts is None
        self._spent_s += self._clock() - began_s
        if lost:
            yield FramesLost(lost, LossReason.CORRUPT)
        for frame in ready:
            yield self._picture(frame)

    def _picture(self, frame: av.VideoFrame) -> Picture | FramesLost:
        began_s = self._clock()
        try:
            image = upright_rgb(frame)
        except (av.FFmpegError, ValueError, MemoryError):
            return FramesLost(1, LossReason.CORRUPT)
        decode_s = self._spent_s + self._clock() - began_s
        self._spent_s = 0.0
        return Picture(image, frame.time, decode_s)


class Stamps:
    """Chooses between the two stamps of frames: when to show it, and when it was decoded.

    Some containers, AVI for one, number packets in the order of decoding, and call that the time
    to show them. Where that goes backward, the order of decoding is the better clock.
    """

    def __init__(self) -> None:
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._disorder = 0

    def best(self, pts: int | None, dts: int | None) -> int | None:
        """Return the stamp of the next frame, None if it has none."""
        if pts is not None:
            self._disorder += self._last_pts is not None and pts < self._last_pts
            self._last_pts = pts
        if dts is not None:
            self._disorder -= self._last_dts is not None and dts < self._last_dts
            self._last_dts = dts
        if pts is None or (self._disorder > 0 and dts is not None):
            return dts
        return pts


class Owed:
    """Which frames a decoder still owes: one for each packet, with the same stamp."""

    def __init__(self) -> None:
        self._stamps: list[int] = []

    def send(self, stamp: int) -> None:
        """A packet goes into the decoder."""
        heapq.heappush(self._stamps, stamp)

    def receive(self, stamp: int | None) -> int:
        """A frame comes out; how many before it never will, as frames come in order."""
        lost = 0
        while stamp is not None and self._stamps and self._stamps[0] < stamp:
            heapq.heappop(self._stamps)
            lost += 1
        if self._stamps and stamp in (None, self._stamps[0]):
            heapq.heappop(self._stamps)
        return lost

    @property
    def left(self) -> int:
        """How many frames are owed."""
        return len(self._stamps)
