"""Captures a local camera through OpenCV, because PyAV's wheels have no camera input."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sources.capture_errors import CaptureError
from sources.captured import Captured, Opened
from sources.decode import Picture


def capture_camera(
    capture: dict[str, Any],
    clock: Callable[[], float],
    open_device: Callable[..., Any] = cv2.VideoCapture,
) -> Iterator[Captured]:
    """A camera by capture["device"], an index or a path; "size", "fps" and "format" if asked for.

    What was granted is said in `Opened.detail`, since drivers take what they please.
    """
    device = _open(capture, open_device)
    try:
        opened = False
        while device.grab():
            began_s = clock()
            ok, bgr = device.retrieve()
            if not ok:
                break
            image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
            if not opened:
                opened = True
                yield _granted(capture, device, image)
            yield Picture(image, None, clock() - began_s)
        raise CaptureError("lost" if opened else "busy")
    finally:
        device.release()


def _open(capture: dict[str, Any], open_device: Callable[..., Any]) -> Any:
    name = capture["device"]
    linux = sys.platform == "linux"
    # OpenCV prints pages about a camera that is not there, so ask the system first.
    path = Path(f"/dev/video{name}" if isinstance(name, int) else name)
    if linux and not path.exists():
        raise CaptureError("absent")
    device = open_device(name, cv2.CAP_V4L2 if linux else cv2.CAP_ANY)
    if not device.isOpened():
        device.release()
        raise CaptureError("absent")
    # The format first: what sizes and rates there are depends on it.
    if code := capture.get("format"):
        device.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*code.upper().ljust(4)[:4]))
    if size := capture.get("size"):
        device.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
        device.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
    if fps := capture.get("fps"):
        device.set(cv2.CAP_PROP_FPS, fps)
    return device


def _granted(capture: dict[str, Any], device: Any, image: np.ndarray) -> Opened:
    height, width = image.shape[:2]
    rate = device.get(cv2.CAP_PROP_FPS)
    fps = rate if 0 < rate < 1000 else None
    code = int(device.get(cv2.CAP_PROP_FOURCC))
    fourcc = "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24))
    granted = f"{width}x{height}" + (f" at {fps:g} fps" if fps else "")
    if fourcc.isalnum():
        granted += f", {fourcc}"
    asked = []
    if (size := capture.get("size")) and tuple(size) != (width, height):
        asked.append(f"{size[0]}x{size[1]}")
    if (wanted := capture.get("fps")) and fps is not None and abs(wanted - fps) > 0.5:
        asked.append(f"{wanted:g} fps")
    return Opened(
        width, height, fps, granted + (f" ({' '.join(asked)} asked for)" if asked else "")
    )
