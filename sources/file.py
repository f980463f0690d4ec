"""Reads a video file as fast as it is asked for frames.

Time comes from the file. Where stamps are missing or jump backward (joined files do that), the
clip goes on one frame interval after the last frame, and looping is just one more such jump.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from sources.decode import Picture, choose_video, pictures, stream_fps
from sources.errors import SourceOpenError
from sources.frame import SourceInfo, VideoFrame
from sources.guard import ReadGuard
from sources.redact import safe_url

_FALLBACK_FPS = 25.0


class FileSource:
    """The frames of one video file; with `loop`, over and over with no seam in time.

    Raises SourceOpenError, also from `read` if the file is gone when it should start again.
    """

    def __init__(self, path: Path, *, loop: bool, clock: Callable[[], float]) -> None:
        self._path = path
        self._loop = loop
        self._clock = clock
        self._seq = 0
        self._container, stream, first, self._pictures = _start(path, clock)
        fps = stream_fps(stream)
        height, width = first.image.shape[:2]
        self._info = SourceInfo(safe_url(str(path)), False, width, height, fps)
        self._timeline = Timeline(1.0 / (fps or _FALLBACK_FPS))
        self._guard = ReadGuard(lambda: self._container.close())

    @property
    def info(self) -> SourceInfo:
        """What the file is."""
        return self._info

    def read(self) -> VideoFrame | None:
        """Return the next frame, None at the end or once closed."""
        return self._guard.run(self._next)

    def close(self) -> None:
        """End the source; a read under way finishes decoding and returns None."""
        self._guard.close()

    def _next(self) -> VideoFrame | None:
        picture = next(self._pictures, None)
        if picture is None and self._loop:
            picture = self._restart()
        if picture is None:
            return None
        frame = VideoFrame(
            image=picture.image,
            seq=self._seq,
            pts_s=self._timeline.place(picture.stamp_s),
            arrived_s=self._clock(),
            decode_s=picture.decode_s,
        )
        self._seq += 1
        return frame

    def _restart(self) -> Picture | None:
        # Opening anew costs a few ms and, unlike seeking, works in every format.
        self._container.close()
        self._container, _, _, self._pictures = _start(self._path, self._clock)
        self._timeline.jump()
        return next(self._pictures, None)


class Timeline:
    """Turns the stamps of a file into seconds that start at 0 and never go backward."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._last_s = -interval_s
        self._offset_s: float | None = None

    def place(self, stamp_s: float | None) -> float:
        """Return the time of the next frame, given its stamp in seconds if it has one."""
        due_s = self._last_s + self._interval_s
        if stamp_s is None:
            self._last_s = due_s
            return due_s
        if self._offset_s is None or stamp_s + self._offset_s < self._last_s:
            self._offset_s = due_s - stamp_s
        self._last_s = stamp_s + self._offset_s
        return self._last_s

    def jump(self) -> None:
        """Put the next frame one interval after the last one, whatever its stamp."""
        self._offset_s = None


def _start(
    path: Path, clock: Callable[[], float]
) -> tuple[InputContainer, VideoStream, Picture, Iterator[Picture]]:
    """Return the open file, its video, the first picture, and all pictures from that one on."""
    name = safe_url(str(path))
    container = _open(path, name)
    stream = choose_video(container)
    if stream is None:
        container.close()
        raise SourceOpenError(f"{name} has no video stream; give a file with moving pictures.")
    stream.thread_type = "AUTO"
    run = _until_end(container, stream, clock)
    first = next(run, None)
    if first is None:
        container.close()
        raise SourceOpenError(
            f"No picture of {name} could be decoded; the file is damaged or incomplete, "
            "so give an intact copy."
        )
    return container, stream, first, chain([first], run)


def _open(path: Path, name: str) -> InputContainer:
    if path.is_dir():
        raise SourceOpenError(f"{name} is a directory; give the path of a video file.")
    if not path.exists():
        raise SourceOpenError(f"There is no file {name}; give the path of a video file.")
    try:
        # The prefix keeps a colon in the path from reading as a protocol, and the whitelist keeps
        # a playlist from reaching out to the network.
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file,crypto,data"})
    except PermissionError:
        raise SourceOpenError(f"{name} may not be read; give this user read permission.") from None
    except (av.FFmpegError, OSError):
        container = None
    # FFmpeg plays any .txt file as terminal art.
    if container is None or container.format.name == "tty":
        raise SourceOpenError(
            f"{name} is not a video that can be read; give a video file such as MP4, MKV or AVI."
        )
    return container


def _until_end(
    container: InputContainer, stream: VideoStream, clock: Callable[[], float]
) -> Iterator[Picture]:
    try:
        for picture in pictures(container, stream, clock):
            if picture is not None:
                yield picture
    except av.FFmpegError:
        # A file cut short or damaged beyond reading ends where it can no longer be read.
        return
