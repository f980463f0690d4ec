"""From an open container to upright RGB pictures, for files and networks alike.

Only packets of one video stream are read. A packet that does not decode is skipped, so damage
costs pictures, not the stream; an error of the container itself is left to the caller, because
it means the end for a file and a loss for a network.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

_SLOWEST_FPS, _FASTEST_FPS = 0.1, 1000.0


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
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))


def pictures(
    container: InputContainer, stream: VideoStream, clock: Callable[[], float]
) -> Iterator[Picture | None]:
    """Yield the pictures of `stream` in order, and None for a packet that gave none.

    Raises av.FFmpegError when the container cannot be read further.
    """
    spent = 0.0
    for packet in container.demux(stream):
        started = clock()
        frames = _decode(packet)
        spent += clock() - started
        if not frames:
            yield None
        for frame in frames:
            started = clock()
            image = upright_rgb(frame)
            spent += clock() - started
            yield Picture(image, frame.time, spent)
            spent = 0.0


def _decode(packet: "av.Packet[VideoStream]") -> list[av.VideoFrame]:
    try:
        return packet.decode()
    except av.FFmpegError:
        return []
