"""The CPU renderer of single frames: the picture of the batch renderer, noise from rng alone."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.render import Renderer
from training.render_frame import FrameRenderer
from training.render_pack import FRAME, Pack, load_pack
from training.world import World, WorldStyle
from training.world_catalogue import Split, load_catalogue, load_index
from training.world_scene import (
    FIRST_PICTURE,
    MAX_GLYPHS,
    NUMBER_SLOT,
    SCENE_SIZE,
    VIEW_FIELDS,
    WORD_SLOT,
    Scene,
    stack_scenes,
)

SQUARE = load_catalogue("train").shape_in("square", "red").cell
CHARACTERS = load_index()["glyphs"]["characters"]
WIDTHS_OF_W = [font[CHARACTERS.index("W")] for font in load_index()["glyphs"]["advances"]]
ZOOM, ANGLE, BLUR, GAIN, SOFTNESS, NOISE, SHIFT = (
    VIEW_FIELDS.index(name)
    for name in ("zoom", "angle", "blur", "gain", "softness", "noise", "shift_x")
)
# Measured over the worlds below: 0.003 levels on average, 0.02 in the worst scene, no pixel off by
# more than 2 but a single one, whose centre lies on the edge of a plate up to the last bit. A
# picture half a pixel out of place is off by dozens of levels all along its edges.
MEAN_LEVELS, MOST_LEVELS, MAX_TIES = 0.05, 2, 5


@pytest.fixture(scope="module")
def pack() -> Pack:
    return load_pack()


@pytest.fixture(scope="module")
def drawn_in_batch(pack: Pack) -> Callable[[list[Scene]], NDArray[np.uint8]]:
    renderer = Renderer(pack, "cpu")
    return lambda scenes: renderer.render(stack_scenes(scenes)).numpy()


@pytest.fixture(scope="module")
def renderer(pack: Pack) -> FrameRenderer:
    return FrameRenderer(pack)


def scenes_of_worlds() -> list[Scene]:
    """Five scenes of each of twelve worlds, from 0 to some 150 seconds apart."""
    scenes = []
    splits: tuple[Split, ...] = ("train", "exam")
    for split in splits:
        for seed in range(6):
            world = World(seed, (2.0, 5.0, 25.0)[seed % 3], WorldStyle(split, noise=0.0))
            for i in range(5):
                for _ in range(1 + 7 * seed + 53 * i):
                    scene = world.advance()
                scenes.append(scene)
    return scenes


def blank() -> Scene:
    """A painted background, nothing in front of it."""
    scene = Scene(np.zeros(SCENE_SIZE, np.float32))
    scene.texts[:, :MAX_GLYPHS] = -1
    scene.view[:9] = (30, 0.4, -0.3, 1.3, 0.2, 0, 0.8, 0.9, 0.7)
    scene.view[GAIN] = 1.0
    return scene


def spell(scene: Scene, slot: int, word: str, font: int, plate: float) -> None:
    glyphs = [font * len(CHARACTERS) + CHARACTERS.index(c) for c in word]
    scene.texts[slot - WORD_SLOT, : len(word)] = glyphs
    scene.texts[slot - WORD_SLOT, MAX_GLYPHS] = plate


def assert_alike(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> None:
    """Frames [B, FRAME, FRAME, 3] are alike, each of them."""
    assert a.shape == b.shape and a.dtype == b.dtype == np.uint8
    apart = np.abs(a.astype(np.int16) - b)
    assert apart.mean((1, 2, 3)).max() <= MEAN_LEVELS
    assert (apart.max(3) > MOST_LEVELS).sum((1, 2)).max() <= MAX_TIES


def test_scenes_of_worlds_look_as_in_the_batch_renderer(
    renderer: FrameRenderer, drawn_in_batch: Callable[[list[Scene]], NDArray[np.uint8]]
) -> None:
    scenes = scenes_of_worlds()
    views = np.stack([scene.view for scene in scenes])
    # The scenes have something of most there is to draw; the tests below have all of it.
    assert (np.stack([scene.layers[:, -1] for scene in scenes]) > 0).any(0).all()
    assert len(set(views[:, BLUR])) > 1
    assert (views[:, [SHIFT, SOFTNESS]] != 0).any(0).all()
    frames = np.stack([renderer.draw(scene) for scene in scenes])
    assert_alike(frames, drawn_in_batch(scenes))


def test_texts_look_as_in_the_batch_renderer(
    renderer: FrameRenderer, drawn_in_batch: Callable[[list[Scene]], NDArray[np.uint8]]
) -> None:
    scenes = []
    words = ("STOP", "I", "482", "CLOSED", "", "WWWWWW")
    widest = WIDTHS_OF_W.index(max(WIDTHS_OF_W))
    # The last is wider than the line that texts are set in.
    assert 6 * WIDTHS_OF_W[widest] > 256
    for i, word in enumerate(words):
        for plate in (0.0, 1.0):
            scene = blank()
            spell(scene, WORD_SLOT, word, widest if i == 5 else i, plate)
            spell(scene, NUMBER_SLOT, "70", i % 2, 1 - plate)
            # Light and dark letters, fading, turned, leaving the frame.
            scene.layers[WORD_SLOT] = (0, 0.5, 0.35, 0.13, 0.15 * i - 0.3, 0.9, 0.8, 0.4, 1.0)
            scene.layers[NUMBER_SLOT] = (0, 0.97, 0.75, 0.12, 0.7 * i, 0.1, 0.2, 0.6, 0.37)
            scenes.append(scene)
    frames = np.stack([renderer.draw(scene) for scene in scenes])
    assert_alike(frames, drawn_in_batch(scenes))


def test_pictures_and_views_look_as_in_the_batch_renderer(
    renderer: FrameRenderer, drawn_in_batch: Callable[[list[Scene]], NDArray[np.uint8]]
) -> None:
    scenes = []
    for i in range(16):
        scene = blank()
        # Sizes from nothing to more than the frame, some half out of it, one far away.
        size = (0.0, 0.004, 0.3, 1.6)[i % 4]
        scene.layers[0] = (475 + i, 0.1 * i, 0.3, 0.5, 0.8 * i, 0.9, 0.5, 0.2, 0.6)
        scene.layers[FIRST_PICTURE] = (7 * i, 0.5, 0.4, size, 0.4 * i, 1, 1, 1, 1)
        scene.layers[FIRST_PICTURE + 1] = (SQUARE, 1.08, 0.5, 0.3, 0.1, 0.9, 0.1, 0.1, i / 15)
        scene.layers[FIRST_PICTURE + 2] = (20, -9.0, 0.5, 0.3, 0.1, 1, 1, 1, 1)
        # So far out and turned that the mirror image of the mirror image shows.
        scene.view[ZOOM], scene.view[ANGLE] = (0.4, 1.0, 2.2)[i % 3], 0.5 * i - 3
        scene.view[BLUR], scene.view[SOFTNESS] = i % 4, (0.0, 0.4, 1.0)[i % 3]
        scene.view[GAIN] = 0.8 + 0.03 * i
        scene.view[SHIFT : SHIFT + 2] = 0.02 * i, -0.013 * i
        scenes.append(scene)
    frames = np.stack([renderer.draw(scene) for scene in scenes])
    assert_alike(frames, drawn_in_batch(scenes))


def test_no_picture_reaches_the_rim_of_its_tile(pack: Pack) -> None:
    # Beyond its tile a picture is not drawn, so there it must have been clear already.
    alpha = pack.cells[:, 3]
    rim = torch.cat([alpha[:, [0, -1]].flatten(1), alpha[:, :, [0, -1]].flatten(1)], 1)
    assert rim.max() == 0


@pytest.mark.parametrize("deviation", [0.01, 0.03, 0.06])
def test_noise_is_gaussian_and_as_strong_as_asked(
    renderer: FrameRenderer, deviation: float
) -> None:
    scene = blank()
    # All of the frame is one grey, far from black and white.
    scene.layers[FIRST_PICTURE] = (SQUARE, 0.5, 0.5, 4.0, 0.0, 0.5, 0.5, 0.5, 1.0)
    plain = renderer.draw(scene, np.random.default_rng(1))
    assert plain.min() == plain.max()
    scene.view[NOISE] = deviation
    noise = renderer.draw(scene, np.random.default_rng(1)).astype(np.float64) - 127.5
    # Rounding adds the variance of a uniform step of one level.
    expected = ((deviation * 255) ** 2 + 1 / 12) ** 0.5
    assert noise.std() == pytest.approx(expected, rel=0.01)
    assert noise.mean() == pytest.approx(0, abs=5 * expected / noise.size**0.5)
    assert ((noise / expected) ** 4).mean() == pytest.approx(3, rel=0.03)
    # No pixel knows of the next one, no colour of the next.
    for a, b in (
        (noise[:, 1:], noise[:, :-1]),
        (noise[1:], noise[:-1]),
        (noise[..., 1:], noise[..., :-1]),
    ):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02


def test_noise_comes_from_rng_alone(pack: Pack, renderer: FrameRenderer) -> None:
    scene = World(2, 2.0, WorldStyle(noise=0.2)).advance()
    assert scene.view[NOISE] > 0
    rng = np.random.default_rng(1)
    first, second = renderer.draw(scene, rng), renderer.draw(scene, rng)
    assert not np.array_equal(first, second)
    again = np.random.default_rng(1)
    other = FrameRenderer(pack)
    assert np.array_equal(first, other.draw(scene, again))
    assert np.array_equal(second, other.draw(scene, again))
    without = renderer.draw(scene)
    assert np.array_equal(without, renderer.draw(scene))
    scene.view[NOISE] = 0.0
    assert np.array_equal(without, renderer.draw(scene, rng))


def test_a_frame_does_not_depend_on_what_was_drawn_before(
    pack: Pack, renderer: FrameRenderer
) -> None:
    scenes = scenes_of_worlds()[::4]
    values = [scene.values.copy() for scene in scenes]
    frames = [renderer.draw(scene) for scene in scenes]
    for scene, frame in zip(reversed(scenes), reversed(frames), strict=True):
        assert np.array_equal(renderer.draw(scene), frame)
    for scene, frame, before in zip(scenes[:3], frames, values, strict=False):
        assert np.array_equal(FrameRenderer(pack).draw(scene), frame)
        assert np.array_equal(scene.values, before)
    assert frames[0].shape == (FRAME, FRAME, 3)
