"""Files: time, colour, shape and orientation of what a decoded clip yields."""

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from sources.file import FileSource, Timeline
from sources.frame import VideoFrame
from sources.open import open_source
from tests.clips import (
    BLACK,
    RED,
    corner_picture,
    frames_of,
    near,
    number_of,
    read_all,
    ticking,
    write_clip,
    write_numbered,
)

NTSC = Fraction(30000, 1001)


def remux(path: Path, stamps: list[int | None], out: Path) -> Path:
    """Copy the packets of a clip of intra frames, with other stamps in frames of 25 a second."""
    with av.open(str(path)) as source, av.open(str(out), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        for packet, stamp in zip(packets, stamps, strict=True):
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = stamp
            container.mux(packet)
    return out


def test_ntsc_clip_keeps_the_time_of_its_time_base(tmp_path: Path) -> None:
    """At 29.97 frames a second frame n is at n * 1001/30000 s, and seq counts from 0."""
    frames = frames_of(write_clip(tmp_path / "a.mp4", rate=NTSC))
    assert [frame.seq for frame in frames] == list(range(8))
    assert [frame.pts_s for frame in frames] == pytest.approx([n * 1001 / 30000 for n in range(8)])


def test_variable_rate_clip_keeps_its_uneven_times(tmp_path: Path) -> None:
    """Frames at uneven stamps come out at those times, counted from the first."""
    stamps = [500, 533, 700, 701, 1500]
    path = write_clip(tmp_path / "a.mkv", stamps, time_base=Fraction(1, 1000))
    times = [frame.pts_s for frame in frames_of(path)]
    assert times == pytest.approx([0.0, 0.033, 0.2, 0.201, 1.0])


@pytest.mark.parametrize("bf", ["0", "2"])
def test_raw_stream_without_stamps_is_timed_by_its_rate(tmp_path: Path, bf: str) -> None:
    """A bare H.264 stream has no stamps, so frames follow each other by the frame interval."""
    frames = frames_of(write_numbered(tmp_path / "a.h264", 8, options={"bf": bf}))
    assert [number_of(frame.image) for frame in frames] == list(range(8))
    assert [frame.pts_s for frame in frames] == pytest.approx([n / 25 for n in range(8)])


def test_repeated_stamps_do_not_stop_the_clock(tmp_path: Path) -> None:
    """Frames with the stamp of the one before are an interval apart, and none is lost."""
    path = write_numbered(tmp_path / "a.nut", 8, codec="ffv1")
    odd = remux(path, [0, 1, 1, 1, 4, 5, 5, 7], tmp_path / "odd.mkv")
    frames = frames_of(odd)
    assert [number_of(frame.image) for frame in frames] == list(range(8))
    assert [frame.pts_s for frame in frames] == pytest.approx([n / 25 for n in range(8)])


def test_joined_files_never_step_back_in_time_and_may_change_size(tmp_path: Path) -> None:
    """Where the second half starts again at 0 and in another size, time and pictures go on."""
    half = write_clip(tmp_path / "a.ts").read_bytes()
    other = write_clip(tmp_path / "b.ts", size=(128, 96)).read_bytes()
    joined = tmp_path / "joined.ts"
    joined.write_bytes(half + other)
    frames = frames_of(joined)
    times = [frame.pts_s for frame in frames]
    assert times == pytest.approx([n / 25 for n in range(16)])
    shapes = [frame.image.shape for frame in frames]
    assert shapes == [(64, 96, 3)] * 8 + [(96, 128, 3)] * 8


@pytest.mark.parametrize(
    ("stamps", "times"),
    [
        ([7.0, None, 8.0, 3.0, 3.25, None], [0.0, 0.5, 1.0, 1.5, 1.75, 2.25]),
        ([0.0, 1.0, 0.5, 1.5, 2.0], [0.0, 1.0, 1.5, 1.5, 2.0]),
        ([0.0, 0.5, 1e6, 1e6 + 1, 1.5, 2.0], [0.0, 0.5, 1.0, 2.0, 2.5, 3.0]),
        ([4.0, 4.0, 4.0, 5.5], [0.0, 0.5, 1.0, 1.5]),
        ([0.0, 59.0], [0.0, 59.0]),
    ],
    ids=["missing and joined", "out of order", "wrong by days", "repeated", "a long pause"],
)
def test_timeline_makes_the_best_of_stamps(stamps: list[float | None], times: list[float]) -> None:
    """Nonsense costs no more than an interval, and the spacing of good stamps is kept."""
    timeline = Timeline(0.5)
    assert [timeline.place(stamp) for stamp in stamps] == times


@pytest.mark.parametrize("rotation", [0, 90, 180, 270, -90])
def test_rotated_clip_comes_out_upright(tmp_path: Path, rotation: int) -> None:
    """The clip's rotation is applied: the red corner is where a player would show it."""
    path = write_clip(tmp_path / "a.mp4", rotation=rotation)
    source = open_source(str(path))
    frame = source.read()
    assert isinstance(frame, VideoFrame)
    expected = np.rot90(corner_picture(96, 64), rotation // 90)
    assert frame.image.shape == expected.shape
    assert (source.info.height, source.info.width) == expected.shape[:2]
    for y, x in ((4, 4), (4, -4), (-4, 4), (-4, -4)):
        assert near(frame.image[y, x], tuple(expected[y, x]))


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
        ((1, 0, 0, -1), lambda image: image[::-1]),
        ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda image: image[::-1, ::-1].transpose(1, 0, 2)),
    ],
    ids=["left to right", "upside down", "along a diagonal", "along the other"],
)
def test_mirrored_clip_comes_out_as_a_player_shows_it(
    tmp_path: Path, matrix: tuple[int, int, int, int], expected: Callable[[np.ndarray], np.ndarray]
) -> None:
    """The track's matrix may mirror as well as turn: it is not taken for a half turn, or none."""
    path = write_clip(tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    a, b, c, d = (number << 16 for number in matrix)
    struct.pack_into(">5i", data, data.index(b"tkhd") + 44, a, b, 0, c, d)
    path.write_bytes(data)
    image, wanted = frames_of(path)[0].image, expected(corner_picture(96, 64))
    assert image.shape == wanted.shape
    for y, x in ((4, 4), (4, -4), (-4, 4), (-4, -4)):
        assert near(image[y, x], tuple(wanted[y, x]))


def test_portrait_phone_clip_is_turned_clockwise(tmp_path: Path) -> None:
    """A phone held upright writes -90 degrees: what was the top left is then the top right."""
    frame = frames_of(write_clip(tmp_path / "a.mp4", rotation=-90))[0]
    assert frame.image.shape == (96, 64, 3)
    assert near(frame.image[4, -4], RED)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "size"),
    [
        ("libx264", "yuv420p10le", (96, 64)),
        ("libx265", "yuv420p10le", (96, 64)),
        ("libsvtav1", "yuv420p10le", (96, 64)),
        ("prores_ks", "yuv422p10le", (96, 64)),
        ("ffv1", "yuv420p10le", (97, 65)),
        ("libx264", "yuv444p", (97, 65)),
        ("libvpx-vp9", "yuv420p", (97, 65)),
        ("ffv1", "yuv420p", (1, 1)),
        ("ffv1", "bgra", (51, 33)),
    ],
)
def test_any_pixel_format_becomes_contiguous_rgb(
    tmp_path: Path, codec: str, pix_fmt: str, size: tuple[int, int]
) -> None:
    """10 bits, full chroma, alpha and odd sizes all come out as uint8 RGB [H, W, 3]."""
    path = write_clip(tmp_path / "a.mkv", codec=codec, pix_fmt=pix_fmt, size=size)
    image = frames_of(path)[0].image
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    assert image.shape == (size[1], size[0], 3)
    assert size == (1, 1) or (near(image[4, 4], RED) and near(image[-4, -4], BLACK))


def test_gray_clip_becomes_rgb_with_equal_channels(tmp_path: Path) -> None:
    """A gray clip yields three equal channels."""
    image = frames_of(write_clip(tmp_path / "a.mkv", codec="ffv1", pix_fmt="gray"))[0].image
    assert image.shape == (64, 96, 3)
    assert np.array_equal(image[..., 0], image[..., 1])
    assert image[4, 4, 0] > image[-4, -4, 0]


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.h264"])
def test_loop_goes_on_without_a_seam(tmp_path: Path, name: str) -> None:
    """When a clip starts again, time goes on by one frame interval and seq keeps counting."""
    frames = frames_of(write_clip(tmp_path / name), 20, loop=True)
    assert [frame.seq for frame in frames] == list(range(20))
    assert [frame.pts_s for frame in frames] == pytest.approx([n / 25 for n in range(20)])


def test_file_is_described_and_timed_by_the_given_clock(tmp_path: Path) -> None:
    """The info says what the file is; arrival and decode times are the injected clock's."""
    path = write_clip(tmp_path / "a b.mp4")
    source = open_source(path.as_uri(), clock=ticking())
    first, second = source.read(), source.read()
    assert isinstance(first, VideoFrame) and isinstance(second, VideoFrame)
    info = source.info
    assert (info.live, info.width, info.height, info.fps) == (False, 96, 64, 25.0)
    assert info.name.endswith("a b.mp4")
    assert 0.0 < first.arrived_s < second.arrived_s
    assert first.decode_s >= 2.0


def test_intact_file_ends_without_a_word(tmp_path: Path) -> None:
    """Nothing but frames comes of it."""
    items = read_all(write_clip(tmp_path / "a.mp4"))
    assert [type(item) for item in items] == [VideoFrame] * 8


def test_closed_file_yields_nothing_more(tmp_path: Path) -> None:
    """After close, which may be called twice, read returns None."""
    source = FileSource(write_clip(tmp_path / "a.mp4"), loop=True, clock=lambda: 0.0)
    assert source.read() is not None
    source.close()
    source.close()
    assert source.read() is None
