"""Pictures given as bytes: whatever they are, upright RGB or one clear sentence."""

import io
import struct
import subprocess
import sys
import textwrap
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from sources.errors import PictureError
from sources.frame import MAX_SIDE
from sources.picture import MAX_BYTES, check_picture, decode_picture

RAMP = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def ramp(mode: str = "RGB") -> Image.Image:
    """Black on the left, white on the right, 64 x 48."""
    if mode == "I;16":
        return Image.fromarray(RAMP.astype(np.uint16) << 8)
    return Image.fromarray(RAMP).convert(mode)


def bomb(kind: str) -> bytes:
    """A small picture whose header claims 60000 x 60000, or the most that its kind can say."""
    if kind == "PNG":

        def chunk(name: bytes, data: bytes) -> bytes:
            crc = struct.pack(">I", zlib.crc32(name + data))
            return struct.pack(">I", len(data)) + name + data + crc

        header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
        body = chunk(b"IDAT", zlib.compress(bytes(10_000_000)))
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")
    if kind == "JPEG":
        data = encoded(ramp(), "JPEG")
        at = data.index(b"\xff\xc0") + 5
        return data[:at] + struct.pack(">HH", 60000, 60000) + data[at + 4 :]
    if kind == "WEBP":
        data = encoded(ramp(), "WEBP")
        at = data.index(b"\x9d\x01\x2a") + 3
        return data[:at] + struct.pack("<HH", 16383, 16383) + data[at + 4 :]
    frames = [ramp(), ramp().rotate(180)]
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    at = data.index(b"VP8X") + 12
    return data[:at] + struct.pack("<I", 16382)[:3] * 2 + data[at + 6 :]


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGB", "JPEG"),
        ("L", "JPEG"),
        ("CMYK", "JPEG"),
        ("RGB", "PNG"),
        ("L", "PNG"),
        ("P", "PNG"),
        ("LA", "PNG"),
        ("RGBA", "PNG"),
        ("I;16", "PNG"),
        ("RGB", "WEBP"),
        ("RGBA", "WEBP"),
    ],
)
def test_every_kind_becomes_rgb(mode: str, kind: str) -> None:
    data = encoded(ramp(mode), kind)
    image = decode_picture(data)
    assert check_picture(data) == (64, 48)
    assert image.shape == (48, 64, 3) and image.dtype == np.uint8
    assert image.flags["C_CONTIGUOUS"]
    assert np.abs(image.astype(int) - RAMP[..., None]).max() <= 12


def test_a_turned_picture_comes_upright() -> None:
    """What phones write as turned by a quarter is turned back."""
    image = ramp()
    exif = image.getexif()
    exif[0x0112] = 6
    decoded = decode_picture(encoded(image, "JPEG", exif=exif))
    assert decoded.shape == (64, 48, 3)
    assert decoded[2].mean() < 20 and decoded[-2].mean() > 235


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_and_mirrored_as_it_is_held(orientation: int) -> None:
    """As Pillow does it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(ramp(), "PNG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(decode_picture(data), np.array(expected))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_with_damaged_exif_data_is_taken(kind: str) -> None:
    """Numbers where there should be text, and what is no EXIF data at all."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x0128] = 2
    good = exif.tobytes()
    unit = good.index(b"\x01\x28\x00\x03") + 3
    odd = good[:unit] + b"\x02" + good[unit + 1 :]
    assert decode_picture(encoded(ramp(), kind, exif=odd)).shape == (64, 48, 3)
    none = good[:6] + b"XX" + good[8:]
    assert decode_picture(encoded(ramp(), kind, exif=none)).shape == (48, 64, 3)


def test_what_is_transparent_is_black() -> None:
    image = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
    assert decode_picture(encoded(image, "PNG")).max() == 0


def test_sixteen_bits_with_one_transparent_gray_are_scaled() -> None:
    """And what has that gray is black."""
    data = encoded(ramp("I;16"), "PNG")
    gray = int(RAMP[0, 40])
    clear = struct.pack(">I4sH", 2, b"tRNS", gray << 8)
    at = data.index(b"IDAT") - 4
    data = data[:at] + clear + struct.pack(">I", zlib.crc32(clear[4:])) + data[at:]
    expected = np.where(gray == RAMP, 0, RAMP)
    assert np.array_equal(decode_picture(data)[..., 0], expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "animated WEBP"])
def test_bombs_are_refused_before_memory_is_taken(kind: str) -> None:
    """A header's claim is enough; a process that may not grow by 64 MB refuses it as well."""
    data = bomb(kind)
    assert len(data) < 20_000
    with pytest.raises(PictureError, match="pixels"):
        check_picture(data)
    code = """
        import resource, sys
        from sources.errors import PictureError
        from sources.picture import decode_picture
        data = sys.stdin.buffer.read()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            decode_picture(data)
        except PictureError as error:
            print(error)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], input=data, capture_output=True, check=True
    )
    said, grown = ran.stdout.decode().splitlines()
    assert "pixels" in said and int(grown) < 4096, (said, grown)


def test_limits_are_the_callers() -> None:
    data = encoded(ramp(), "PNG")
    assert decode_picture(data, max_pixels=64 * 48).shape == (48, 64, 3)
    with pytest.raises(PictureError, match="64 x 48 pixels"):
        decode_picture(data, max_pixels=64 * 48 - 1)
    with pytest.raises(PictureError, match="bytes"):
        check_picture(bytes(MAX_BYTES + 1))


def test_a_line_of_pixels_has_its_limit() -> None:
    """A million of them are 4 KB as a PNG, and gigabytes while a model scales them."""
    longest = MAX_SIDE, MAX_SIDE + 1
    lines = [(n, 1) for n in longest] + [(1, n) for n in longest]
    fits, too_wide, fits_too, too_high = (encoded(Image.new("RGB", s), "PNG") for s in lines)
    for data in (fits, fits_too):
        check_picture(data)
    for data in (too_wide, too_high):
        with pytest.raises(PictureError, match=f"{MAX_SIDE} a side"):
            check_picture(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"\xff\xd8\xff", b"GIF89a" + bytes(40), b"%!PS-Adobe", b"RIFF\0\0\0\0WEBP"],
)
def test_what_is_no_picture_is_said_to_be_none(data: bytes) -> None:
    for act in (check_picture, decode_picture):
        with pytest.raises(PictureError, match="not a picture that can be read"):
            act(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damage_is_an_error_or_a_picture_and_nothing_else(kind: str) -> None:
    """Cut short or scribbled over at seeded places, it is decoded or refused in one sentence."""
    random = np.random.default_rng(7)
    whole = encoded(ramp(), kind)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        if random.random() < 0.5:
            data = data[: random.integers(len(data))]
        for _ in range(random.integers(1, 9)):
            if data:
                data[random.integers(len(data))] = random.integers(256)
        try:
            assert decode_picture(bytes(data)).shape[2] == 3
        except PictureError as error:
            refused += 1
            assert str(error).count(".") <= 2 and "0x" not in str(error)
    assert refused > 50
