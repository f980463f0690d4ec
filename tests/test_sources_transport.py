"""Options of network sources: UDP instead of TCP, and decoding in hardware where there is any."""

import socket
from collections.abc import Callable

import psutil
import pytest
from av.codec.hwaccel import HWAccel

from sources import capture
from sources.frame import VideoFrame
from sources.open import SourceOptions, open_source
from sources.status import SourceCondition, SourceStatus
from tests.rig.barcode import read_number
from tests.rig.rtsp import RtspServer, missing_rtsp

needs_rtsp = pytest.mark.skipif(missing_rtsp() is not None, reason=str(missing_rtsp()))


def watch(
    url: str, options: SourceOptions, count: int = 25
) -> tuple[list[int | None], str, set[int]]:
    """The numbers on the first frames, what was said as they came, and the kinds of sockets."""
    source = open_source(url, options)
    numbers: list[int | None] = []
    said, kinds = "", set()
    try:
        while len(numbers) < count and (item := source.read()) is not None:
            if isinstance(item, VideoFrame):
                numbers.append(read_number(item.image))
            elif isinstance(item, SourceStatus) and item.condition is SourceCondition.LIVE:
                said = item.detail
        for child in psutil.Process().children():
            kinds |= {connection.type for connection in child.net_connections()}
    finally:
        source.close()
    return numbers, said, kinds


@needs_rtsp
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_rtsp_is_watched_over_either_transport(transport: str) -> None:
    with RtspServer() as server:
        numbers, said, kinds = watch(server.url, SourceOptions(transport=transport))
        assert numbers == sorted(numbers, key=lambda n: n or 0) and len(set(numbers)) == 25
        assert "320x240" in said
        assert (socket.SOCK_DGRAM in kinds) == (transport == "udp")


@needs_rtsp
@pytest.mark.parametrize("device", ["auto", "cuda", "vaapi"])
def test_hardware_that_is_not_there_is_replaced_by_software(device: str) -> None:
    """Whatever is asked for, pictures come; what decodes them is said."""
    with RtspServer() as server:
        numbers, said, _ = watch(server.url, SourceOptions(hwaccel=device), 5)
        assert None not in numbers and len(numbers) == 5
        software = f"h264 in software (hwaccel {device} cannot be used)"
        assert said.endswith("h264 in hardware" if capture.choose_hwaccel(device) else software)


def test_auto_takes_the_first_device_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices are tried in FFmpeg's own order; one that cannot be made is passed over."""
    tried = []

    def create(working: str) -> Callable[..., HWAccel]:
        def make(*, device_type: str, allow_software_fallback: bool) -> HWAccel:
            assert allow_software_fallback
            tried.append(device_type)
            if device_type != working:
                raise NotImplementedError
            return FakeAccel()  # type: ignore[return-value]

        return make

    monkeypatch.setattr(capture, "hwdevices_available", lambda: ["vdpau", "cuda", "vaapi"])
    monkeypatch.setattr(capture, "HWAccel", create("cuda"))
    assert isinstance(capture.choose_hwaccel("auto"), FakeAccel)
    assert tried == ["vdpau", "cuda", "cuda"]
    assert capture.choose_hwaccel("vaapi") is None
    assert capture.choose_hwaccel(None) is None


class FakeAccel:
    def create(self, codec: object) -> None:
        pass
