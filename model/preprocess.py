"""Frames as they come from a camera to the patches the vision tower reads."""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from model.config import VisionConfig

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def fit_grid(height: int, width: int, max_tokens: int) -> tuple[int, int]:
    """Rows and columns of merged tokens for a picture: near the limit, near its aspect ratio.

    Args:
        height, width: of the picture, in pixels.
        max_tokens: how many tokens a frame may have.
    """
    rows = min(max(1, math.floor(math.sqrt(max_tokens * height / width))), max_tokens)
    columns = min(max(1, round(rows * width / height)), max_tokens // rows)
    return rows, columns


def frames_to_patches(
    frames: Tensor, rows: int, columns: int, config: VisionConfig, dtype: torch.dtype
) -> Tensor:
    """Resize, normalise and cut frames into patches, on the device they are on.

    Args:
        frames: [B, height, width, 3] uint8 RGB, any size.
        rows, columns: of merged tokens; the frame becomes cell_size times as many pixels.

    Returns:
        [B, P, 588] in merged order: the patches of a token together, each as channel, row,
        column, with CLIP's mean and deviation taken out.
    """
    pixels = resize(frames, rows, columns, config)
    return cut_patches(normalise(pixels), rows, columns, config).to(dtype)


def resize(frames: Tensor, rows: int, columns: int, config: VisionConfig) -> Tensor:
    """[B, height, width, 3] uint8 -> [B, 3, rows * cell_size, columns * cell_size], 0..255."""
    size = (rows * config.cell_size, columns * config.cell_size)
    pixels = frames.permute(0, 3, 1, 2)
    if pixels.shape[-2:] != size:
        # torch resizes uint8 on the CPU only; there it is much faster than floats
        pixels = pixels.float() if frames.is_cuda else pixels
        pixels = F.interpolate(pixels, size=size, mode="bicubic", antialias=True)
        pixels = pixels.round().clamp(0, 255) if frames.is_cuda else pixels
    return pixels


def normalise(pixels: Tensor) -> Tensor:
    """[B, 3, height, width] in 0..255 -> fp32 with CLIP's mean and deviation taken out."""
    mean, std = _clip_constants(pixels.device)
    return (pixels.float() - mean) / std


@lru_cache(maxsize=8)
def _clip_constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """Kept on the device: they could not be sent there while a graph is captured."""
    with torch.inference_mode(False):
        constants = torch.tensor([CLIP_MEAN, CLIP_STD], device=device).view(2, 3, 1, 1) * 255
    return constants[0], constants[1]


def cut_patches(pixels: Tensor, rows: int, columns: int, config: VisionConfig) -> Tensor:
    """[B, 3, height, width] -> [B, P, 588] in merged order."""
    B, m, p = pixels.shape[0], config.merge_size, config.patch_size
    cut = pixels.reshape(B, 3, rows, m, p, columns, m, p)
    return cut.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(B, rows * columns * m * m, 3 * p * p)
