"""Plays files as one stream, as fast as it is asked for frames.

Time comes from the files. It runs on one frame interval after the last frame where the next file
begins, where a loop begins again, and where stamps are missing, repeated or make no sense.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import chain, groupby
from pathlib import Path

from sources.clip import Clip, VideoClip
from sources.decode import Picture
from sources.errors import SourceOpenError
from sources.frame import SourceInfo, SourceItem, VideoFrame
from sources.guard import PulledSource
from sources.images import ImageClip
from sources.playlist import find_files, is_picture
from sources.redact import safe_url
from sources.status import FramesLost, SourceCondition, SourceStatus

# Stamps this far back are out of order; those further back begin anew, as in joined files.
_OUT_OF_ORDER_S = 1.0
# Nobody waits longer than this for the next frame of a file: such a stamp is wrong.
_LONGEST_GAP_S = 60.0
# A start that falls on a frame must find it in spite of rounding.
_EARLY_S = 1e-6

_Played = Clip | Picture | FramesLost | SourceStatus


class FileSource(PulledSource):
    """The frames of a video, of a folder, of a list of files or of all that a pattern matches.

    Pictures among the files play at `image_fps`. The stream begins with the first frame at or
    after `start_s`, and with `loop` every round does. A file that cannot be read is told of and
    skipped. Raises SourceOpenError if none can be, also from `read` when a round begins.
    """

    def __init__(
        self,
        path: Path,
        *,
        loop: bool,
        clock: Callable[[], float],
        start_s: float = 0.0,
        image_fps: float = 25.0,
    ) -> None:
        name = safe_url(str(path))
        openers = _openers(find_files(path), image_fps, clock)
        playing = _play(name, openers, loop, start_s)
        begin: list[_Played] = []
        fps = None
        for item in playing:
            begin.append(item)
            match item:
                case Picture():
                    height, width = item.image.shape[:2]
                    break
                case FramesLost() | SourceStatus():
                    pass
                case clip:
                    fps = clip.fps
        info = SourceInfo(name, False, width, height, fps)
        super().__init__(info, _frames(chain(begin, playing), clock), playing.close)


class Timeline:
    """Turns the stamps of files into seconds that start at 0 and never go backward.

    `due_s` is when the next frame is if it has no stamp.
    """

    def __init__(self, interval_s: float = 0.0) -> None:
        self.due_s = 0.0
        self._interval_s = interval_s
        self._longest_gap_s = _LONGEST_GAP_S
        self._last_s = 0.0
        self._last_stamp_s: float | None = None
        self._offset_s: float | None = None

    def place(self, stamp_s: float | None) -> float:
        """Return the time of the next frame, given its stamp in seconds if it has one."""
        time_s = self.due_s
        if stamp_s is not None and stamp_s != self._last_stamp_s:
            if self._offset_s is None:
                self._offset_s = self.due_s - stamp_s
            ahead_s = stamp_s + self._offset_s - self._last_s
            if 0.0 <= ahead_s <= self._longest_gap_s:
                time_s = stamp_s + self._offset_s
            elif ahead_s > 0.0 or ahead_s < -_OUT_OF_ORDER_S:
                self._offset_s = self.due_s - stamp_s
            self._last_stamp_s = stamp_s
        self._last_s = time_s
        self.due_s = time_s + self._interval_s
        return time_s

    def jump(self, interval_s: float, passed_over_s: float = 0.0) -> None:
        """Put the next frame where it is due, whatever its stamp, and take another interval.

        From now on `passed_over_s` may be left out between two frames.
        """
        self._interval_s = interval_s
        self._longest_gap_s = max(_LONGEST_GAP_S, passed_over_s)
        self._last_stamp_s = self._offset_s = None


def _openers(
    files: Sequence[Path], image_fps: float, clock: Callable[[], float]
) -> list[Callable[[], Clip]]:
    """What opens the clips that files make: a video is one, pictures in a row are one."""
    openers: list[Callable[[], Clip]] = []
    for still, group in groupby(files, is_picture):
        if still:
            openers.append(partial(ImageClip, list(group), image_fps, clock))
        else:
            openers += [partial(VideoClip, file, clock) for file in group]
    return openers


def _play(
    name: str, openers: Sequence[Callable[[], Clip]], loop: bool, start_s: float
) -> Generator[_Played, None, None]:
    """Yield each clip and then what it holds, round after round; close it behind them."""
    while True:
        shown, skipped, wrong = False, Timeline(), ""
        for number, opener in enumerate(openers):
            last = not loop and number == len(openers) - 1
            try:
                clip = opener()
            except SourceOpenError as error:
                if len(openers) == 1:
                    raise
                wrong = wrong or str(error)
                yield _news(f"skipped: {error}", last)
                continue
            with closing(clip):
                yield clip
                skip_s = 0.0 if shown else start_s - skipped.due_s
                skipped.jump(clip.interval_s, skip_s)
                for item in clip.items(skip_s):
                    if isinstance(item, Picture) and not shown:
                        shown = skipped.place(item.stamp_s) >= start_s - _EARLY_S
                    if shown or start_s == 0.0:
                        yield item
                if clip.damage is not None:
                    wrong = wrong or clip.damage
                    yield _news(clip.damage, last)
        if not shown:
            raise SourceOpenError(_why_nothing(name, len(openers), skipped.due_s, start_s, wrong))
        if not loop:
            return


def _why_nothing(name: str, num_files: int, length_s: float, start_s: float, wrong: str) -> str:
    """Why a round had no picture, in a sentence."""
    if length_s == 0.0:
        return f"None of the {num_files} files of {name} can be read; the first: {wrong}"
    if wrong:
        return f"{name} has no picture to start with at {start_s:g} s: {wrong.rstrip('.')}."
    return f"{name} is {length_s:.1f} s long; start before {start_s:g} s."


def _news(detail: str, last: bool) -> SourceStatus:
    return SourceStatus(SourceCondition.ENDED if last else SourceCondition.LIVE, detail)


def _frames(items: Iterable[_Played], clock: Callable[[], float]) -> Iterator[SourceItem]:
    """Put the pictures of all clips on one line of time."""
    timeline = Timeline()
    seq = 0
    for item in items:
        match item:
            case Picture(image, stamp_s, decode_s):
                yield VideoFrame(image, seq, timeline.place(stamp_s), clock(), decode_s)
                seq += 1
            case FramesLost() | SourceStatus():
                yield item
            case clip:
                timeline.jump(clip.interval_s)
