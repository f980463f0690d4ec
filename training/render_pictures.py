"""The pictures that need no pack: shapes, clutter and painted backgrounds, drawn once at load.

Everything comes from fixed seeds, so every machine has the same ones. Shapes are white inside a
dark rim: tinted, they stay visible before any background.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
_OVERSAMPLING = 4


def draw_shape(name: str, tile: int, side: int) -> Image:
    """A white shape of a given side with a dark rim, RGBA [tile, tile, 4] in 0..1."""
    scale = _OVERSAMPLING
    points = np.array(_outline(name)) * (side * scale / 2) + tile * scale / 2
    mask = np.zeros((tile * scale, tile * scale), np.uint8)
    cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 255)
    rim = np.ones((2 * scale * 2 + 1, 2 * scale * 2 + 1), np.uint8)
    inside = cv2.erode(mask, rim)
    size = (tile, tile)
    alpha = cv2.resize(mask, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    white = cv2.resize(inside, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    white = 0.12 + 0.88 * white / np.maximum(alpha, 1e-3).clip(1e-3)
    return np.dstack([white.clip(0, 1)] * 3 + [alpha])


def _outline(name: str) -> list[tuple[float, float]]:
    """The corners of a shape in -1..1, y down."""
    match name:
        case "circle":
            return _polygon(64)
        case "square":
            return [(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)]
        case "triangle":
            return [(0, -0.92), (1, 0.86), (-1, 0.86)]
        case "star":
            outer, inner = _polygon(5), _polygon(5, 0.42, math.pi / 5)
            return [point for pair in zip(outer, inner, strict=True) for point in pair]
        case "heart":
            steps = np.linspace(0, 2 * math.pi, 64)
            return [(math.sin(s) ** 3, -_heart_height(s)) for s in steps]
        case "diamond":
            return [(0, -1), (0.68, 0), (0, 1), (-0.68, 0)]
        case "cross":
            a, b = 0.33, 0.95
            quarter = [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a)]
            return quarter + [(-x, -y) for x, y in quarter]
        case "hexagon":
            return _polygon(6)
        case _:
            raise ValueError(f"no such shape: {name}")


def _polygon(corners: int, radius: float = 1.0, turn: float = 0.0) -> list[tuple[float, float]]:
    angles = [turn + 2 * math.pi * i / corners for i in range(corners)]
    return [(radius * math.sin(a), -radius * math.cos(a)) for a in angles]


def _heart_height(s: float) -> float:
    height = 13 * math.cos(s) - 5 * math.cos(2 * s) - 2 * math.cos(3 * s) - math.cos(4 * s)
    return (height + 2) / 15


def draw_clutter(number: int, tile: int) -> Image:
    """A scrap without a name: scribbled lines or a torn blob, RGBA [tile, tile, 4] in 0..1."""
    rng = np.random.default_rng(1000 + number)
    mask = np.zeros((tile * 2, tile * 2), np.uint8)
    if number % 2:
        points = rng.uniform(10, tile * 2 - 10, (int(rng.integers(4, 7)), 2)).astype(np.int32)
        cv2.polylines(mask, [points], False, 255, int(rng.integers(2, 6)), cv2.LINE_AA)
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, 11))
        radii = rng.uniform(0.25, 0.9, 11) * tile
        corners = tile + np.stack([np.cos(angles) * radii, np.sin(angles) * radii], 1)
        cv2.fillPoly(mask, [corners.astype(np.int32)], 255, cv2.LINE_AA)
    alpha = cv2.resize(mask, (tile, tile), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    alpha[[0, 1, -2, -1]] = 0
    alpha[:, [0, 1, -2, -1]] = 0
    texture = 0.4 + 0.6 * _clouds(rng, tile, 1, 2 ** int(rng.integers(2, 5)))
    return np.dstack([texture] * 3 + [alpha[..., None]]).astype(np.float32)


def paint_background(number: int, side: int) -> Image:
    """A background that is no photo, RGB [side, side, 3] in 0..1."""
    rng = np.random.default_rng(2000 + number)
    low, high = rng.uniform(0, 1, (2, 3))
    y, x = np.mgrid[0:side, 0:side] / side
    sort = number % 8
    if sort == 0:
        t = np.full((side, side), 0.5)
    elif sort == 1:
        t = x * np.cos(number) + y * np.sin(number)
    elif sort == 2:
        t = 0.5 + 0.5 * np.sign(
            np.sin(2 * np.pi * rng.uniform(2, 9) * (x + y * rng.uniform(-1, 1)))
        )
    elif sort == 3:
        n = int(rng.integers(3, 9))
        t = (np.floor(x * n) + np.floor(y * n)) % 2
    elif sort == 4:
        n = int(rng.integers(3, 10))
        patches = rng.uniform(0, 1, (n, n, 3)).astype(np.float32)
        scaled = cv2.resize(patches, (side, side), interpolation=cv2.INTER_NEAREST)
        return np.asarray(scaled, np.float32)
    else:
        channels = 3 if sort == 7 else 1
        t = _clouds(rng, side, channels, 2 ** int(rng.integers(1, 6)))
        if sort == 7:
            return t.astype(np.float32)
        t = t[..., 0]
    t = np.clip(t, 0, 1)[..., None]
    image = low * (1 - t) + high * t + rng.normal(0, 0.02, (side, side, 1))
    return np.clip(image, 0, 1).astype(np.float32)


def _clouds(rng: np.random.Generator, side: int, channels: int, cells: int) -> NDArray[np.float64]:
    """Smooth noise of several sizes, stretched to 0..1, [side, side, channels]."""
    total = np.zeros((side, side, channels))
    for octave in range(3):
        n = max(2, cells * 2**octave)
        grid = rng.uniform(0, 1, (n, n, channels))
        layer = cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
        total += layer.reshape(side, side, channels) / 2**octave
    total -= total.min()
    return total / total.max()
