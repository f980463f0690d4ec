"""Files: time, colour, shape and orientation of what a decoded clip yields."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.stream import VideoStream

from sources.file import FileSource, Timeline
from sources.frame import VideoFrame
from sources.open import SourceOptions, open_source

RED, BLACK = (250, 0, 0), (0, 0, 0)
NTSC = Fraction(30000, 1001)


def corner_picture(width: int, height: int) -> np.ndarray:
    """Return a black picture whose top left third is red."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 3, : width // 3] = RED
    return image


def write_clip(
    path: Path,
    stamps: Sequence[int] = range(8),
    *,
    rate: Fraction = Fraction(25),
    time_base: Fraction | None = None,
    size: tuple[int, int] = (96, 64),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rotation: int = 0,
) -> Path:
    """Write corner pictures at `stamps`, counted in `time_base` (one frame unless given)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = time_base or 1 / rate
        if rotation:
            stream.set_display_rotation(rotation)
        for stamp in stamps:
            frame = av.VideoFrame.from_ndarray(corner_picture(*size))
            frame.pts, frame.time_base = stamp, time_base or 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def frames_of(path: Path, limit: int = 10_000, *, loop: bool = False) -> list[VideoFrame]:
    """Return the frames of a clip, at most `limit`."""
    source = open_source(str(path), SourceOptions(loop=loop))
    frames: list[VideoFrame] = []
    while len(frames) < limit and (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    return frames


def near(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    """Whether a pixel has a colour, give or take the loss of encoding."""
    return bool(np.abs(pixel.astype(int) - colour).max() <= 30)


def test_ntsc_clip_keeps_the_time_of_its_time_base(tmp_path: Path) -> None:
    """At 29.97 frames a second frame n is at n * 1001/30000 s, and seq counts from 0."""
    frames = frames_of(write_clip(tmp_path / "a.mp4", rate=NTSC))
    assert [frame.seq for frame in frames] == list(range(8))
    assert [frame.pts_s for frame in frames] == pytest.approx([n * 1001 / 30000 for n in range(8)])


def test_variable_rate_clip_keeps_its_uneven_times(tmp_path: Path) -> None:
    """Frames at uneven stamps come out at those times, counted from the first."""
    stamps = [500, 540, 700, 1900, 1910]
    path = write_clip(tmp_path / "a.mkv", stamps, time_base=Fraction(1, 1000))
    times = [frame.pts_s for frame in frames_of(path)]
    assert times == pytest.approx([0.0, 0.04, 0.2, 1.4, 1.41])


def test_raw_stream_without_stamps_is_timed_by_its_rate(tmp_path: Path) -> None:
    """A bare H.264 stream has no stamps, so frames follow each other by the frame interval."""
    frames = frames_of(write_clip(tmp_path / "a.h264"))
    assert [frame.pts_s for frame in frames] == pytest.approx([n / 25 for n in range(8)])


def test_joined_files_never_step_back_in_time_and_may_change_size(tmp_path: Path) -> None:
    """Where the second half starts again at 0 and in another size, time and pictures go on."""
    half = write_clip(tmp_path / "a.ts").read_bytes()
    other = write_clip(tmp_path / "b.ts", size=(128, 96)).read_bytes()
    joined = tmp_path / "joined.ts"
    joined.write_bytes(half + other)
    frames = frames_of(joined)
    times = [frame.pts_s for frame in frames]
    assert times == pytest.approx([n / 25 for n in range(len(frames))])
    assert {frame.image.shape for frame in frames} == {(64, 96, 3), (96, 128, 3)}


def test_timeline_fills_missing_stamps_and_absorbs_backward_ones() -> None:
    """A missing stamp is one interval on; after a backward one the new stamps' spacing counts."""
    timeline = Timeline(0.5)
    stamps = [7.0, None, 8.0, 3.0, 3.25, None]
    assert [timeline.place(stamp) for stamp in stamps] == [0.0, 0.5, 1.0, 1.5, 1.75, 2.25]


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_rotated_clip_comes_out_upright(tmp_path: Path, rotation: int) -> None:
    """The clip's rotation is applied: the red corner is where a player would show it."""
    path = write_clip(tmp_path / "a.mp4", rotation=rotation)
    source = open_source(str(path))
    frame = source.read()
    assert frame is not None
    expected = np.rot90(corner_picture(96, 64), rotation // 90)
    assert frame.image.shape == expected.shape
    assert (source.info.height, source.info.width) == expected.shape[:2]
    for y, x in ((4, 4), (4, -4), (-4, 4), (-4, -4)):
        assert near(frame.image[y, x], tuple(expected[y, x]))


def test_portrait_phone_clip_is_turned_clockwise(tmp_path: Path) -> None:
    """A phone held upright writes -90 degrees: what was the top left is then the top right."""
    frame = frames_of(write_clip(tmp_path / "a.mp4", rotation=-90))[0]
    assert frame.image.shape == (96, 64, 3)
    assert near(frame.image[4, -4], RED)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "size"),
    [
        ("libx264", "yuv420p10le", (96, 64)),
        ("libx264", "yuv444p", (96, 64)),
        ("ffv1", "yuv420p", (97, 65)),
        ("ffv1", "bgra", (51, 33)),
    ],
)
def test_any_pixel_format_becomes_contiguous_rgb(
    tmp_path: Path, codec: str, pix_fmt: str, size: tuple[int, int]
) -> None:
    """10 bits, full chroma, alpha and odd sizes all come out as uint8 RGB [H, W, 3]."""
    image = frames_of(write_clip(tmp_path / "a.mkv", codec=codec, pix_fmt=pix_fmt, size=size))[
        0
    ].image
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    assert image.shape == (size[1], size[0], 3)
    assert near(image[4, 4], RED) and near(image[-4, -4], BLACK)


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


def test_truncated_clip_ends_early_and_quietly(tmp_path: Path) -> None:
    """A file cut in the middle yields the frames that are there and then ends."""
    whole = write_clip(tmp_path / "whole.mkv", range(60), codec="ffv1")
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert 5 < len(frames_of(cut)) < 60


@pytest.mark.parametrize("name", ["a.ts", "a.mkv", "a.mp4", "a.avi"])
def test_damaged_packets_are_skipped(tmp_path: Path, name: str) -> None:
    """Noise written over part of a file costs frames but raises nothing, and time goes on."""
    path = write_clip(tmp_path / name, range(60), codec="mpeg4", size=(160, 128))
    data = bytearray(path.read_bytes())
    start = len(data) // 3
    noise = np.random.default_rng(0).integers(0, 256, len(data) // 4, np.uint8)
    data[start : start + len(noise)] = noise.tobytes()
    path.write_bytes(data)
    frames = frames_of(path)
    times = [frame.pts_s for frame in frames]
    assert len(frames) >= 5
    assert times == sorted(times)


def test_file_is_described_and_timed_by_the_given_clock(
    tmp_path: Path, ticking: Callable[[], float]
) -> None:
    """The info says what the file is; arrival and decode times are the injected clock's."""
    path = write_clip(tmp_path / "a b.mp4")
    source = open_source(path.as_uri(), clock=ticking)
    first, second = source.read(), source.read()
    assert first is not None and second is not None
    info = source.info
    assert (info.live, info.width, info.height, info.fps) == (False, 96, 64, 25.0)
    assert info.name.endswith("a b.mp4")
    assert 0.0 < first.arrived_s < second.arrived_s
    assert first.decode_s >= 2.0


def test_closed_file_yields_nothing_more(tmp_path: Path) -> None:
    """After close, which may be called twice, read returns None."""
    source = FileSource(write_clip(tmp_path / "a.mp4"), loop=True, clock=lambda: 0.0)
    assert source.read() is not None
    source.close()
    source.close()
    assert source.read() is None


@pytest.fixture
def ticking() -> Callable[[], float]:
    """A clock that moves on by one second each time it is asked."""
    moments = iter(range(1_000_000))
    return lambda: float(next(moments))
