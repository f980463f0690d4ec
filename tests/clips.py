"""Short clips, made where they are needed, and what a source gives of them."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

from sources.frame import SourceItem, VideoFrame, VideoSource
from sources.open import SourceOptions, open_source

RED, BLACK = (250, 0, 0), (0, 0, 0)
# Pixel formats that an encoder wants, where it does not take yuv420p.
PIX_FMTS = {"mjpeg": "yuvj420p", "gif": "rgb8", "apng": "rgb24"}
OPTIONS = {
    "libvpx-vp9": {"cpu-used": "8", "deadline": "realtime"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
}


def corner_picture(width: int, height: int) -> np.ndarray:
    """Return a black picture whose top left third is red."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 3, : width // 3] = RED
    return image


def numbered_picture(number: int, width: int, height: int) -> np.ndarray:
    """Return a gray picture that says its number: 8 bits of it, from left to right."""
    image = np.full((height, width, 3), 100, np.uint8)
    for bit in range(8):
        column = slice(bit * width // 8, (bit + 1) * width // 8)
        image[:, column] += np.uint8(100 * (number >> bit & 1))
    return image


def number_of(image: np.ndarray) -> int:
    """Return the number that a numbered picture says."""
    width = image.shape[1]
    middles = [(2 * bit + 1) * width // 16 for bit in range(8)]
    return sum(int(image[:, x].mean() > 150) << bit for bit, x in enumerate(middles))


def write_pictures(
    path: Path,
    pictures: Iterable[np.ndarray],
    stamps: Iterable[int] | None = None,
    *,
    rate: Fraction = Fraction(25),
    time_base: Fraction | None = None,
    codec: str = "libx264",
    pix_fmt: str | None = None,
    rotation: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """Write RGB pictures, at `stamps` counted in `time_base` (one frame unless given)."""
    pictures = list(pictures)
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=OPTIONS.get(codec, {}))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = width, height
        stream.pix_fmt = pix_fmt or PIX_FMTS.get(codec, "yuv420p")
        stream.codec_context.time_base = time_base or 1 / rate
        stream.codec_context.options = OPTIONS.get(codec, {}) | (options or {})
        if rotation:
            stream.set_display_rotation(rotation)
        for stamp, image in zip(stamps or range(len(pictures)), pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(image)
            frame.pts, frame.time_base = stamp, time_base or 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_clip(
    path: Path,
    stamps: Sequence[int] = range(8),
    *,
    size: tuple[int, int] = (96, 64),
    **how: object,
) -> Path:
    """Write corner pictures."""
    return write_pictures(path, [corner_picture(*size)] * len(stamps), stamps, **how)  # type: ignore[arg-type]


def write_numbered(
    path: Path, count: int, *, size: tuple[int, int] = (128, 64), first: int = 0, **how: object
) -> Path:
    """Write pictures numbered from `first` on."""
    pictures = [numbered_picture(first + number, *size) for number in range(count)]
    return write_pictures(path, pictures, **how)  # type: ignore[arg-type]


def items_of(source: VideoSource, limit: int = 10_000) -> list[SourceItem]:
    """Return what a source gives, at most `limit` items, and close it."""
    items: list[SourceItem] = []
    while len(items) < limit and (item := source.read()) is not None:
        items.append(item)
    source.close()
    return items


def read_all(path: Path, limit: int = 10_000, **options: object) -> list[SourceItem]:
    """Return all that a path gives."""
    return items_of(open_source(str(path), SourceOptions(**options)), limit)  # type: ignore[arg-type]


def frames_of(path: Path, limit: int = 10_000, **options: object) -> list[VideoFrame]:
    """Return the frames of a path."""
    return [item for item in read_all(path, limit, **options) if isinstance(item, VideoFrame)]


def near(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    """Whether a pixel has a colour, give or take the loss of encoding."""
    return bool(np.abs(pixel.astype(int) - colour).max() <= 30)


def ticking() -> Callable[[], float]:
    """Return a clock that moves on by one second each time it is asked."""
    moments = iter(range(1_000_000))
    return lambda: float(next(moments))
