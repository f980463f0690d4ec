"""Numbers and times the frames of a live source by when they arrive."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sources.frame import VideoFrame


class Arrivals:
    """Makes frames whose media time is the clock since the first of them arrived."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seq = 0
        self._started_s = 0.0

    def frame(self, image: npt.NDArray[np.uint8], decode_s: float) -> VideoFrame:
        """Return the frame of an RGB image [H, W, 3] that is ready now and took `decode_s`."""
        arrived_s = self._clock()
        if self._seq == 0:
            self._started_s = arrived_s
        pts_s = arrived_s - self._started_s
        frame = VideoFrame(image, self._seq, pts_s, arrived_s, decode_s)
        self._seq += 1
        return frame
