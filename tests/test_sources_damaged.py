"""Damaged files and files that would take all memory: each ends in pictures or a clear word.

For thousands of damaged files, in about ten minutes: FUZZ=long pytest tests/test_sources_damaged.py
"""

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from sources.errors import SourceOpenError
from sources.frame import VideoFrame
from sources.open import open_source
from sources.status import FramesLost, LossReason, SourceCondition, SourceStatus
from tests.clips import write_pictures

CITY = Path(__file__).parent.parent / "assets" / "city.mp4"
COPIED = ("city.mp4", "city.mkv", "city.ts", "city.flv")
ENCODED = {"city.avi": "mpeg4", "city.webm": "libvpx-vp9", "mjpeg.avi": "mjpeg", "hevc.mp4": "hevc"}
NUM_PICTURES = 20
FILES_A_KIND = 1000 if os.environ.get("FUZZ") == "long" else 32  # of 8 kinds: 256 files
# A flipped bit of a JPEG is another picture, and where one ends early FFmpeg makes up the rest.
LEAST_NOTICED = {"mjpeg.avi": 0.12}
LONGEST_S = 10.0


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The beginning of the real clip, in all kinds of files."""
    folder = tmp_path_factory.mktemp("intact")
    for name in COPIED:
        copy_beginning(folder / name)
    pictures = first_pictures()
    for name, codec in ENCODED.items():
        write_pictures(folder / name, pictures, codec="libx265" if codec == "hevc" else codec)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def copy_beginning(path: Path) -> None:
    """The packets of the clip's first pictures in another container."""
    with av.open(CITY) as source, av.open(path, "w") as target:
        video = source.streams.video[0]
        stream = target.add_stream_from_template(video)
        for number, packet in enumerate(source.demux(video)):
            if number == NUM_PICTURES:
                break
            packet.stream = stream
            target.mux(packet)


def first_pictures() -> list[np.ndarray]:
    with av.open(CITY) as source:
        frames = [
            frame.to_ndarray(format="rgb24")
            for frame, _ in zip(source.decode(video=0), range(NUM_PICTURES), strict=False)
        ]
    return frames


def flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(max(1, int(len(data) * 10 ** rng.uniform(-5, -2)))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def flip_header(data: bytearray, rng: random.Random) -> None:
    """In the first or the last kilobyte, where containers say what they hold."""
    start = rng.choice((0, len(data) - 1024))
    for _ in range(rng.randint(1, 40)):
        data[start + rng.randrange(1024)] = rng.randrange(256)


def cut_short(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def blank(data: bytearray, rng: random.Random) -> None:
    start, size = rng.randrange(len(data)), int(len(data) * rng.uniform(0.01, 0.5))
    data[start : start + size] = bytes(len(data[start : start + size]))


def leave_out(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    del data[start : start + int(len(data) * rng.uniform(0.001, 0.3))]


def repeat(data: bytearray, rng: random.Random) -> None:
    start, size = rng.randrange(len(data)), int(len(data) * rng.uniform(0.01, 0.3))
    data[start:start] = data[start : start + size]


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_bits, flip_header, cut_short, blank, leave_out, repeat,
)  # fmt: skip


def damaged(data: bytes, seed: str) -> bytes:
    """One of many ways in which a file may be damaged, always the same for a seed."""
    rng, changed = random.Random(seed), bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if len(changed) > 2048:
            rng.choice(DAMAGES)(changed, rng)
    return bytes(changed)


def play(path: Path) -> tuple[int, int, str]:
    """How many pictures came, how many were lost, and what was said; raises what is no event."""
    pictures, lost, said, last_s = 0, 0, "", 0.0
    try:
        source = open_source(str(path))
    except SourceOpenError as error:
        return 0, 0, str(error)
    try:
        while (item := source.read()) is not None:
            match item:
                case VideoFrame():
                    assert item.pts_s >= last_s and item.seq == pictures
                    assert item.image.shape[2] == 3 and item.image.dtype == np.uint8
                    pictures, last_s = pictures + 1, item.pts_s
                case FramesLost(count, reason):
                    assert count > 0 and reason is LossReason.CORRUPT
                    lost += count
                case SourceStatus(condition, detail):
                    assert condition is SourceCondition.ENDED and detail
                    said = detail
    finally:
        source.close()
    return pictures, lost, said


def play_in_time(path: Path) -> tuple[int, int, str]:
    """Play in a thread that is given LONGEST_S."""
    outcome: list[tuple[int, int, str]] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(play(path))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LONGEST_S)
    assert not thread.is_alive(), f"{path} hangs"
    if failure:
        raise failure[0]
    return outcome[0]


@pytest.mark.parametrize("name", [*COPIED, *ENCODED])
def test_damaged_files_end_in_pictures_or_a_clear_word(
    intact: dict[str, bytes], name: str, tmp_path: Path
) -> None:
    """What a file can no longer show is counted or told of; a damage may also hit nothing."""
    path = tmp_path / name
    path.write_bytes(intact[name])
    assert play(path) == (NUM_PICTURES, 0, "")
    noticed = 0
    for number in range(FILES_A_KIND):
        path.write_bytes(damaged(intact[name], f"{name} {number}"))
        pictures, lost, said = play_in_time(path)
        assert pictures or said, number
        noticed += bool(lost or said)
    assert noticed >= FILES_A_KIND * LEAST_NOTICED.get(name, 0.4), noticed


MEASURE = """
import resource, sys
from sources.errors import SourceError
from sources.open import open_source
import sources.capture, sources.file, numpy
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
try:
    open_source(sys.argv[1]).read()
    print("taken")
except SourceError as error:
    print(error)
print(peak() - before)
"""


@pytest.mark.parametrize("name", ["bomb.mp4", "bomb.h264", "bomb.avi", "bomb.png", "bomb.webp"])
def test_files_of_huge_pictures_are_refused_before_memory_is_taken(
    name: str, tmp_path: Path
) -> None:
    """8192 x 8192 would take 200 MB as RGB; a small file opened by the same program takes less."""
    path = tmp_path / name
    if path.suffix in (".png", ".webp"):
        from PIL import Image

        Image.new("RGB", (8192, 8192)).save(path)
    else:
        codec = "mjpeg" if path.suffix == ".avi" else "libx264"
        write_pictures(
            path,
            [np.zeros((8192, 8192, 3), np.uint8)],
            codec=codec,
            rate=Fraction(25),
            options={"preset": "ultrafast"} if codec == "libx264" else None,
        )
    assert path.stat().st_size < 2e6
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True
    )
    said, grown_mb = done.stdout.strip().rsplit("\n", 1)
    assert "8192" in said or "4096 x 2304" in said, said
    assert int(grown_mb) < 64, (said, grown_mb)
