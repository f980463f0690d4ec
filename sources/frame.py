"""What a source yields, and the small interface that every source keeps.

A source is pulled: `read` blocks until the next frame, so pacing, dropping and reconnecting are
the caller's decisions. Times are seconds of the clock that the source was given.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sources.status import FramesLost, SourceStatus

# The largest picture that is taken, from any source; what is larger is refused undecoded.
MAX_PIXELS = 4096 * 2304
# A line of a million pixels is small, and takes gigabytes while it is scaled to a square.
MAX_SIDE = 16_384


Image = npt.NDArray[np.uint8]


def is_too_large(width: int, height: int, max_pixels: int = MAX_PIXELS) -> bool:
    """Whether a picture of this size, in pixels, is refused."""
    return width * height > max_pixels or max(width, height) > MAX_SIDE


@dataclass(frozen=True, slots=True, eq=False)
class VideoFrame:
    """One upright picture and when it was.

    `image` is uint8 RGB [H, W, 3], contiguous, and its size may differ from frame to frame.
    `seq` counts the frames read, from 0. `pts_s` is media time in seconds since the first frame,
    never backward. `arrived_s` is the clock when the frame was ready, and `decode_s` the seconds
    that decoding and converting it took. `epoch` counts how often a live source was lost and
    found again before it.
    """

    image: Image
    seq: int
    pts_s: float
    arrived_s: float
    decode_s: float
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known of a source.

    `name` is safe to print. `width` and `height` are those of the first upright frame, in pixels,
    None before a live source has sent one. `fps` is the nominal rate, None where the source does
    not say or says nonsense.
    """

    name: str
    live: bool
    width: int | None = None
    height: int | None = None
    fps: float | None = None


SourceItem = VideoFrame | SourceStatus | FramesLost


class VideoSource(Protocol):
    """A stream of frames, read by one thread and closed by any."""

    @property
    def info(self) -> SourceInfo:
        """What the source is."""

    def read(self) -> SourceItem | None:
        """Block for what comes next; None at the end and after `close`.

        A live source that is lost says so and tries again for ever. Raises SourceError if a source
        cannot go on.
        """

    def close(self) -> None:
        """End the source: a blocked or later `read` returns None. May be called again."""
