"""A live camera of moving noise that costs next to nothing, at an exact pace."""

import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sources.frame import SourceInfo, VideoFrame
from sources.guard import PulledSource


def made_camera(fps: float, size: tuple[int, int], phase_s: float = 0.0) -> PulledSource:
    """A source that yields a frame every 1 / fps seconds of the real clock.

    Args:
        size: width and height in pixels.
        phase_s: how much later than the others' its frames come.
    """
    width, height = size
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pictures = [np.roll(noise, 8 * i, 1) for i in range(8)]
    info = SourceInfo(f"made:{width}x{height}", True, width, height, fps)
    return PulledSource(info, _frames(pictures, fps, phase_s))


def _frames(
    pictures: list[npt.NDArray[np.uint8]], fps: float, phase_s: float
) -> Iterator[VideoFrame]:
    start_s, seq = time.monotonic() + phase_s, 0
    while True:
        due_s = start_s + seq / fps
        time.sleep(max(0.0, due_s - time.monotonic()))
        yield VideoFrame(pictures[seq % len(pictures)], seq, seq / fps, time.monotonic(), 0.0)
        seq += 1
