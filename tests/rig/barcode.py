"""Frames that carry their number in black and white blocks, which survive JPEG and H.264."""

from fractions import Fraction

import av
import av.container
import numpy as np

BITS = 16
BAND = 8  # each of the two rows of blocks is an eighth of the picture high
DARK, BRIGHT = 80, 175


def numbered_frame(number: int, width: int = 320, height: int = 240) -> np.ndarray:
    """Return a moving RGB picture (height, width, 3) with `number` modulo 65536 on it."""
    shade = (np.arange(width) + np.arange(height)[:, None] + 2 * number) % 256
    image = np.stack([shade, 255 - shade, np.full_like(shade, 128)], axis=2).astype(np.uint8)
    blocks = np.array([number >> bit & 1 for bit in reversed(range(BITS))], np.uint8) * 255
    row = blocks[np.arange(width) * BITS // width][:, None]
    image[: height // BAND] = row
    image[height // BAND : height // BAND * 2] = 255 - row
    return image


def read_number(image: np.ndarray) -> int | None:
    """Return the number on an RGB picture of any size, or None where it cannot be read.

    The second row of blocks is the inverse of the first: black or torn pictures have no number.
    """
    height, width = image.shape[0] // BAND, image.shape[1] // BITS
    number = 0
    for bit in range(BITS):
        left = bit * image.shape[1] // BITS
        columns = slice(left + width // 4, left + width - width // 4)
        upper, lower = (
            image[row * height + height // 4 : (row + 1) * height - height // 4, columns].mean()
            for row in range(2)
        )
        if not (min(upper, lower) < DARK and max(upper, lower) > BRIGHT):
            return None
        number = number * 2 + (upper > lower)
    return int(number)


def film(
    target: av.container.OutputContainer,
    numbers: range,
    *,
    fps: int = 25,
    size: tuple[int, int] = (320, 240),
) -> None:
    """Write these pictures to `target` as H.264, timed number / fps, the first a key frame."""
    options = {"preset": "ultrafast", "tune": "zerolatency", "threads": "1"}
    stream = target.add_stream("libx264", rate=fps, options=options)
    stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
    stream.codec_context.gop_size = len(numbers)
    for number in numbers:
        frame = av.VideoFrame.from_ndarray(numbered_frame(number, *size), format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, fps)
        target.mux(stream.encode(frame))
    target.mux(stream.encode(None))
