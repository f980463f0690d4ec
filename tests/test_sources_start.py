"""Starting in the middle of files: exactly there, in any format, and again in every round."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sources.errors import SourceOpenError
from sources.open import SourceOptions, open_source
from sources.status import FramesLost
from tests.clips import frames_of, number_of, read_all, write_clip, write_numbered

COUNT = 100
FORMATS = {
    "a.mp4": "libx264",
    "a.mkv": "libx264",
    "a.ts": "libx264",
    "a.h264": "libx264",
    "b.avi": "libx264",
    "hevc.mp4": "libx265",
    "a.webm": "libvpx-vp9",
    "a.avi": "mpeg4",
    "a.mpg": "mpeg2video",
    "a.flv": "flv",
    "a.wmv": "wmv2",
    "a.mjpeg": "mjpeg",
    "a.gif": "gif",
}


def numbers(path: Path, limit: int = 10_000, **options: object) -> list[int]:
    """The numbers of the pictures that a path gives."""
    return [number_of(frame.image) for frame in frames_of(path, limit, **options)]


@pytest.mark.parametrize("name", list(FORMATS))
def test_start_gives_what_playing_from_the_beginning_gives_there(tmp_path: Path, name: str) -> None:
    """Near or far, on a frame or between two: the same pictures, at the same distances."""
    path = write_numbered(
        tmp_path / name, COUNT, size=(64, 32), codec=FORMATS[name], options={"g": "20"}
    )
    whole = frames_of(path)
    assert [number_of(frame.image) for frame in whole] == list(range(COUNT))
    for start_s in (0.04, 0.5, 1.4, 1.99, 3.2, 3.96):
        expected = [frame for frame in whole if frame.pts_s >= start_s - 1e-6]
        frames = frames_of(path, start_s=start_s)
        assert len(frames) == len(expected), start_s
        assert all(np.array_equal(a.image, b.image) for a, b in zip(frames, expected, strict=True))
        assert [frame.seq for frame in frames] == list(range(len(expected)))
        assert [frame.pts_s for frame in frames] == pytest.approx(
            [frame.pts_s - expected[0].pts_s for frame in expected]
        )


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_start_may_be_minutes_away(tmp_path: Path, name: str) -> None:
    """Such a distance to the second picture that is decoded is no wrong stamp."""
    path = write_numbered(tmp_path / name, 200, rate=Fraction(1), options={"g": "20"})
    assert numbers(path, start_s=150.0) == list(range(150, 200))


def test_start_may_be_minutes_of_pictures_away(tmp_path: Path) -> None:
    """Of a folder of stills, too."""
    for number in range(200):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"{number}.png")
    frames = frames_of(tmp_path, start_s=150.0, image_fps=1.0)
    assert [int(frame.image[0, 0, 0]) for frame in frames] == list(range(150, 200))


def test_start_decodes_only_from_the_key_frame_before(tmp_path: Path) -> None:
    """What is long before is not even read: damage there costs nothing."""
    path = write_numbered(tmp_path / "a.mp4", COUNT, options={"g": "20"})
    data = bytearray(path.read_bytes())
    media = data.index(b"mdat") + 4
    size = int.from_bytes(data[media - 8 : media - 4])
    data[media + size // 2 : media + size * 3 // 4] = bytes(size * 3 // 4 - size // 2)
    path.write_bytes(data)
    assert any(isinstance(item, FramesLost) for item in read_all(path))
    items = read_all(path, start_s=3.4)
    assert [number_of(item.image) for item in items] == list(range(85, 100))  # type: ignore[union-attr]


def test_start_in_what_is_cut_off_is_refused(tmp_path: Path) -> None:
    """The sentence says that the file is damaged, not that it is short."""
    path = write_numbered(tmp_path / "a.mkv", COUNT, codec="mpeg4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceOpenError, match=r"no picture to start with at 3\.5 s: .* damaged"):
        open_source(str(path), SourceOptions(start_s=3.5))


@pytest.mark.parametrize("start_s", [0.32, 5.0, 1e300])
def test_start_beyond_the_end_is_refused(tmp_path: Path, start_s: float) -> None:
    """The sentence says how long the file is."""
    path = write_clip(tmp_path / "a.mp4")
    with pytest.raises(SourceOpenError, match=r"a\.mp4 is 0\.3 s long; start before"):
        open_source(str(path), SourceOptions(start_s=start_s))


def test_every_round_of_a_loop_starts_there(tmp_path: Path) -> None:
    """A loop repeats the part that was asked for, with no seam in time."""
    path = write_numbered(tmp_path / "a.mp4", 50)
    frames = frames_of(path, 25, loop=True, start_s=1.6)
    assert [number_of(frame.image) for frame in frames] == [*range(40, 50)] * 2 + [*range(40, 45)]
    assert [frame.pts_s for frame in frames] == pytest.approx([n / 25 for n in range(25)])


def test_start_counts_through_the_files_of_a_folder(tmp_path: Path) -> None:
    """Files that end before it are passed over whole."""
    for part in range(3):
        write_numbered(tmp_path / f"{part}.mp4", 50, first=50 * part)
    assert numbers(tmp_path, start_s=3.0) == list(range(75, 150))
    assert numbers(tmp_path, start_s=4.0) == list(range(100, 150))
    with pytest.raises(SourceOpenError, match=r"is 6\.0 s long"):
        open_source(str(tmp_path), SourceOptions(start_s=6.0))


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_start_that_is_no_time_is_refused(bad: float) -> None:
    """As is a rate of pictures that is none."""
    with pytest.raises(ValueError, match="start"):
        SourceOptions(start_s=bad)
    with pytest.raises(ValueError, match="pictures a second"):
        SourceOptions(image_fps=bad)
