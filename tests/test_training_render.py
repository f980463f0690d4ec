"""The renderer: things are where their scene says, alpha composes, text can be read back."""

import numpy as np
import pytest
import torch

from training.render import GRID, NO_TEXT, NUM_CHARACTERS, Renderer
from training.render_pack import FRAME, load_pack
from training.world import World, WorldStyle
from training.world_catalogue import WHITE, load_catalogue, load_index
from training.world_scene import (
    EMPTY_LAYER,
    EMPTY_TEXT,
    FIRST_PICTURE,
    LAYERS,
    MOTIONS,
    PAST_FIELDS,
    TEXTS,
    UNKNOWN,
    VIEW_FIELDS,
    WORD_SLOT,
    Scene,
    stack_scenes,
)

CATALOGUE = load_catalogue("train")
RED_SQUARE = CATALOGUE.shape_in("square", "red")
STREAM = (4.0, 7.0, UNKNOWN, 0.0, 1.0, UNKNOWN, 3.0, 9.0, UNKNOWN)
Layer = tuple[float, ...]


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(load_pack(), "cpu")


def scene_of(
    layers: dict[int, Layer],
    classes: dict[int, int] | None = None,
    text: tuple[float, ...] = (),
    motions: dict[int, int] | None = None,
    past: dict[int, tuple[float, ...]] | None = None,
) -> Scene:
    values: list[float] = []
    for i in range(LAYERS):
        values += layers.get(i, EMPTY_LAYER)
    values += (text or EMPTY_TEXT) + EMPTY_TEXT * (TEXTS - 1)
    values += [float((classes or {}).get(i, 0)) for i in range(LAYERS)]
    values += [float((motions or {}).get(i, 0)) for i in range(LAYERS)]
    for i in range(FIRST_PICTURE, WORD_SLOT):
        values += (past or {}).get(i, (UNKNOWN,) * len(PAST_FIELDS))
    values += STREAM
    view = dict.fromkeys(VIEW_FIELDS, 0.0) | {"zoom": 1.0, "gain": 1.0}
    values += [view[name] for name in VIEW_FIELDS]
    return Scene(np.array(values, np.float32))


def square(x: float, y: float, alpha: float = 1.0, tint: tuple[float, ...] = (1, 0, 0)) -> Layer:
    return (RED_SQUARE.cell, x, y, 0.3, 0.0, *tint, alpha)


def test_a_thing_is_drawn_where_its_scene_says(renderer: Renderer) -> None:
    places = [(0.2, 0.5), (0.8, 0.5), (0.5, 0.25), (0.5, 0.8)]
    scenes = [scene_of({FIRST_PICTURE: square(x, y)}, {FIRST_PICTURE: 7}) for x, y in places]
    frames = renderer.render(stack_scenes(scenes)).numpy()
    assert frames.shape == (4, FRAME, FRAME, 3) and frames.dtype == np.uint8
    labels = renderer.labels(stack_scenes(scenes)).classes.numpy()
    assert labels.shape == (4, GRID, GRID)
    for frame, cells, place in zip(frames, labels, places, strict=True):
        # black background: only the square is red
        rows, columns = np.nonzero(frame[..., 0] > 128)
        assert (columns.mean() / FRAME, rows.mean() / FRAME) == pytest.approx(place, abs=0.01)
        assert frame[..., 1:].max() < 40
        rows, columns = np.nonzero(cells == 7)
        centre = ((columns.mean() + 0.5) / GRID, (rows.mean() + 0.5) / GRID)
        assert centre == pytest.approx(place, abs=0.07)
        assert set(np.unique(cells)) == {0, 7}


def test_alpha_composes_and_the_upper_layer_covers_the_lower(renderer: Renderer) -> None:
    upper = FIRST_PICTURE + 1
    blue = (0.0, 0.0, 1.0)
    scenes = [scene_of({FIRST_PICTURE: square(0.5, 0.5, alpha)}) for alpha in (0.0, 0.5, 1.0)] + [
        scene_of(
            {FIRST_PICTURE: square(0.5, 0.5), upper: square(0.5, 0.5, alpha, blue)},
            {FIRST_PICTURE: 1, upper: 2},
        )
        for alpha in (0.25, 1.0)
    ]
    stacked = stack_scenes(scenes)
    middle = renderer.render(stacked)[:, FRAME // 2, FRAME // 2].int()
    expected = [[0, 0, 0], [128, 0, 0], [255, 0, 0], [191, 0, 64], [0, 0, 255]]
    assert (middle - torch.tensor(expected)).abs().max() <= 1
    assert renderer.labels(stacked).classes[3:, 4, 4].tolist() == [1, 2]


def test_a_word_is_set_glyph_by_glyph_in_every_font(renderer: Renderer) -> None:
    index = load_index()["glyphs"]
    characters = index["characters"]
    for word in ("STOP", "482", "EXIT", "I"):
        for font in range(len(index["fonts"])):
            numbers = [characters.index(c) for c in word]
            glyphs = [font * len(characters) + number for number in numbers]
            text = (*map(float, glyphs), *EMPTY_TEXT[: 6 - len(word)], 1.0)
            layer = (0.0, 0.5, 0.5, 40 / FRAME, 0.0, *WHITE, 1.0)
            frame = renderer.render(stack_scenes([scene_of({WORD_SLOT: layer}, None, text)]))
            advances = [index["advances"][font][number] for number in numbers]
            left = round(FRAME / 2 - sum(advances) / 2)
            line = frame[0, FRAME // 2 - 20 : FRAME // 2 + 20, left : left + sum(advances), 0]
            expected = torch.cat(
                [renderer._glyphs[g, :, :a] for g, a in zip(glyphs, advances, strict=True)], 1
            )
            pair = torch.stack([line.float().flatten(), expected.flatten()])
            assert torch.corrcoef(pair)[0, 1] > 0.93, (word, font)


def test_noise_comes_from_the_generator_alone(renderer: Renderer) -> None:
    world = World(2, 2.0, WorldStyle(noise=0.2))
    stacked = stack_scenes([world.advance() for _ in range(4)])
    a, b = (renderer.render(stacked, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(a, b)
    c = renderer.render(stacked, torch.Generator().manual_seed(2))
    assert not torch.equal(a, c)


def test_scenes_show_pictures_in_front_of_varied_backgrounds(renderer: Renderer) -> None:
    scenes = [World(seed, 2.0, WorldStyle()).advance() for seed in range(24)]
    stacked = stack_scenes(scenes)
    frames = renderer.render(stacked).float()
    assert frames.std((1, 2, 3)).min() > 3
    flat = frames.flatten(1)
    apart = torch.cdist(flat, flat) / flat.shape[1] ** 0.5
    assert (apart + torch.eye(24) * 1e3).min() > 10
    labels = renderer.labels(stacked).classes
    for scene, cells in zip(scenes, labels, strict=True):
        assert set(cells.unique().tolist()) <= {0, *map(int, scene.classes)}


def test_labels_say_what_moves_how_and_spell_texts_over_their_whole_line(
    renderer: Renderer,
) -> None:
    """Also a text with gaps between its letters; the scenes themselves are left as they are."""
    left = MOTIONS.index("left")
    characters = load_index()["glyphs"]["characters"]
    numbers = [characters.index("I")] * 2
    glyphs = [3 * len(characters) + number for number in numbers]
    text = (*map(float, glyphs), *EMPTY_TEXT[2:])
    line = (0.0, 0.5, 0.8, 0.25, 0.0, *WHITE, 1.0)
    scene = scene_of(
        {FIRST_PICTURE: square(0.5, 0.25), WORD_SLOT: line},
        {FIRST_PICTURE: 7, WORD_SLOT: 9},
        text,
        {FIRST_PICTURE: left},
    )
    stacked = stack_scenes([scene])
    before = stacked.clone()
    labels = renderer.labels(stacked)
    assert torch.equal(stacked, before)
    assert (labels.motions == left).equal(labels.classes == 7) and (labels.classes == 7).any()
    spelled = labels.glyphs[labels.classes == 9]
    assert len(spelled) >= 2
    assert (spelled == torch.tensor([*numbers, *[NUM_CHARACTERS] * 4])).all()
    assert (labels.glyphs[labels.classes != 9] == NO_TEXT).all()


def test_labels_tell_of_a_picture_and_of_the_stream_what_the_scene_says(renderer: Renderer) -> None:
    """What is known of a picture stands in its cells alone, what is known of the stream once."""
    own = (3.0, UNKNOWN, 2.0)
    layers = {FIRST_PICTURE: square(0.25, 0.5), FIRST_PICTURE + 1: square(0.75, 0.5)}
    scene = scene_of(
        layers, {FIRST_PICTURE: 7, FIRST_PICTURE + 1: 8}, past={FIRST_PICTURE + 1: own}
    )
    labels = renderer.labels(stack_scenes([scene]))
    cells = labels.past[labels.classes == 8]
    assert len(cells) >= 2 and (cells == torch.tensor(own)).all()
    assert (labels.past[labels.classes != 8] == UNKNOWN).all()
    assert labels.stream.tolist() == [list(STREAM)]
