"""Interlaced files: what moves has no combs, and nothing else changes."""

from pathlib import Path

import av
import numpy as np
import pytest

from tests.clips import frames_of, write_pictures

WIDTH, HEIGHT, COUNT = 160, 96, 12
INTERLACED = {
    ".mp4": ("libx264", {"x264-params": "tff=1"}),
    ".mpg": ("mpeg2video", {"flags": "+ildct+ilme"}),
    ".ts": ("libx264", {"x264-params": "bff=1"}),
}


def picture(number: int, *, interlaced: bool) -> np.ndarray:
    """A white bar that moves, between the two fields of a picture, too, if it is interlaced."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for field in (0, 1):
        left = 8 * number + 4 * field * interlaced
        image[field::2, left : left + 24] = 255
    return image


def combs(image: np.ndarray) -> float:
    """How far lines are, on average, from the mean of their neighbours above and below."""
    green = image[..., 1].astype(float)
    return float(np.abs(green[1:-1] - (green[:-2] + green[2:]) / 2).mean())


def decoded(path: Path) -> list[np.ndarray]:
    """The pictures as FFmpeg decodes them."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def middle(image: np.ndarray) -> float:
    """Where the bar is, in pixels from the left."""
    columns = image[..., 1].astype(float).sum(0)
    return float((columns * np.arange(len(columns))).sum() / columns.sum())


def write(
    path: Path,
    *,
    interlaced: bool = True,
    rotation: int = 0,
    count: int = COUNT,
    height: int = HEIGHT,
) -> Path:
    codec, options = INTERLACED[path.suffix]
    pictures = [picture(number, interlaced=interlaced)[:height] for number in range(count)]
    options = options if interlaced else {}
    return write_pictures(path, pictures, codec=codec, options=options, rotation=rotation)


@pytest.mark.parametrize("suffix", [".mp4", ".mpg"])
def test_interlaced_clip_has_no_combs(tmp_path: Path, suffix: str) -> None:
    """The combs that FFmpeg decodes are gone, while every frame keeps its time."""
    path = write(tmp_path / f"a{suffix}")
    assert min(map(combs, decoded(path))) > 5.0
    frames = frames_of(path)
    assert max(combs(frame.image) for frame in frames) < 1.0
    assert [frame.pts_s for frame in frames] == pytest.approx([n / 25 for n in range(COUNT)])


def test_progressive_clip_is_left_as_it_is(tmp_path: Path) -> None:
    """Without the flag not a pixel is touched."""
    path = write(tmp_path / "a.mp4", interlaced=False)
    frames = [frame.image for frame in frames_of(path)]
    assert np.array_equal(frames, decoded(path))


@pytest.mark.parametrize("count", [1, 2])
def test_shortest_interlaced_clips_lose_nothing(tmp_path: Path, count: int) -> None:
    """The filter wants neighbours, and does without at the end."""
    assert len(frames_of(write(tmp_path / "a.mp4", count=count))) == count


def test_interlaced_portrait_comes_out_upright(tmp_path: Path) -> None:
    """The rotation survives the filter."""
    frames = frames_of(write(tmp_path / "a.mp4", rotation=90))
    assert {frame.image.shape for frame in frames} == {(WIDTH, HEIGHT, 3)}
    assert max(combs(frame.image.swapaxes(0, 1)) for frame in frames) < 1.0


def test_frames_around_a_change_of_scan_or_size_are_all_there(tmp_path: Path) -> None:
    """Progressive, interlaced, interlaced of another size: every frame comes, and in order."""
    parts = [
        write(tmp_path / "a.ts", interlaced=False),
        write(tmp_path / "b.ts"),
        write(tmp_path / "c.ts", height=64),
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = frames_of(joined)
    whole = [image for part in parts for image in decoded(part)]
    assert len(frames) == len(whole) == 3 * COUNT
    for frame, image in zip(frames, whole, strict=True):
        assert frame.image.shape == image.shape
        assert combs(frame.image) < 1.0
        assert abs(middle(frame.image) - middle(image)) < 3.0
