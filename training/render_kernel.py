"""The renderer's layers as one Triton kernel: each pixel once, and nothing for what is not there.

`Renderer.compose_layers` is its specification.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from training.render_pack import BLURS, SPRITE
from training.world_scene import (
    LAYER_FIELDS,
    LAYERS,
    MAX_GLYPHS,
    SCENE_SIZE,
    TEXT_FIELDS,
    TEXTS,
    VIEW_FIELDS,
)

_BLOCK = 512


def packed(images: Tensor) -> Tensor:
    """Pictures [N, 3 or 4, H, W] in 0..255 -> an int32 a pixel [N, H, W], alpha in the top byte."""
    bytes_ = images.round().to(torch.uint8).permute(0, 2, 3, 1)
    padding = 4 - bytes_.shape[-1]
    bytes_ = torch.nn.functional.pad(bytes_, (0, padding), value=255)
    return bytes_.contiguous().view(torch.int32)[..., 0]


def draw_layers(
    scenes: Tensor, lines: Tensor, widths: Tensor, backgrounds: Tensor, cells: Tensor, frame: int
) -> Tensor:
    """Draw background and layers: fp16 [B, 3, frame * frame] in 0..1.

    Args:
        scenes: [B, SCENE_SIZE]; lines, widths: from `Renderer._lines`.
        backgrounds, cells: from `packed`.
    """
    B, pixels = len(scenes), frame * frame
    out = torch.empty(B, 3, pixels, device=scenes.device, dtype=torch.float16)
    texts_at = LAYERS * len(LAYER_FIELDS)
    _draw[(triton.cdiv(pixels, _BLOCK), B)](
        scenes.contiguous(),
        lines.contiguous(),
        widths.contiguous(),
        backgrounds,
        cells,
        out,
        SCENE=SCENE_SIZE,
        FIELDS=len(LAYER_FIELDS),
        PICTURES=LAYERS - TEXTS,
        TEXTS=TEXTS,
        PLATE=texts_at + MAX_GLYPHS,
        TEXT_FIELDS=TEXT_FIELDS,
        VIEW=SCENE_SIZE - len(VIEW_FIELDS),
        FRAME=frame,
        TILE=cells.shape[-1],
        SPRITE=SPRITE,
        BLURS=len(BLURS),
        LINE_HEIGHT=lines.shape[-2],
        LINE_WIDTH=lines.shape[-1],
        BLOCK=_BLOCK,
    )
    return out


@triton.jit
def _tap(images, place, inside):
    """The channels of a packed pixel, 0..1."""
    pixel = tl.load(images + place, mask=inside, other=0)
    red = (pixel & 255).to(tl.float32) / 255.0
    green = ((pixel >> 8) & 255).to(tl.float32) / 255.0
    blue = ((pixel >> 16) & 255).to(tl.float32) / 255.0
    alpha = ((pixel >> 24) & 255).to(tl.float32) / 255.0
    return red, green, blue, alpha


@triton.jit
def _sample(images, number, u, v, inside, SIDE: tl.constexpr):
    """Look up u, v in -1..1 of picture `number`, bilinear; beyond its edge, the edge."""
    x = tl.minimum(tl.maximum(((u + 1) * SIDE - 1) * 0.5, 0.0), SIDE - 1.0)
    y = tl.minimum(tl.maximum(((v + 1) * SIDE - 1) * 0.5, 0.0), SIDE - 1.0)
    left, top = tl.floor(x), tl.floor(y)
    a, b = x - left, y - top
    column, row = left.to(tl.int32), top.to(tl.int32)
    right, below = tl.minimum(column + 1, SIDE - 1), tl.minimum(row + 1, SIDE - 1)
    upper = (number * SIDE + row) * SIDE
    lower = (number * SIDE + below) * SIDE
    r0, g0, b0, a0 = _tap(images, upper + column, inside)
    r1, g1, b1, a1 = _tap(images, upper + right, inside)
    r2, g2, b2, a2 = _tap(images, lower + column, inside)
    r3, g3, b3, a3 = _tap(images, lower + right, inside)
    w0, w1, w2, w3 = (1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b
    return (
        r0 * w0 + r1 * w1 + r2 * w2 + r3 * w3,
        g0 * w0 + g1 * w1 + g2 * w2 + g3 * w3,
        b0 * w0 + b1 * w1 + b2 * w2 + b3 * w3,
        a0 * w0 + a1 * w1 + a2 * w2 + a3 * w3,
    )


@triton.jit
def _line_tap(line, x, y, WIDTH: tl.constexpr, HEIGHT: tl.constexpr):
    inside = (x >= 0) & (x < WIDTH) & (y >= 0) & (y < HEIGHT)
    return tl.load(line + y * WIDTH + x, mask=inside, other=0.0)


@triton.jit
def _sample_line(line, u, v, WIDTH: tl.constexpr, HEIGHT: tl.constexpr):
    """Look up one channel of a line of text; beyond its edge there is nothing."""
    x, y = ((u + 1) * WIDTH - 1) * 0.5, ((v + 1) * HEIGHT - 1) * 0.5
    left, top = tl.floor(x), tl.floor(y)
    a, b = x - left, y - top
    column, row = left.to(tl.int32), top.to(tl.int32)
    return (
        _line_tap(line, column, row, WIDTH, HEIGHT) * (1 - a) * (1 - b)
        + _line_tap(line, column + 1, row, WIDTH, HEIGHT) * a * (1 - b)
        + _line_tap(line, column, row + 1, WIDTH, HEIGHT) * (1 - a) * b
        + _line_tap(line, column + 1, row + 1, WIDTH, HEIGHT) * a * b
    )


@triton.jit
def _mirror(u):
    """Fold into -1..1."""
    u = u + 1
    u = u - tl.floor(u * 0.25) * 4 - 2
    return 1 - tl.abs(u)


@triton.jit
def _draw(
    scenes,
    lines,
    widths,
    backgrounds,
    cells,
    out,
    SCENE: tl.constexpr,
    FIELDS: tl.constexpr,
    PICTURES: tl.constexpr,
    TEXTS: tl.constexpr,
    PLATE: tl.constexpr,
    TEXT_FIELDS: tl.constexpr,
    VIEW: tl.constexpr,
    FRAME: tl.constexpr,
    TILE: tl.constexpr,
    SPRITE: tl.constexpr,
    BLURS: tl.constexpr,
    LINE_HEIGHT: tl.constexpr,
    LINE_WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    b = tl.program_id(1).to(tl.int64)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = place < FRAME * FRAME
    px = ((place % FRAME).to(tl.float32) + 0.5) / FRAME
    py = ((place // FRAME).to(tl.float32) + 0.5) / FRAME
    scene = scenes + b * SCENE
    view = scene + VIEW
    shift_x, shift_y = tl.load(view + 12), tl.load(view + 13)

    number = (tl.load(view) * BLURS + tl.load(view + 5)).to(tl.int32)
    zoom, angle = tl.load(view + 3), tl.load(view + 4)
    cos, sin = tl.cos(angle), tl.sin(angle)
    x, y = (px + shift_x - 0.5) * 2, (py + shift_y - 0.5) * 2
    u = _mirror((x * cos - y * sin) / zoom + tl.load(view + 1) * (1 - 1 / zoom))
    v = _mirror((x * sin + y * cos) / zoom + tl.load(view + 2) * (1 - 1 / zoom))
    red, green, blue, _ = _sample(backgrounds, number, u, v, there, FRAME)
    red = tl.minimum(tl.maximum(red * tl.load(view + 6), 0.0), 1.0)
    green = tl.minimum(tl.maximum(green * tl.load(view + 7), 0.0), 1.0)
    blue = tl.minimum(tl.maximum(blue * tl.load(view + 8), 0.0), 1.0)

    for i in range(PICTURES + TEXTS):
        layer = scene + i * FIELDS
        opacity = tl.load(layer + 8)
        if opacity > 0:
            x = (px - shift_x - tl.load(layer + 1)) * 2
            y = (py - shift_y - tl.load(layer + 2)) * 2
            size, angle = tl.maximum(tl.load(layer + 3), 1e-3), -tl.load(layer + 4)
            cos, sin = tl.cos(angle), tl.sin(angle)
            u, v = x * cos - y * sin, x * sin + y * cos
            tint_r, tint_g, tint_b = tl.load(layer + 5), tl.load(layer + 6), tl.load(layer + 7)
            if i < PICTURES:
                scale = size * (TILE / SPRITE)
                # The rim of every tile is clear: beyond it there is nothing to see.
                near = there & (tl.abs(u) < scale) & (tl.abs(v) < scale)
                cell = tl.load(layer).to(tl.int32)
                r, g, b_, alpha = _sample(cells, cell, u / scale, v / scale, near, TILE)
                r, g, b_, alpha = r * tint_r, g * tint_g, b_ * tint_b, alpha * opacity
            else:
                t = i - PICTURES
                line = lines + (b * TEXTS + t) * 2 * LINE_HEIGHT * LINE_WIDTH
                lu, lv = u / size * (LINE_HEIGHT / LINE_WIDTH), v / size
                ink = _sample_line(line, lu, lv, LINE_WIDTH, LINE_HEIGHT)
                rim = _sample_line(line + LINE_HEIGHT * LINE_WIDTH, lu, lv, LINE_WIDTH, LINE_HEIGHT)
                width = tl.load(widths + b * TEXTS + t)
                inside = (tl.abs(u) < size * width) & (tl.abs(v) < size)
                plate = tl.load(scene + PLATE + t * TEXT_FIELDS)
                alpha = tl.maximum(rim, tl.where(inside, plate, 0.0)) * opacity
                light = 0.3 * tint_r + 0.59 * tint_g + 0.11 * tint_b
                paper = tl.where(light < 0.5, 1.0, 0.0)
                r = paper + (tint_r - paper) * ink
                g = paper + (tint_g - paper) * ink
                b_ = paper + (tint_b - paper) * ink
            red += (r - red) * alpha
            green += (g - green) * alpha
            blue += (b_ - blue) * alpha

    at = out + b * 3 * FRAME * FRAME + place
    tl.store(at, red.to(tl.float16), mask=there)
    tl.store(at + FRAME * FRAME, green.to(tl.float16), mask=there)
    tl.store(at + 2 * FRAME * FRAME, blue.to(tl.float16), mask=there)
