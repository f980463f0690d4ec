"""Builds assets/world from public packages; whoever trains needs only what is committed there.

    npm pack emoji-datasource-google@16.0.0 @lobehub/fluent-emoji-3d@1.1.0
    pip download --no-deps scikit-image==0.26.0 matplotlib==3.11.2

unpacked into four folders, then

    python -m training.pack --noto noto/package --fluent fluent/package \\
        --photos skimage/data --fonts matplotlib/mpl-data/fonts/ttf

It writes sprites.webp, glyphs.png, photos.webp and index.json. NOTICE beside them is kept by hand.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.pack_contents import CHARACTERS, FONTS, OBJECTS, PHOTOS
from training.render_pack import FRAME, GLYPH_HEIGHT, GLYPH_WIDTH, SPRITE, TILE

CAP_HEIGHT, BASELINE = 28, 34
SPRITE_COLUMNS, PHOTO_COLUMNS = 20, 6
# Of every seven objects one keeps its Noto picture for the exam and one its Fluent picture.
HOLD_OUT_EVERY = 7


def main() -> None:
    """Read the four folders, write the pack."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    for name in ("noto", "fluent", "photos", "fonts"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("assets/world"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    index = {
        "tile": TILE,
        "objects": _pack_sprites(args.noto, args.fluent, args.out / "sprites.webp"),
        "glyphs": _pack_glyphs(args.fonts, args.out / "glyphs.png"),
        "photos": _pack_photos(args.photos, args.out / "photos.webp"),
    }
    (args.out / "index.json").write_text(json.dumps(index, separators=(",", ":")) + "\n")


def _pack_sprites(noto: Path, fluent: Path, out: Path) -> list[dict[str, Any]]:
    """Object i has its Noto picture in tile 2i and its Fluent picture in tile 2i + 1."""
    records = json.loads((noto / "emoji.json").read_text())
    files = {r["unified"].lower().removesuffix("-fe0f"): r["image"] for r in records}
    tiles: list[Image.Image] = []
    objects = []
    for i, (code, name) in enumerate(OBJECTS.items()):
        pair = [
            _fit(Image.open(noto / "img/google/64" / files[code])),
            _fit(Image.open(_either(fluent / "assets", f"{code}.webp", f"{code}-fe0f.webp"))),
        ]
        tiles += pair
        objects.append(
            {
                "name": name,
                "codepoint": code,
                # the share of the picture's square that is not transparent
                "areas": [round(float(np.asarray(t)[..., 3].mean()) / 255, 3) for t in pair],
                "exam_style": {0: 0, 3: 1}.get(i % HOLD_OUT_EVERY),
            }
        )
    _sheet(tiles, SPRITE_COLUMNS, "RGBA").save(out, quality=82, alpha_quality=90, method=6)
    return objects


def _either(folder: Path, *names: str) -> Path:
    return next(folder / name for name in names if (folder / name).exists())


def _fit(image: Image.Image) -> Image.Image:
    """Crop to what is not transparent and centre it in a tile with a clear margin."""
    image = image.convert("RGBA")
    box = image.getchannel("A").point(lambda a: 255 if a > 16 else 0).getbbox()
    image = image.crop(box)
    scale = SPRITE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # Premultiplied, or the colour of what is transparent bleeds into the edges.
    image = image.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    tile = Image.new("RGBA", (TILE, TILE))
    tile.paste(image, ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    return tile


def _pack_glyphs(fonts: Path, out: Path) -> dict[str, Any]:
    """A row a font, a column a character, each at the left of its cell on a common baseline."""
    tiles, advances = [], []
    for font_name in FONTS:
        path = fonts / f"{font_name}.ttf"
        trial = ImageFont.truetype(path, 100).getbbox("H", anchor="ls")
        font = ImageFont.truetype(path, 100 * CAP_HEIGHT / (trial[3] - trial[1]))
        for character in CHARACTERS:
            tile = Image.new("L", (GLYPH_WIDTH, GLYPH_HEIGHT))
            left, _, right, _ = font.getbbox(character, anchor="ls")
            if right - left > GLYPH_WIDTH - 4:
                raise ValueError(f"{character} of {font_name} is {right - left} pixels wide")
            ImageDraw.Draw(tile).text((2 - left, BASELINE), character, 255, font, anchor="ls")
            tiles.append(tile)
            advances.append(int(right - left) + 4)
    _sheet(tiles, len(CHARACTERS), "L").save(out, optimize=True)
    return {
        "cell": [GLYPH_WIDTH, GLYPH_HEIGHT],
        "characters": CHARACTERS,
        "fonts": list(FONTS),
        "advances": np.reshape(advances, (len(FONTS), -1)).tolist(),
    }


def _pack_photos(folder: Path, out: Path) -> list[dict[str, Any]]:
    tiles, photos = [], []
    for file, left, top, side, exam in PHOTOS:
        image = Image.open(folder / file).convert("RGB")
        box = (left, top, left + side, top + side)
        tiles.append(image.crop(box).resize((FRAME, FRAME), Image.Resampling.LANCZOS))
        photos.append({"file": file, "box": [left, top, side], "exam": exam})
    _sheet(tiles, PHOTO_COLUMNS, "RGB").save(out, quality=78, method=6)
    return photos


def _sheet(tiles: list[Image.Image], columns: int, mode: str) -> Image.Image:
    width, height = tiles[0].size
    rows = -(-len(tiles) // columns)
    sheet = Image.new(mode, (columns * width, rows * height))
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (i % columns * width, i // columns * height))
    return sheet


if __name__ == "__main__":
    main()
