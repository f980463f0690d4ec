"""Cameras: one that is absent, and a stand-in for one that is there."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from sources import camera
from sources.errors import SourceLostError, SourceOpenError
from sources.open import open_source


class FakeCapture:
    """A camera of two blue pictures, in OpenCV's BGR order."""

    def __init__(self, index: int, api: int) -> None:
        self.left = 2
        self.released = False

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def grab(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.full((48, 64, 3), (255, 0, 0), np.uint8)

    def get(self, prop: int) -> float:
        return 30.0 if prop == cv2.CAP_PROP_FPS else 0.0

    def release(self) -> None:
        self.released = True


@pytest.fixture
def fake_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a FakeCapture where a camera would be."""
    monkeypatch.setattr(camera.cv2, "VideoCapture", FakeCapture)
    monkeypatch.setattr(Path, "exists", lambda path: True)


def test_absent_camera_is_refused_at_once_and_quietly(capfd: pytest.CaptureFixture[str]) -> None:
    """An index with no camera is an error at opening, with nothing on the terminal."""
    with pytest.raises(SourceOpenError, match="There is no camera 99"):
        open_source("99")
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("fake_camera")
def test_camera_yields_rgb_by_arrival_until_it_is_lost() -> None:
    """Frames are RGB and timed by arrival; when they stop coming, the camera is lost."""
    moments = iter(range(100))
    source = open_source("0", clock=lambda: float(next(moments)))
    first, second = source.read(), source.read()
    assert first is not None and second is not None
    assert tuple(first.image[0, 0]) == (0, 0, 255)
    assert (first.seq, first.pts_s, second.seq) == (0, 0.0, 1)
    assert second.pts_s == second.arrived_s - first.arrived_s > 0.0
    assert (source.info.name, source.info.live, source.info.fps) == ("camera 0", True, 30.0)
    with pytest.raises(SourceLostError, match="Camera 0 stopped"):
        source.read()
    source.close()
    assert source.read() is None


@pytest.mark.usefixtures("fake_camera")
def test_camera_without_a_picture_is_refused_and_released(monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that another program holds opens but gives nothing: that is an open error."""
    monkeypatch.setattr(FakeCapture, "grab", lambda self: False)
    with pytest.raises(SourceOpenError, match="gave no picture"):
        open_source("0")
