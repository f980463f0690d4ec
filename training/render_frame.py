"""Draws one scene at a time on the CPU: the same picture as render.Renderer, many times faster.

    renderer = FrameRenderer(load_pack())
    frame = renderer.draw(world.advance(), np.random.default_rng(1))    # uint8 [224, 224, 3]

Each layer is looked up only inside the box that it can reach. Nothing is kept from scene to scene.
Images are float32 with channels last, their colours in 0..255, alpha in 0..1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from training.render import LINE_WIDTH
from training.render_pack import BLURS, FRAME, SPRITE, Pack
from training.render_pictures import Image
from training.world_scene import LAYERS, WORD_SLOT, Scene

Matrix = NDArray[np.float64]
Point = tuple[float, float]

# Pixels of a picture: the rim of a tile around its sprite, and what an outline adds to a line.
_MARGIN = 4
_OUTLINE = np.ones((5, 5), np.uint8)
_LUMINANCE = (0.3, 0.59, 0.11)
_WARP = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
_QUANTILES = 1 << 16


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What a layer shows, tinted, before it has a place.

    `image` RGBA [h, w, 4], `paper` the grey beyond its edge, `side` the pixels of the image that
    the size of the layer counts, `half` the half width and height of what is not margin, `plate`
    the least alpha in there.
    """

    image: Image
    paper: float
    side: int
    half: Point
    plate: float

    @property
    def middle(self) -> Point:
        """Where the centre of the image is, in its pixels."""
        height, width, _ = self.image.shape
        return (width - 1) / 2, (height - 1) / 2


class FrameRenderer:
    """The pictures of a pack, and how to draw a scene with them."""

    def __init__(self, pack: Pack) -> None:
        self._cells: Image = pack.cells.permute(0, 2, 3, 1).contiguous().numpy()
        self._glyphs: Image = pack.glyphs.numpy()
        self._advances = [int(advance) for advance in pack.advances]
        self._backgrounds: NDArray[np.uint8] = pack.backgrounds.permute(0, 2, 3, 1).numpy()
        middles = (torch.arange(_QUANTILES, dtype=torch.float64) + 0.5) / _QUANTILES
        self._normal: Image = torch.special.ndtri(middles).float().numpy()

    def draw(self, scene: Scene, rng: np.random.Generator | None = None) -> NDArray[np.uint8]:
        """The frame, RGB [FRAME, FRAME, 3]; rng makes its noise, without it there is none."""
        frame = self._background(scene)
        for i in range(LAYERS):
            self._lay(frame, scene, i)
        gain, softness, noise = scene.view[9:12].tolist()
        soft = _soften(frame) if softness else frame
        weights = gain * (1 - softness), gain * softness
        if rng is None or not noise:
            return _to_bytes(frame, weights[0], soft, weights[1])
        lit = np.asarray(cv2.addWeighted(frame, weights[0], soft, weights[1], 0), np.float32)
        return _to_bytes(lit, 1, self._noise(rng), noise * 255)

    def _noise(self, rng: np.random.Generator) -> Image:
        """Gaussian noise of standard deviation 1, [FRAME, FRAME, 3].

        The quantiles of 16 random bits: a fifth of the time that numpy's own takes, and no
        difference can be seen in 256 levels.
        """
        picks = rng.integers(0, _QUANTILES, (FRAME, FRAME, 3), np.uint16)
        # No pick is out of range, and in this mode numpy does not look first.
        return self._normal.take(picks, mode="wrap")

    def _background(self, scene: Scene) -> Image:
        """[FRAME, FRAME, 3]"""
        number, x, y, zoom, angle, blur, *tint = scene.view[:9].tolist()
        shift_x, shift_y = scene.view[12:].tolist()
        image = _scaled(self._backgrounds[int(number) * len(BLURS) + int(blur)], tint)
        middle, spare = (FRAME - 1) / 2, FRAME / 2 * (1 - 1 / zoom)
        about = middle - shift_x * FRAME, middle - shift_y * FRAME
        matrix = _turn(angle, 1 / zoom, about, (middle + spare * x, middle + spare * y))
        # The picture repeats as its mirror image, so there is no edge to see.
        border = cv2.BORDER_REFLECT
        seen = cv2.warpAffine(image, matrix, (FRAME, FRAME), flags=_WARP, borderMode=border)
        return np.asarray(seen, np.float32).clip(0, 255)

    def _lay(self, frame: Image, scene: Scene, i: int) -> None:
        """Lay a layer over the frame."""
        if scene.layers[i, -1] == 0:
            return
        _, x, y, size, rotation = scene.layers[i, :5].tolist()
        shift_x, shift_y = scene.view[12:].tolist()
        stamp = self._picture(scene, i) if i < WORD_SLOT else self._text(scene, i - WORD_SLOT)
        scale = stamp.side / (FRAME * max(size, 1e-3))
        centre = (x + shift_x) * FRAME - 0.5, (y + shift_y) * FRAME - 0.5
        rows, columns = _reach(stamp, scale, rotation, centre)
        part = frame[rows, columns]
        if part.size == 0:
            return
        about = centre[0] - columns.start, centre[1] - rows.start
        _press(part, stamp, _turn(-rotation, scale, about, stamp.middle))

    def _picture(self, scene: Scene, i: int) -> _Stamp:
        cell, *_, red, green, blue, alpha = scene.layers[i].tolist()
        image = _scaled(self._cells[int(cell)], (red * 255, green * 255, blue * 255, alpha))
        return _Stamp(image, 0.0, SPRITE, (SPRITE / 2, SPRITE / 2), 0.0)

    def _text(self, scene: Scene, i: int) -> _Stamp:
        *_, red, green, blue, alpha = scene.layers[WORD_SLOT + i].tolist()
        *numbers, plate = scene.texts[i].tolist()
        glyphs = [int(number) for number in numbers if number >= 0]
        # dark letters stand on white, light ones on black
        light = sum(a * b for a, b in zip((red, green, blue), _LUMINANCE, strict=True))
        paper = 255.0 * (light < 0.5)
        ink = [255 * value - paper for value in (red, green, blue)]
        line, width = self._line(glyphs)
        image = _scaled(line, (*ink, alpha), (paper, paper, paper, 0.0))
        height = line.shape[0]
        return _Stamp(image, paper, height, (width / 2, height / 2), plate * alpha)

    def _line(self, glyphs: Sequence[int]) -> tuple[Image, int]:
        """Set glyphs side by side.

        Returns ink, thrice, and its outline [height, LINE_WIDTH, 4], centred, and its width.
        """
        ink = np.zeros((self._glyphs.shape[1], LINE_WIDTH), np.float32)
        width = sum(self._advances[glyph] for glyph in glyphs)
        start = LINE_WIDTH // 2 - round(width / 2)
        for glyph in glyphs:
            end = start + self._advances[glyph]
            first, last = max(start, 0), min(end, LINE_WIDTH)
            if first < last:
                ink[:, first:last] = self._glyphs[glyph, :, first - start : last - start]
            start = end
        return np.dstack([ink, ink, ink, cv2.dilate(ink, _OUTLINE)]), width


def _turn(angle: float, scale: float, about: Point, onto: Point) -> Matrix:
    """[2, 3]: turn and scale points of the frame about one, which comes to lie on another."""
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    (x, y), (u, v) = about, onto
    return np.array([[cos, -sin, u - cos * x + sin * y], [sin, cos, v - sin * x - cos * y]])


def _reach(stamp: _Stamp, scale: float, rotation: float, centre: Point) -> tuple[slice, slice]:
    """Rows and columns of the frame that a stamp may touch; scale in its pixels per frame pixel."""
    cos, sin = abs(math.cos(rotation)) / scale, abs(math.sin(rotation)) / scale
    across, down = stamp.half[0] + _MARGIN, stamp.half[1] + _MARGIN
    return (
        _clipped(centre[1], across * sin + down * cos),
        _clipped(centre[0], across * cos + down * sin),
    )


def _clipped(middle: float, half: float) -> slice:
    return slice(
        max(0, math.ceil(middle - half)), max(0, min(FRAME, math.floor(middle + half) + 1))
    )


def _press(part: Image, stamp: _Stamp, matrix: Matrix) -> None:
    """Lay a stamp over a part of the frame; the matrix leads from there to the stamp's pixels."""
    height, width, _ = part.shape
    paper = (stamp.paper, stamp.paper, stamp.paper, 0.0)
    patch = cv2.warpAffine(stamp.image, matrix, (width, height), flags=_WARP, borderValue=paper)
    alpha = cv2.extractChannel(patch, 3)
    if stamp.plate:
        alpha = np.maximum(alpha, _plate(stamp, matrix, height, width))
    # Three channels of alpha: numpy is slow over a last axis that it has to repeat.
    change = np.asarray(cv2.cvtColor(patch, cv2.COLOR_RGBA2RGB), np.float32)
    change -= part
    change *= cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB)
    part += change


def _plate(stamp: _Stamp, matrix: Matrix, height: int, width: int) -> Image:
    """The alpha of a stamp's plate in a part of the frame, [height, width]."""
    column, row = np.arange(width), np.arange(height)[:, None]
    inside = np.ones((height, width), np.bool_)
    for (a, b, c), middle, half in zip(matrix, stamp.middle, stamp.half, strict=True):
        inside &= np.abs(a * column + (b * row + (c - middle))) < half
    return inside * np.float32(stamp.plate)


def _scaled(
    image: Image | NDArray[np.uint8], by: Sequence[float], plus: Sequence[float] = ()
) -> Image:
    """Each channel times its own number, plus another, [H, W, C]."""
    height, width, channels = image.shape
    # Whole rows at once: numpy is slow over a last axis of 3 or 4.
    factors = np.tile(np.array(by, np.float32), width)
    rows: Image = image.reshape(height, width * channels) * factors
    if plus:
        rows += np.tile(np.array(plus, np.float32), width)
    return rows.reshape(height, width, channels)


def _soften(frame: Image) -> Image:
    """The mean of the 3 x 3 pixels around each, of fewer at the edges."""
    soft = np.asarray(cv2.blur(frame, (3, 3), borderType=cv2.BORDER_CONSTANT), np.float32)
    # A mean over nine, though at an edge only six of them were there.
    for edge in (soft[0], soft[-1], soft[:, 0], soft[:, -1]):
        edge *= 1.5
    return soft


def _to_bytes(a: Image, weight_a: float, b: Image, weight_b: float) -> NDArray[np.uint8]:
    """The weighted sum, rounded and clipped."""
    return np.asarray(cv2.addWeighted(a, weight_a, b, weight_b, 0, dtype=cv2.CV_8U), np.uint8)
