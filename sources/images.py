"""Pictures, one a file, played as a clip."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sources.decode import Picture
from sources.errors import PictureError, SourceOpenError
from sources.picture import MAX_BYTES, decode_picture
from sources.redact import safe_url
from sources.status import FramesLost, LossReason

# A start that falls on a picture must find it in spite of rounding.
_EARLY = 1e-6


class ImageClip:
    """A Clip of files, `fps` a second, in the order they are given.

    A picture that cannot be read leaves its moment empty. Raises SourceOpenError if none can be.
    """

    def __init__(self, paths: Sequence[Path], fps: float, clock: Callable[[], float]) -> None:
        self.name = safe_url(str(paths[0] if len(paths) == 1 else paths[0].parent))
        self.fps: float | None = fps
        self.interval_s = 1.0 / fps
        self.damage: str | None = None
        self._paths = paths
        self._clock = clock
        self._why = ""
        self._begin: list[Picture | FramesLost] = []
        for index in range(len(paths)):
            item = self._read(index)
            self._begin.append(item)
            if isinstance(item, Picture):
                return
        which = self.name
        if len(paths) > 1:
            which = f"None of the {len(paths)} pictures in {self.name} can be read; the last"
        raise SourceOpenError(f"{which}: {self._why}")

    def items(self, skip_s: float = 0.0) -> Iterator[Picture | FramesLost]:
        """Yield the pictures."""
        begin, self._begin = self._begin, []
        first = len(begin) - 1
        yield from begin
        del begin
        skipped = first + math.ceil(max(skip_s, 0.0) / self.interval_s - _EARLY)
        for index in range(max(skipped, first + 1), len(self._paths)):
            yield self._read(index)

    def close(self) -> None:
        """Nothing is held open."""

    def _read(self, index: int) -> Picture | FramesLost:
        began_s = self._clock()
        try:
            with self._paths[index].open("rb") as file:
                image = decode_picture(file.read(MAX_BYTES + 1))
        except PictureError as error:
            self._why = str(error)
        except OSError:
            self._why = "The file cannot be read; check that this user may read it."
        else:
            return Picture(image, index * self.interval_s, self._clock() - began_s)
        return FramesLost(1, LossReason.CORRUPT)
