"""One video file, from opening it to its end: its pictures in order, and what of it was lost.

Whatever the file holds, nothing larger than MAX_PIXELS is decoded: the container is asked for the
size first, with no decoder at hand, and the decoder refuses what the container did not admit.
"""

import os.path
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Protocol

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from sources.decode import Decoder, Picture, choose_video, stream_fps
from sources.errors import SourceOpenError
from sources.frame import MAX_PIXELS, MAX_SIDE, is_too_large
from sources.redact import safe_url
from sources.status import FramesLost

_FALLBACK_FPS = 25.0
# Formats whose header says how long they are; elsewhere FFmpeg guesses.
_KNOW_THEIR_LENGTH = ("mov,", "matroska,", "avi", "flv", "asf")
_SHORT_BY_S = 0.5
# Decoding this much is quicker than going elsewhere in the file.
_NEAR_S = 1.0
# Some formats go to a place after the one asked for, the more often the nearer it is.
_SEEK_EARLIER_S = (0.0, 2.0, 15.0, 60.0)


class Clip(Protocol):
    """Something open that has pictures and an end.

    Attributes:
        name: safe to print.
        fps: nominal, None if it is not known.
        interval_s: between two pictures, where their stamps do not say.
        damage: at the end, a sentence if it came too early.
    """

    name: str
    fps: float | None
    interval_s: float
    damage: str | None

    def items(self, skip_s: float = 0.0) -> Iterator[Picture | FramesLost]:
        """Yield the pictures, and what was lost between them; to be called once.

        Of those less than `skip_s` seconds after the first one, only the first is sure to come.
        """

    def close(self) -> None:
        """Free it; may be called again."""


class VideoClip:
    """A Clip of any format that FFmpeg reads. Raises SourceOpenError."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self.name = safe_url(str(path))
        self.damage: str | None = None
        self._path = path
        self._clock = clock
        self._container, self._stream = _open(path, self.name)
        self.fps = stream_fps(self._stream)
        self.interval_s = 1.0 / (self.fps or _FALLBACK_FPS)
        self._begin_s: float | None = None
        self._seen_s = 0.0
        self._rest = self._decode()
        self._begin: list[Picture | FramesLost] = []
        for item in self._rest:
            self._begin.append(item)
            if isinstance(item, Picture):
                return
        self.close()
        raise SourceOpenError(
            f"No picture of {self.name} could be decoded: the file is damaged, incomplete or of "
            "more than 4096 x 2304 pixels, so give an intact or a smaller one."
        )

    def items(self, skip_s: float = 0.0) -> Iterator[Picture | FramesLost]:
        """Yield the pictures; far ones are gone to."""
        begin, self._begin = self._begin, []
        yield from begin
        first = begin[-1]
        del begin
        assert isinstance(first, Picture), first
        if first.stamp_s is not None and skip_s > _NEAR_S and self._is_stamped():
            self._rest = self._seek(first.stamp_s + skip_s)
        del first
        yield from self._rest

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _is_stamped(self) -> bool:
        """Whether every packet says when it is shown; if not, FFmpeg is a frame off elsewhere."""
        name = self._container.format.name
        return name != "mpeg" and not (name == "avi" and self._stream.codec_context.has_b_frames)

    def _seek(self, stamp_s: float) -> Iterator[Picture | FramesLost]:
        """The pictures from a key frame at or before `stamp_s` on."""
        for earlier_s in _SEEK_EARLIER_S:
            try:
                self._container.seek(int((stamp_s - earlier_s) * av.time_base))
            except (av.FFmpegError, OverflowError):
                break
            run = self._decode()
            found = next((item for item in run if isinstance(item, Picture)), None)
            if found is not None and found.stamp_s is not None and found.stamp_s <= stamp_s:
                return chain([found], run)
        # What cannot be gone to is reached by decoding all that is before it.
        self.close()
        self._container, self._stream = _open(self._path, self.name)
        return self._decode()

    def _decode(self) -> Iterator[Picture | FramesLost]:
        """The pictures from where the container is to its end."""
        self.damage = None
        decoder = Decoder(self._stream, self._clock)
        try:
            for packet in self._container.demux(self._stream):
                self._follow(packet)
                yield from decoder.feed(packet)
            self.damage = self._shortfall()
        except av.FFmpegError:
            self.damage = f"{self.name} is damaged and cannot be read beyond {self._seen_s:.1f} s"
        yield from decoder.finish()

    def _follow(self, packet: "av.Packet[VideoStream]") -> None:
        """Note how much of the file has been seen, in seconds."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        time_base = packet.time_base
        if stamp is None or time_base is None:
            return
        if self._begin_s is None:
            self._begin_s = float(stamp * time_base)
        end_s = float((stamp + (packet.duration or 0)) * time_base)
        self._seen_s = max(self._seen_s, end_s - self._begin_s)

    def _shortfall(self) -> str | None:
        """What to say if the container promised more."""
        if not self._container.format.name.startswith(_KNOW_THEIR_LENGTH):
            return None
        lengths_s = []
        time_base = self._stream.time_base
        if self._stream.duration is not None and time_base is not None:
            lengths_s.append(float(self._stream.duration * time_base))
        if self._container.duration is not None:
            lengths_s.append(self._container.duration / av.time_base)
        # The container may count what an edit list leaves out, or sound that goes on.
        length_s = min(lengths_s, default=0.0)
        if length_s - self._seen_s <= _SHORT_BY_S:
            return None
        return (
            f"{self.name} is damaged: it ends after {self._seen_s:.1f} s, though it says that it "
            f"is {length_s:.1f} s long"
        )


def _open(path: Path, name: str) -> tuple[InputContainer, VideoStream]:
    # What is no file, such as a pipe, can be read only once.
    if os.path.isfile(path):
        with _container(path, name, codec_whitelist="none") as container:
            _video(container, name)
    container = _container(path, name, max_pixels=str(MAX_PIXELS))
    try:
        stream = _video(container, name)
    except SourceOpenError:
        container.close()
        raise
    stream.thread_type = "AUTO"
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return container, stream


def _container(path: Path, name: str, **options: str) -> InputContainer:
    # Unlike the methods of Path, these never raise.
    if os.path.isdir(path):
        raise SourceOpenError(f"{name} is a directory; give the path of a video file.")
    if not os.path.exists(path):
        raise SourceOpenError(f"There is no file {name}; give the path of a video file.")
    # A playlist may not reach out to the network.
    options["protocol_whitelist"] = "file,crypto,data"
    try:
        # The prefix keeps a colon in the path from reading as a protocol.
        container = av.open(f"file:{path}", options=options, metadata_errors="replace")
    except PermissionError:
        raise SourceOpenError(f"{name} may not be read; give this user read permission.") from None
    except (av.FFmpegError, OSError):
        container = None
    # FFmpeg plays any text as terminal art.
    if container is None or container.format.name == "tty":
        raise SourceOpenError(
            f"{name} is not a video that can be read; give a video file such as MP4, MKV or AVI."
        )
    return container


def _video(container: InputContainer, name: str) -> VideoStream:
    """The video of a container, if its size is one that is taken."""
    stream = choose_video(container)
    if stream is None:
        raise SourceOpenError(f"{name} has no video stream; give a file with moving pictures.")
    size = stream.codec_context
    if is_too_large(size.width, size.height):
        raise SourceOpenError(
            f"The pictures of {name} are {size.width} x {size.height}, and at most 4096 x 2304 "
            f"pixels are taken, {MAX_SIDE} a side; scale them down."
        )
    return stream
