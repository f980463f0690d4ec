"""Decodes a live stream as its packets come, and keeps up with the present."""

from collections.abc import Callable, Iterator

import av
from av.codec.context import Flags
from av.container import InputContainer
from av.video.stream import VideoStream

from sources.allowance import MAX_BYTES_S, MAX_PACKETS_S, Allowance
from sources.capture_errors import CaptureError, error_code
from sources.captured import Captured, Losses, Opened
from sources.catch_up import CatchUp, Played
from sources.decode import Picture, choose_video, stream_fps, upright_rgb

# For so long nothing is better than a damaged picture; after that a damaged one is.
_WHOLE_S = 1.0


def live_pictures(
    container: InputContainer,
    max_pixels: int,
    clock: Callable[[], float],
    *,
    hwaccel: str | None = None,
    bounded: bool = False,
) -> Iterator[Captured]:
    """Yield what a stream shows until it is lost, or has ended if it has an end.

    Args:
        hwaccel: what the container was to be decoded on.
        bounded: whether bytes and packets a second are; what is too much waits at its sender.
    """
    stream = choose_video(container)
    if stream is None:
        raise CaptureError("no_video")
    decoder = _Decoder(stream, max_pixels, clock)
    has_end = bool(container.duration and container.duration > 0)
    format_ = container.format.name
    # A camera's MJPEG has no clock, and FFmpeg takes all of it for 25 pictures a second.
    timeless = "jpeg" in format_
    # What comes whole or in segments is played by its own clock.
    played = Played(clock) if has_end or "hls" in format_ else None
    catch_up = CatchUp(clock) if played is None and not timeless else None
    num_bytes, num_packets = Allowance(MAX_BYTES_S, clock), Allowance(MAX_PACKETS_S, clock)
    opened = False
    try:
        for packet in container.demux(stream):
            if bounded:
                num_bytes.spend(packet.size)
                num_packets.spend(1)
            if catch_up is not None and not catch_up.take(_stamp(packet), packet.is_keyframe):
                yield Losses(stale=1)
                continue
            for item in decoder.decode(packet):
                if isinstance(item, Picture):
                    if not opened:
                        opened = True
                        fps = None if timeless else stream_fps(stream)
                        yield _opened(stream, item, fps, hwaccel)
                    if played is not None:
                        played.wait_until_due(item.stamp_s)
                yield item
    except (av.FFmpegError, OSError) as error:
        raise CaptureError("lost" if opened else error_code(error)) from None
    if not has_end:
        # A live stream has no end: how its loss is reported varies, a clean end among it.
        raise CaptureError("lost" if opened else "no_video")


class _Decoder:
    """Makes pictures of packets; what is damaged is lost unless there is nothing else for long."""

    def __init__(self, stream: VideoStream, max_pixels: int, clock: Callable[[], float]) -> None:
        # Decoding several frames at a time would hold each of them back.
        stream.thread_type = "SLICE"
        stream.codec_context.flags |= Flags.low_delay
        # Refused by the decoder before it takes the memory, also when the size changes later.
        stream.codec_context.options = {"max_pixels": str(max_pixels)}
        self._clock = clock
        self._whole_at_s = clock()

    def decode(self, packet: "av.Packet[VideoStream]") -> Iterator[Picture | Losses]:
        began_s = self._clock()
        try:
            frames = packet.decode()
        except av.FFmpegError:
            yield Losses(corrupt=1)
            return
        for frame in frames:
            if not frame.is_corrupt:
                self._whole_at_s = self._clock()
            elif self._clock() - self._whole_at_s < _WHOLE_S:
                yield Losses(corrupt=1)
                continue
            image = upright_rgb(frame)
            yield Picture(image, frame.time, self._clock() - began_s)
            began_s = self._clock()


def _stamp(packet: "av.Packet[VideoStream]") -> float | None:
    """When it is to be decoded, in seconds; None where that is not known.

    When it is to be shown says nothing of how late it comes: before pictures that build on a later
    one comes that later one.
    """
    dts, time_base = packet.dts, packet.time_base
    return None if dts is None or time_base is None else float(dts * time_base)


def _opened(
    stream: VideoStream, picture: Picture, fps: float | None, hwaccel: str | None
) -> Opened:
    height, width = picture.image.shape[:2]
    detail = f"{width}x{height}"
    if fps is not None:
        detail += f" at {fps:g} fps"
    detail += f", {stream.codec_context.name}"
    if stream.codec_context.is_hwaccel:
        detail += " in hardware"
    elif hwaccel is not None:
        detail += f" in software (hwaccel {hwaccel} cannot be used)"
    return Opened(width, height, fps, detail)
