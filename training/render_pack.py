"""All pictures that scenes are drawn with, read from assets/world or drawn at load."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from training.render_pictures import draw_clutter, draw_shape, paint_background
from training.render_variants import varied
from training.world_catalogue import NUM_CLUTTER, NUM_PAINTED, PACK, SHAPES, load_index

FRAME = 224
TILE, SPRITE = 72, 64
BLURS = (0.0, 2.0, 5.0, 11.0)
GLYPH_WIDTH, GLYPH_HEIGHT = 50, 40


@dataclass(frozen=True, slots=True)
class Pack:
    """All pictures, on the CPU.

    cells [N, 4, 72, 72] and glyphs [G, 40, 50] in 0..1 with their advances [G] in pixels,
    backgrounds [N, 3, 224, 224] uint8, each sharp and at three degrees of blur.
    """

    cells: torch.Tensor
    glyphs: torch.Tensor
    backgrounds: torch.Tensor
    advances: torch.Tensor


def load_pack(*, looks: bool = False) -> Pack:
    """Read assets/world and draw what is not in it; at the end, all LOOKS of its objects."""
    index = load_index()
    sprites = cv2.cvtColor(_read("sprites.webp"), cv2.COLOR_BGRA2RGBA).astype(np.float32) / 255
    objects = _tiles(sprites, TILE, TILE)[: 2 * len(index["objects"])]
    drawn = [draw_shape(shape, TILE, SPRITE) for shape in SHAPES]
    drawn += [draw_clutter(i, TILE) for i in range(NUM_CLUTTER)]
    others = [varied(objects)] if looks else []
    cells = np.concatenate([objects, np.stack(drawn), *others])
    glyphs = _read("glyphs.png").astype(np.float32) / 255
    photos = cv2.cvtColor(_read("photos.webp"), cv2.COLOR_BGR2RGB)
    backgrounds = list(_tiles(photos, FRAME, FRAME))
    backgrounds += [np.uint8(paint_background(i, FRAME) * 255) for i in range(NUM_PAINTED)]
    blurred = [_blur(image, sigma) for image in backgrounds for sigma in BLURS]
    return Pack(
        torch.from_numpy(cells).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(_tiles(glyphs[..., None], GLYPH_HEIGHT, GLYPH_WIDTH)[..., 0]),
        torch.from_numpy(np.stack(blurred)).permute(0, 3, 1, 2),
        torch.tensor(index["glyphs"]["advances"], dtype=torch.float32).flatten(),
    )


def _read(name: str) -> np.ndarray:
    image = cv2.imread(str(PACK / name), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise FileNotFoundError(f"{PACK / name} is missing or no picture")
    return image


def _tiles(sheet: np.ndarray, height: int, width: int) -> np.ndarray:
    H, W, C = sheet.shape
    tiles = sheet.reshape(H // height, height, W // width, width, C)
    return tiles.transpose(0, 2, 1, 3, 4).reshape(-1, height, width, C)


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma) if sigma else image
