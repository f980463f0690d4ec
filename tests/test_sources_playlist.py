"""Folders, lists, patterns and pictures: several files as one stream."""

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sources.errors import SourceOpenError
from sources.frame import VideoFrame
from sources.open import SourceOptions, open_source
from sources.playlist import find_files
from sources.status import FramesLost, LossReason, SourceCondition, SourceStatus
from tests.clips import (
    frames_of,
    items_of,
    number_of,
    numbered_picture,
    read_all,
    write_clip,
    write_numbered,
)


def write_stills(folder: Path, numbers: range, suffix: str = ".png") -> list[Path]:
    """Write numbered pictures as frame0, frame1, ... and return their paths."""
    paths = [folder / f"frame{number}{suffix}" for number in numbers]
    for number, path in zip(numbers, paths, strict=True):
        Image.fromarray(numbered_picture(number, 64, 32)).save(path)
    return paths


def numbers(path: Path, **options: object) -> list[int]:
    return [number_of(frame.image) for frame in frames_of(path, **options)]


def test_folder_plays_its_videos_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """2 comes before 10; time and seq run through, one interval from file to file."""
    for name, first in (("clip10.mp4", 20), ("clip2.mkv", 10), ("Clip1.mp4", 0)):
        write_numbered(tmp_path / name, 10, first=first)
    (tmp_path / "notes.md").write_text("not a video")
    (tmp_path / ".hidden.mp4").write_text("not to be seen")
    items = read_all(tmp_path)
    frames = [item for item in items if isinstance(item, VideoFrame)]
    assert len(items) == len(frames)
    assert [number_of(frame.image) for frame in frames] == list(range(30))
    assert [frame.seq for frame in frames] == list(range(30))
    assert [frame.pts_s for frame in frames] == pytest.approx([n / 25 for n in range(30)])


def test_folders_in_a_folder_do_not_count_whatever_they_are_called(tmp_path: Path) -> None:
    """Neither as a video nor as a picture."""
    (tmp_path / "subtitles.ts").mkdir()
    (tmp_path / "frame1.png").mkdir()
    write_stills(tmp_path, range(2, 4))
    assert [type(item) for item in read_all(tmp_path)] == [VideoFrame] * 2


def test_next_file_begins_one_interval_of_the_last_one_later(tmp_path: Path) -> None:
    """A clip of 10 frames a second is followed after 0.1 s, a clip of 50 after 0.02 s."""
    write_clip(tmp_path / "a.mp4", range(3), rate=Fraction(10))
    write_clip(tmp_path / "b.mp4", range(3), rate=Fraction(50), size=(64, 96))
    times = [frame.pts_s for frame in frames_of(tmp_path, 9, loop=True)]
    assert times == pytest.approx([0, 0.1, 0.2, 0.3, 0.32, 0.34, 0.36, 0.46, 0.56])


@pytest.mark.parametrize("suffix", [".txt", ".m3u"])
def test_list_plays_the_files_it_names_in_its_order(tmp_path: Path, suffix: str) -> None:
    """Paths are relative to the list, which may be commented, and may name a file twice."""
    (tmp_path / "clips").mkdir()
    absolute = write_numbered(tmp_path / "z.mp4", 3, first=0)
    write_numbered(tmp_path / "clips" / "a b.mp4", 3, first=10)
    listed = tmp_path / f"list{suffix}"
    listed.write_text(f"#EXTM3U\n{absolute}\r\n\n  clips/a b.mp4  \n{absolute}\n", "utf-8-sig")
    assert numbers(listed) == [0, 1, 2, 10, 11, 12, 0, 1, 2]


def test_pattern_plays_what_it_matches(tmp_path: Path) -> None:
    """And a file that is really called so comes first."""
    for number in (1, 2, 10):
        write_numbered(tmp_path / f"clip_{number}.mp4", 2, first=number)
    write_numbered(tmp_path / "other.mp4", 2, first=99)
    (tmp_path / "clip_0.mp4").mkdir()
    assert numbers(tmp_path / "clip_*.mp4") == [1, 2, 2, 3, 10, 11]
    write_numbered(tmp_path / "clip_[12].mp4", 1, first=50)
    assert numbers(tmp_path / "clip_[12].mp4") == [50]


@pytest.mark.parametrize("suffix", [".png", ".webp", ".JPG"])
def test_folder_of_pictures_is_a_clip(tmp_path: Path, suffix: str) -> None:
    """They come in the order of their numbers, at the rate that is asked for."""
    write_stills(tmp_path, range(12), suffix)
    frames = frames_of(tmp_path, image_fps=10.0)
    assert [number_of(frame.image) for frame in frames] == list(range(12))
    assert [frame.pts_s for frame in frames] == pytest.approx([n / 10 for n in range(12)])
    info = open_source(str(tmp_path)).info
    assert (info.width, info.height, info.fps, info.live) == (64, 32, 25.0, False)


def test_pictures_start_loop_and_match_patterns_as_videos_do(tmp_path: Path) -> None:
    """A start falls on the picture at or after it, in every round."""
    write_stills(tmp_path, range(10))
    pattern = tmp_path / "frame*.png"
    assert numbers(pattern, image_fps=10.0, start_s=0.7) == [7, 8, 9]
    assert numbers(pattern, image_fps=10.0, start_s=0.71, loop=True, limit=5) == [8, 9, 8, 9, 8]


def test_videos_of_a_folder_go_before_its_pictures(tmp_path: Path) -> None:
    """Pictures beside videos are their covers."""
    write_stills(tmp_path, range(40, 42))
    write_numbered(tmp_path / "a.mp4", 3)
    assert numbers(tmp_path) == [0, 1, 2]


def test_list_may_mix_pictures_and_videos(tmp_path: Path) -> None:
    """Pictures in a row are one clip, whose time is that of pictures."""
    write_stills(tmp_path, range(40, 42))
    write_numbered(tmp_path / "a.mp4", 2)
    listed = tmp_path / "list.txt"
    listed.write_text("frame40.png\nframe41.png\na.mp4\n")
    frames = frames_of(listed, image_fps=2.0)
    assert [number_of(frame.image) for frame in frames] == [40, 41, 0, 1]
    assert [frame.pts_s for frame in frames] == pytest.approx([0.0, 0.5, 1.0, 1.04])


@pytest.mark.parametrize("broken", ["a.mp4", "b.mp4", "c.mp4"])
def test_file_that_cannot_be_read_is_told_of_and_skipped(tmp_path: Path, broken: str) -> None:
    """Wherever it is among the others; as the last thing of all it is the end."""
    for number, name in enumerate(("a.mp4", "b.mp4", "c.mp4")):
        write_numbered(tmp_path / name, 5, first=5 * number)
    (tmp_path / broken).write_bytes(b"no video")
    items = read_all(tmp_path)
    assert [number_of(item.image) for item in items if isinstance(item, VideoFrame)] == [
        number for number in range(15) if number // 5 != "abc".index(broken[0])
    ]
    (status,) = [item for item in items if not isinstance(item, VideoFrame)]
    assert isinstance(status, SourceStatus)
    assert status.detail.startswith("skipped: ") and broken in status.detail
    ended = broken == "c.mp4"
    assert status.condition is (SourceCondition.ENDED if ended else SourceCondition.LIVE)


def test_picture_that_cannot_be_read_is_counted_and_leaves_its_moment_empty(tmp_path: Path) -> None:
    """Also if it is the first, and if it is too large a file to be a picture."""
    paths = write_stills(tmp_path, range(6))
    paths[0].write_bytes(b"")
    paths[3].write_bytes(paths[3].read_bytes()[:-30])
    os.truncate(paths[4], 1 << 30)
    items = read_all(tmp_path)
    frames = [item for item in items if isinstance(item, VideoFrame)]
    assert [number_of(frame.image) for frame in frames] == [1, 2, 5]
    assert [frame.pts_s for frame in frames] == pytest.approx([0.0, 0.04, 0.16])
    assert [item for item in items if isinstance(item, FramesLost)] == [
        FramesLost(1, LossReason.CORRUPT)
    ] * 3


def test_damage_inside_a_folder_is_told_of_and_the_next_file_goes_on(tmp_path: Path) -> None:
    """A file that ends early is not the end of the stream."""
    path = write_numbered(tmp_path / "a.mkv", 50, codec="ffv1")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    write_numbered(tmp_path / "b.mkv", 5, first=100, codec="ffv1")
    items = read_all(tmp_path)
    statuses = [item for item in items if isinstance(item, SourceStatus)]
    assert len(statuses) == 1 and statuses[0].condition is SourceCondition.LIVE
    assert "a.mkv is damaged: it ends after" in statuses[0].detail
    assert [number_of(item.image) for item in items[-5:]] == list(range(100, 105))  # type: ignore[union-attr]


def test_folder_whose_files_vanish_fails_instead_of_looping_for_ever(tmp_path: Path) -> None:
    """A round without a picture is an error."""
    paths = [write_numbered(tmp_path / name, 3) for name in ("a.mp4", "b.mp4")]
    source = open_source(str(tmp_path), SourceOptions(loop=True))
    assert all(isinstance(source.read(), VideoFrame) for _ in range(6))
    for path in paths:
        path.unlink()
    assert [type(source.read()) for _ in range(2)] == [SourceStatus] * 2
    with pytest.raises(SourceOpenError, match="None of the 2 files of"):
        items_of(source)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("empty.txt", "", "is not a list of files; write one path a line"),
        ("comments.m3u", "#EXTM3U\n#EXTINF:1\n", "is not a list of files"),
        ("binary.txt", "\udc80\udcff", "is not a list of files"),
        ("endless.txt", "x\n" * 600_000, "is not a list of files"),
        ("wrong.txt", "a.mp4\nb.mp4\n", r"None of the 2 files .* the first: There is no file .*a"),
        ("self.txt", "self.txt\n", "is not a video that can be read"),
        ("one.txt", "absent.png\n", r"absent.png: The file cannot be read"),
        ("net.m3u", "a.mp4\nrtsp://me:hunter2@cam/live", r"net.m3u names an address; [^@]*$"),
        ("odd.txt", "a\0b.mp4\n" + "c" * 5000, "None of the 2 files"),
    ],
)
def test_list_that_leads_nowhere_is_refused(
    tmp_path: Path, name: str, text: str, sentence: str
) -> None:
    """Each by its own sentence."""
    path = tmp_path / name
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SourceOpenError, match=sentence):
        open_source(str(path))


def test_pictures_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    """One by what is wrong with it, many by what is wrong with the last."""
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(SourceOpenError, match=r"a\.png: This is not a picture"):
        open_source(str(tmp_path / "a.png"))
    (tmp_path / "b.png").write_text("no picture")
    with pytest.raises(
        SourceOpenError, match=r"None of the 2 pictures in .* can be read; the last"
    ):
        open_source(str(tmp_path))


def test_one_picture_is_a_stream_of_one_frame(tmp_path: Path) -> None:
    """Of the size and the colours of the picture."""
    (path,) = write_stills(tmp_path, range(5, 6))
    (frame,) = frames_of(path)
    assert np.array_equal(frame.image, numbered_picture(5, 64, 32))


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["b10", "b9", "a"], ["a", "b9", "b10"]),
        (["2", "10", "1.9"], ["1.9", "2", "10"]),
        (["x²", "x1", "X0"], ["X0", "x1", "x²"]),
    ],
)
def test_files_are_ordered_as_people_count(
    tmp_path: Path, names: list[str], ordered: list[str]
) -> None:
    """Numbers by value, letters whatever their case, and other digits are no numbers."""
    for name in names:
        (tmp_path / f"{name}.mp4").touch()
    assert [path.stem for path in find_files(tmp_path)] == ordered
