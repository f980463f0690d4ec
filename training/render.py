"""Draws scenes on a device, a batch of frames at a time.

    renderer = Renderer(load_pack(), "cuda")
    frames = renderer.render(stack_scenes(scenes).to("cuda"))    # uint8 [B, 224, 224, 3]
    labels = renderer.labels(stack_scenes(scenes).to("cuda"))    # what each cell shows

Every layer is one grid_sample from a sheet of pictures (or from the lines of text of the batch,
set from glyphs first) laid over what is below it by its alpha. B frames, P points, G glyphs.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from training.render_pack import BLURS, FRAME, GLYPH_HEIGHT, GLYPH_WIDTH, SPRITE, TILE, Pack
from training.world_catalogue import load_index
from training.world_scene import (
    FIRST_PICTURE,
    LAYERS,
    MAX_GLYPHS,
    PAST_FIELDS,
    TEXTS,
    UNKNOWN,
    SceneBatch,
    split_scenes,
)

GRID = 8
NUM_CHARACTERS: int = len(load_index()["glyphs"]["characters"])
NO_TEXT = -100
LINE_WIDTH = 256
_FIRST_TEXT = LAYERS - TEXTS


class Labels(NamedTuple):
    """What each cell of a frame shows, int64.

    classes [B, 8, 8], 0 for nothing that has a name; motions [B, 8, 8], indices into MOTIONS;
    glyphs [B, 8, 8, MAX_GLYPHS], the characters of a text, NUM_CHARACTERS after its end, NO_TEXT
    where there is no text; letters [B, 8, 8], the character at the cell's centre, likewise;
    past [B, 8, 8, len(PAST_FIELDS)] of the picture in the cell and stream [B, len(STREAM_FIELDS)],
    UNKNOWN where there is no plain answer.
    """

    classes: torch.Tensor
    motions: torch.Tensor
    glyphs: torch.Tensor
    letters: torch.Tensor
    past: torch.Tensor
    stream: torch.Tensor


class Renderer:
    """The pictures of a pack on a device, and how to draw scenes with them."""

    def __init__(self, pack: Pack, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.num_cells = pack.cells.shape[0]
        # One tall sheet each: all frames sample the same tensor, none needs a copy of its picture.
        self._cells = _tall(pack.cells).to(self.device)
        self.num_backgrounds = pack.backgrounds.shape[0]
        self._backgrounds = _tall(pack.backgrounds.to(self.device)).float() / 255
        blank = torch.zeros(1, GLYPH_HEIGHT, GLYPH_WIDTH)
        # The last glyph is the one that unused places show.
        self._glyphs = torch.cat([pack.glyphs, blank]).to(self.device)
        self._advances = torch.cat([pack.advances, torch.zeros(1)]).to(self.device)
        self._packed: tuple[torch.Tensor, torch.Tensor] | None = None
        if self.device.type == "cuda":
            from training.render_kernel import packed

            self._packed = packed(pack.backgrounds.to(device)), packed(pack.cells.to(device) * 255)
        self._luminance = torch.tensor([0.3, 0.59, 0.11], device=self.device).view(3, 1)
        self._pixels = _points(FRAME).to(self.device)
        self._centres = _points(GRID).to(self.device)

    def render(
        self, stacked: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Draw stacked scenes [B, SCENE_SIZE]; the generator makes the camera noise."""
        shape = (stacked.shape[0], 3, FRAME, FRAME)
        noise = torch.randn(shape, generator=generator, device=self.device)
        return self.compose(stacked, noise)

    def compose(self, stacked: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Draw with given noise [B, 3, FRAME, FRAME]."""
        return self.develop(stacked, self.compose_layers(stacked), noise)

    def compose_layers(self, stacked: torch.Tensor) -> torch.Tensor:
        """Background and layers, [B, 3, P] in 0..1."""
        scenes = split_scenes(stacked)
        lines, widths = self._lines(scenes.texts)
        if self._packed is not None:
            from training.render_kernel import draw_layers

            return draw_layers(stacked, lines, widths, *self._packed, FRAME)
        frames = self._background(scenes)
        for i in range(LAYERS):
            colour, alpha = self._layer(scenes, i, self._pixels, lines, widths)
            frames = torch.lerp(frames, colour, alpha)
        return frames

    @staticmethod
    def develop(stacked: torch.Tensor, layers: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """What the camera makes of it: softness, gain and noise; uint8 [B, FRAME, FRAME, 3]."""
        view = split_scenes(stacked).view[:, :, None, None, None]
        frames = layers.view(noise.shape).float()
        soft = F.avg_pool2d(frames, 3, 1, 1, count_include_pad=False)
        frames = torch.lerp(frames, soft, view[:, 10]) * view[:, 9] + noise * view[:, 11]
        frames = (frames.clamp(0, 1) * 255).round().to(torch.uint8)
        return frames.permute(0, 2, 3, 1).contiguous()

    def labels(self, stacked: torch.Tensor) -> Labels:
        """What the top-most thing that covers the centre of each cell is."""
        scenes = split_scenes(stacked.clone())
        B = stacked.shape[0]
        lines, widths = self._lines(scenes.texts)
        # A text covers all of its line, not only where there is ink.
        scenes.texts[:, :, MAX_GLYPHS] = 1.0
        classes = stacked.new_zeros(B, GRID * GRID)
        motions = stacked.new_zeros(B, GRID * GRID)
        glyphs = stacked.new_full((B, GRID * GRID, MAX_GLYPHS), float(NO_TEXT))
        letters = stacked.new_full((B, GRID * GRID), float(NO_TEXT))
        past = stacked.new_full((B, GRID * GRID, len(PAST_FIELDS)), UNKNOWN)
        for i in range(LAYERS):
            alpha = self._layer(scenes, i, self._centres, lines, widths)[1][:, 0]
            named = scenes.classes[:, i, None]
            covers = (alpha > 0.5) & (named > 0)
            classes = torch.where(covers, named, classes)
            motions = torch.where(covers, scenes.motions[:, i, None], motions)
            text = stacked.new_full((B, 1, MAX_GLYPHS), float(NO_TEXT))
            if FIRST_PICTURE <= i < _FIRST_TEXT:
                own = scenes.past[:, i - FIRST_PICTURE, None]
                past = torch.where(covers[..., None], own, past)
            if i >= _FIRST_TEXT:
                text = scenes.texts[:, i - _FIRST_TEXT, None, :MAX_GLYPHS]
                text = torch.where(text < 0, NUM_CHARACTERS, text % NUM_CHARACTERS)
                letter = text[:, 0].gather(1, self._which_letter(scenes, i))
                letters = torch.where(covers, letter, letters)
            glyphs = torch.where(covers[..., None], text, glyphs)
        return Labels(
            classes.long().view(-1, GRID, GRID),
            motions.long().view(-1, GRID, GRID),
            glyphs.long().view(-1, GRID, GRID, MAX_GLYPHS),
            letters.long().view(-1, GRID, GRID),
            past.long().view(-1, GRID, GRID, len(PAST_FIELDS)),
            scenes.stream.long(),
        )

    def _which_letter(self, scenes: SceneBatch, i: int) -> torch.Tensor:
        """Which letter of a text layer is nearest to each cell's centre, [B, 64]."""
        layer = scenes.layers[:, i, :, None]
        dx = self._centres[0] - scenes.view[:, 12, None] - layer[:, 1]
        dy = self._centres[1] - scenes.view[:, 13, None] - layer[:, 2]
        u, _ = _turn(dx * 2, dy * 2, -layer[:, 4])
        glyphs = scenes.texts[:, i - _FIRST_TEXT, :MAX_GLYPHS].long()
        widths = self._advances[torch.where(glyphs < 0, len(self._glyphs) - 1, glyphs)]
        ends = widths.cumsum(-1)
        # u / size is 1 at one line height from the middle
        place = u / layer[:, 3].clamp_min(1e-3) * GLYPH_HEIGHT / 2 + ends[:, -1:] / 2
        which = (place[..., None] >= ends[:, None]).sum(-1)
        return torch.minimum(which, (glyphs >= 0).sum(-1, keepdim=True) - 1).clamp_min(0)

    def _background(self, scenes: SceneBatch) -> torch.Tensor:
        """[B, 3, P]"""
        view = scenes.view[:, :, None]
        number, x, y, zoom, angle, blur = (view[:, i] for i in range(6))
        px, py = self._pixels
        u, v = _turn((px + view[:, 12] - 0.5) * 2, (py + view[:, 13] - 0.5) * 2, angle)
        # The picture repeats as its mirror image, so there is no edge to see.
        u = _mirror(u / zoom + x * (1 - 1 / zoom))
        v = _mirror(v / zoom + y * (1 - 1 / zoom))
        row = number * len(BLURS) + blur
        image = _sample(self._backgrounds, u, v, row, self.num_backgrounds, FRAME)
        return (image * scenes.view[:, 6:9, None]).clamp(0, 1)

    def _layer(
        self,
        scenes: SceneBatch,
        i: int,
        points: torch.Tensor,
        lines: torch.Tensor,
        widths: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Colour [B, 3, P] and alpha [B, 1, P] of a layer at points of the frame."""
        layer = scenes.layers[:, i, :, None]
        cell, x, y, size, rotation = (layer[:, k] for k in range(5))
        tint, alpha = layer[:, 5:8], layer[:, 8:9]
        dx = points[0] - scenes.view[:, 12, None] - x
        dy = points[1] - scenes.view[:, 13, None] - y
        u, v = _turn(dx * 2, dy * 2, -rotation)
        size = size.clamp_min(1e-3)
        if i < _FIRST_TEXT:
            scale = size * (TILE / SPRITE)
            picture = _sample(self._cells, u / scale, v / scale, cell, self.num_cells, TILE)
            return picture[:, :3] * tint, picture[:, 3:] * alpha
        width = widths[:, i - _FIRST_TEXT, None]
        lean = u / size * (GLYPH_HEIGHT / LINE_WIDTH), v / size
        picture = _sample_lines(lines[:, i - _FIRST_TEXT], *lean)
        inside = (u.abs() < size * width) & (v.abs() < size)
        plate = scenes.texts[:, i - _FIRST_TEXT, MAX_GLYPHS, None] * inside
        ink, edge = picture[:, :1], torch.maximum(picture[:, 1:], plate[:, None])
        # dark letters stand on white, light ones on black
        light = (tint * self._luminance).sum(1, keepdim=True)
        paper = (light < 0.5).to(tint.dtype)
        return torch.lerp(paper.expand_as(tint), tint, ink), edge * alpha

    def _lines(self, texts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Set the glyphs of each text side by side.

        Returns ink and its outline [B, TEXTS, 2, 40, 256], centred, and widths in line heights.
        """
        B = texts.shape[0]
        glyphs = texts[:, :, :MAX_GLYPHS].long()
        glyphs = torch.where(glyphs < 0, len(self._glyphs) - 1, glyphs)
        ends = self._advances[glyphs].cumsum(-1)
        column = torch.arange(LINE_WIDTH, device=texts.device) - LINE_WIDTH // 2
        # [B, TEXTS, 256]: where in the line a column is, which glyph that is, where in the glyph
        place = column + (ends[..., -1:] / 2).round()
        which = (place[..., None, :] >= ends[..., :, None]).sum(-2).clamp_max(MAX_GLYPHS - 1)
        start = (ends - self._advances[glyphs]).gather(-1, which)
        inside = (place >= 0) & (place < ends[..., -1:])
        within = (place - start).clamp(0, GLYPH_WIDTH - 1).long()
        ink = self._glyphs[glyphs.gather(-1, which), :, within] * inside[..., None]
        ink = ink.transpose(-1, -2).reshape(B * TEXTS, 1, GLYPH_HEIGHT, LINE_WIDTH)
        edge = F.max_pool2d(ink, 5, 1, 2)
        lines = torch.cat([ink, edge], 1).view(B, TEXTS, 2, GLYPH_HEIGHT, LINE_WIDTH)
        return lines, ends[..., -1] / GLYPH_HEIGHT


def _points(n: int) -> torch.Tensor:
    """x and y of the centres of n x n cells of the frame, row by row: [2, 1, n * n]."""
    line = (torch.arange(n) + 0.5) / n
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y]).view(2, 1, n * n)


def _tall(images: torch.Tensor) -> torch.Tensor:
    """[N, C, H, W] -> one image [1, C, N * H, W]."""
    N, C, H, W = images.shape
    return images.transpose(0, 1).reshape(1, C, N * H, W)


def _turn(
    x: torch.Tensor, y: torch.Tensor, angle: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    cos, sin = angle.cos(), angle.sin()
    return x * cos - y * sin, x * sin + y * cos


def _mirror(u: torch.Tensor) -> torch.Tensor:
    """Fold -inf..inf into -1..1."""
    return 1 - ((u + 1) % 4 - 2).abs()


def _sample(
    sheet: torch.Tensor,
    u: torch.Tensor,
    v: torch.Tensor,
    row: torch.Tensor,
    rows: int,
    side: int,
) -> torch.Tensor:
    """Look up u, v in -1..1 of an image of a tall sheet, [B, C, P]; beyond its edge, the edge."""
    # Half a pixel short of the edge, or the next image of the sheet shines through.
    limit = 1 - 1 / side
    u, v = u.clamp(-limit, limit), v.clamp(-limit, limit)
    v = (2 * row + 1 + v) / rows - 1
    grid = torch.stack([u, v], -1)[None]
    return F.grid_sample(sheet, grid, mode="bilinear", align_corners=False)[0].transpose(0, 1)


def _sample_lines(lines: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Look up u, v in -1..1 of each frame's own line of text, [B, 2, P]."""
    grid = torch.stack([u, v], -1)[:, None]
    return F.grid_sample(lines, grid, mode="bilinear", align_corners=False)[:, :, 0]
