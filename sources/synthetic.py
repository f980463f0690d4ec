"""A moving test pattern: a disc that bounces over a gradient, with the frame number in figures.

Each frame is a pure function of its number, so any of them can be checked from the picture alone.
"""

import re
from collections.abc import Callable, Iterator
from itertools import count

import cv2
import numpy as np
import numpy.typing as npt

from sources.errors import SourceOpenError
from sources.frame import SourceInfo, VideoFrame
from sources.guard import PulledSource

_SPEC = re.compile(r"synthetic(?::(\d+)x(\d+)@(\d+(?:\.\d+)?))?(?:#(\d+))?")
_DISC_RGB = (240, 80, 32)
_SMALLEST, _LARGEST = 16, 8192


class SyntheticSource(PulledSource):
    """The pattern `synthetic[:WIDTHxHEIGHT@FPS][#FRAMES]`, endless unless FRAMES is given.

    With `loop` the figures start again after FRAMES. Raises SourceOpenError for another spec.
    """

    def __init__(self, spec: str, *, loop: bool, clock: Callable[[], float]) -> None:
        width, height, fps, num_frames = _parse(spec)
        info = SourceInfo(spec, False, width, height, fps)
        super().__init__(info, _frames(width, height, fps, num_frames, loop, clock))


def _frames(
    width: int,
    height: int,
    fps: float,
    num_frames: int | None,
    loop: bool,
    clock: Callable[[], float],
) -> Iterator[VideoFrame]:
    for seq in count() if loop or num_frames is None else range(num_frames):
        started_s = clock()
        image = render(seq % num_frames if num_frames else seq, width, height)
        arrived_s = clock()
        yield VideoFrame(image, seq, seq / fps, arrived_s, arrived_s - started_s)


def render(seq: int, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Return frame number `seq` of the pattern, uint8 RGB [height, width, 3]."""
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0] = 32
    image[..., 1] = np.linspace(32, 160, height, dtype=np.uint8)[:, None]
    image[..., 2] = np.linspace(64, 224, width, dtype=np.uint8)
    radius = min(width, height) // 8
    centre = (
        _bounce(seq * width // 100, radius + 1, width),
        _bounce(seq * height // 60, radius + 1, height),
    )
    cv2.circle(image, centre, radius, _DISC_RGB, thickness=-1, lineType=cv2.LINE_AA)
    cv2.putText(
        image,
        str(seq),
        (width // 32, height - height // 16),
        cv2.FONT_HERSHEY_SIMPLEX,
        fontScale=height / 180,
        color=(255, 255, 255),
        thickness=max(1, height // 120),
        lineType=cv2.LINE_AA,
    )
    return image


def _bounce(distance: int, margin: int, size: int) -> int:
    """Return where something is that has gone `distance` to and fro between the margins."""
    span = size - 2 * margin
    return margin + span - abs(distance % (2 * span) - span)


def _parse(spec: str) -> tuple[int, int, float, int | None]:
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise SourceOpenError(
            f"{spec!r} is not a synthetic source; write synthetic:WIDTHxHEIGHT@FPS#FRAMES, "
            "for example synthetic:640x360@25#100."
        )
    width, height, fps, frames = match.groups(default=None)
    size = (int(width or 640), int(height or 360))
    if not all(_SMALLEST <= side <= _LARGEST for side in size) or float(fps or 25) <= 0:
        raise SourceOpenError(
            f"{spec!r} is out of range; sides are {_SMALLEST} to {_LARGEST} pixels, FPS above 0."
        )
    return *size, float(fps or 25), int(frames) if frames else None
