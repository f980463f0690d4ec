"""Cameras: a stand-in for one that is there, what is asked of it, and one that is absent."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sources.capture_camera import capture_camera
from sources.capture_errors import CaptureError
from sources.captured import Opened
from sources.decode import Picture
from sources.errors import SourceOpenError
from sources.frame import VideoFrame
from sources.live import LiveSource
from sources.open import open_source
from sources.status import SourceCondition, SourceStatus


class FakeDevice:
    """A camera of two blue pictures, in OpenCV's BGR order, that grants 64x48 whatever is asked."""

    def __init__(self, pictures: int = 2, opens: bool = True) -> None:
        self.left, self.opens = pictures, opens
        self.asked: list[tuple[int, float]] = []
        self.opened_as: tuple[Any, ...] = ()
        self.released = False

    def __call__(self, *args: Any) -> "FakeDevice":
        self.opened_as = args
        return self

    def isOpened(self) -> bool:  # noqa: N802
        return self.opens

    def set(self, prop: int, value: float) -> None:
        self.asked.append((prop, value))

    def get(self, prop: int) -> float:
        return {
            cv2.CAP_PROP_FPS: 30.0,
            cv2.CAP_PROP_FOURCC: float(cv2.VideoWriter.fourcc(*"MJPG")),
        }.get(prop, 0.0)

    def grab(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.full((48, 64, 3), (255, 0, 0), np.uint8)

    def release(self) -> None:
        self.released = True


@pytest.fixture(autouse=True)
def _devices_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.exists
    monkeypatch.setattr(Path, "exists", lambda p: str(p) == "/dev/video0" or real(p))


def captured(device: FakeDevice, **asked: Any) -> list[Any]:
    items: list[Any] = []
    with pytest.raises(CaptureError) as over:
        for item in capture_camera({"kind": "camera", "device": 0} | asked, lambda: 0.0, device):
            items.append(item)
    assert device.released
    return [*items, over.value.code]


def test_a_camera_gives_rgb_until_it_is_lost() -> None:
    opened, first, second, code = captured(FakeDevice())
    assert opened == Opened(64, 48, 30.0, "64x48 at 30 fps, MJPG")
    assert isinstance(first, Picture) and tuple(first.image[0, 0]) == (0, 0, 255)
    assert isinstance(second, Picture) and code == "lost"


def test_what_is_asked_is_set_format_first_and_what_was_granted_is_said() -> None:
    device = FakeDevice()
    opened, *_ = captured(device, size=[1280, 720], fps=60.0, format="yuyv")
    assert [prop for prop, _ in device.asked] == [
        cv2.CAP_PROP_FOURCC,
        cv2.CAP_PROP_FRAME_WIDTH,
        cv2.CAP_PROP_FRAME_HEIGHT,
        cv2.CAP_PROP_FPS,
    ]
    assert device.asked[0][1] == cv2.VideoWriter.fourcc(*"YUYV")
    assert opened.detail == "64x48 at 30 fps, MJPG (1280x720 60 fps asked for)"


def test_a_camera_that_another_program_holds_is_busy() -> None:
    """It opens but gives nothing."""
    assert captured(FakeDevice(pictures=0)) == ["busy"]


def test_a_camera_that_does_not_open_is_absent() -> None:
    assert captured(FakeDevice(opens=False)) == ["absent"]


def test_an_absent_camera_is_waited_for_and_quietly(capfd: pytest.CaptureFixture[str]) -> None:
    """It says so, tries again, and nothing of a library's noise is on the terminal."""
    source = open_source("99")
    items = [source.read() for _ in range(4)]
    source.close()
    statuses = [item for item in items if isinstance(item, SourceStatus)]
    assert [s.condition for s in statuses] == [SourceCondition.CONNECTING] + [
        SourceCondition.RECONNECTING
    ] * (len(statuses) - 1)
    assert "camera 99: it is not there" in statuses[1].detail
    assert capfd.readouterr().err == ""
    assert not any(isinstance(item, VideoFrame) for item in items)


@pytest.mark.parametrize(
    ("uri", "capture"),
    [
        ("0", {"device": 0}),
        ("/dev/video2", {"device": 2}),
        ("camera:1", {"device": 1}),
        ("camera:/dev/v4l/by-id/usb-x", {"device": "/dev/v4l/by-id/usb-x"}),
        (
            "camera:0?size=1280x720&fps=30&format=mjpg",
            {"device": 0, "size": [1280, 720], "fps": 30.0, "format": "mjpg"},
        ),
    ],
)
def test_a_camera_is_named_by_index_or_path(uri: str, capture: dict[str, Any]) -> None:
    source = open_source(uri)
    assert isinstance(source, LiveSource) and source.info.live
    assert source._capture == {"kind": "camera"} | capture
    source.close()


@pytest.mark.parametrize(
    "uri", ["camera:front", "camera:0?size=big", "camera:0?fps=0", "camera:0?zoom=2", "camera:"]
)
def test_a_camera_that_is_asked_for_nonsense_is_refused(uri: str) -> None:
    with pytest.raises(SourceOpenError, match=r"camera:"):
        open_source(uri)
