"""Pictures as bytes: those given, judged by their header before they are decoded, and made."""

import io
import warnings

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from sources.errors import PictureError
from sources.frame import MAX_PIXELS, MAX_SIDE, is_too_large

MAX_BYTES = 16 << 20
_FORMATS = ("JPEG", "PNG", "WEBP")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WANTED = "give a whole JPEG, PNG or WebP picture"
# Our limit is the stricter one, and an error.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def check_picture(
    data: bytes, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> tuple[int, int]:
    """Return width and height that a picture claims, before it is turned upright.

    Only the header is read. Raises PictureError for what is no picture, or too large.
    """
    with _open(data, max_pixels, max_bytes) as picture:
        return picture.size


def decode_picture(
    data: bytes, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> npt.NDArray[np.uint8]:
    """Return a picture as contiguous uint8 RGB [H, W, 3], upright, transparency on black.

    Of an animation it is the first picture. Raises PictureError for what is no picture, too large
    or damaged.
    """
    with _open(data, max_pixels, max_bytes) as picture:
        try:
            upright = _turned_upright(picture)
            if upright.mode.startswith("I;16"):
                # Pillow would clip 16 bits a pixel at 255 instead of scaling them.
                upright = _eight_bits(upright)
            elif upright.has_transparency_data:
                upright = upright.convert("RGBA")
                black = Image.new("RGBA", upright.size, "black")
                upright = Image.alpha_composite(black, upright)
            return np.ascontiguousarray(np.array(upright.convert("RGB")))
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise PictureError(f"The picture is damaged; {_WANTED}.") from error


def encode_jpeg(image: npt.NDArray[np.uint8], quality: int) -> bytes:
    """Return uint8 RGB [H, W, 3] as a JPEG of a quality up to 100."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _open(data: bytes, max_pixels: int, max_bytes: int) -> Image.Image:
    if len(data) > max_bytes:
        raise PictureError(
            f"The picture has {len(data)} bytes; at most {max_bytes} are taken, so scale it down."
        )
    try:
        picture = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError:
        raise PictureError(_too_large("more", max_pixels)) from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError) as error:
        raise PictureError(f"This is not a picture that can be read; {_WANTED}.") from error
    width, height = picture.size
    if is_too_large(width, height, max_pixels):
        picture.close()
        raise PictureError(_too_large(f"{width} x {height}", max_pixels))
    return picture


def _turned_upright(picture: Image.Image) -> Image.Image:
    """The picture as its EXIF data say that it is held; as it is where they make no sense.

    Not ImageOps.exif_transpose: that writes what is left of the data anew, which fails in many
    ways for what a camera has written wrong.
    """
    picture.load()
    try:
        held = picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # whatever is wrong in there, the picture is whole
        return picture
    turn = _TURNS.get(held) if isinstance(held, int) else None
    return picture if turn is None else picture.transpose(turn)


def _eight_bits(gray: Image.Image) -> Image.Image:
    """A picture of 16 bits a pixel in 8; what it calls transparent is black."""
    values = np.array(gray)
    clear = gray.info.get("transparency")
    if isinstance(clear, int):
        values[values == clear] = 0
    return Image.fromarray((values >> 8).astype(np.uint8))


def _too_large(claimed: str, max_pixels: int) -> str:
    return (
        f"The picture has {claimed} pixels; at most {max_pixels / 1e6:.1f} million are taken, "
        f"and {MAX_SIDE} a side, so scale it down."
    )
