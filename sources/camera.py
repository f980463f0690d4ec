"""Reads a local camera by its index, through OpenCV because PyAV's wheels have no camera input.

A camera is live: time is the clock at arrival, and a camera that stops giving frames is lost.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from sources.errors import SourceLostError, SourceOpenError
from sources.frame import SourceInfo, VideoFrame
from sources.guard import ReadGuard
from sources.live import Arrivals


class CameraSource:
    """The frames of one camera; raises SourceOpenError where it is absent or gives none."""

    def __init__(self, index: int, *, clock: Callable[[], float]) -> None:
        self._index = index
        self._clock = clock
        self._arrivals = Arrivals(clock)
        self._capture = _open(index)
        self._guard = ReadGuard(self._capture.release)
        try:
            self._first: VideoFrame | None = self._grab()
        except SourceLostError:
            self._guard.close()
            raise SourceOpenError(
                f"Camera {index} opened but gave no picture; close other programs that use it."
            ) from None
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        height, width = self._first.image.shape[:2]
        self._info = SourceInfo(f"camera {index}", True, width, height, fps if fps > 0 else None)

    @property
    def info(self) -> SourceInfo:
        """What the camera is."""
        return self._info

    def read(self) -> VideoFrame | None:
        """Return the next frame, None once closed; raises SourceLostError."""
        return self._guard.run(self._next)

    def close(self) -> None:
        """End the source; a blocked read returns None when the driver lets go of it."""
        self._guard.close()

    def _next(self) -> VideoFrame:
        first, self._first = self._first, None
        return first or self._grab()

    def _grab(self) -> VideoFrame:
        if self._capture.grab():
            started = self._clock()
            ok, bgr = self._capture.retrieve()
            if ok:
                image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
                return self._arrivals.frame(image, self._clock() - started)
        raise SourceLostError(
            f"Camera {self._index} stopped giving frames; check its cable and open it again."
        )


def _open(index: int) -> cv2.VideoCapture:
    linux = sys.platform == "linux"
    # OpenCV prints pages about a camera that is not there, so ask the system first.
    if not linux or Path(f"/dev/video{index}").exists():
        capture = cv2.VideoCapture(index, cv2.CAP_V4L2 if linux else cv2.CAP_ANY)
        if capture.isOpened():
            return capture
        capture.release()
    raise SourceOpenError(
        f"There is no camera {index} that can be opened; plug it in, or give another index."
    )
