"""The synthetic pattern: the same picture for the same number, and as many as were asked for."""

import numpy as np

from sources.open import SourceOptions, open_source
from sources.synthetic import render


def test_pattern_is_a_function_of_the_frame_number() -> None:
    """Rendering a number twice gives the same picture, another number another one."""
    assert np.array_equal(render(7, 320, 180), render(7, 320, 180))
    assert not np.array_equal(render(7, 320, 180), render(8, 320, 180))


def test_disc_stays_inside_the_picture() -> None:
    """However far it has gone, the disc is seen whole: red on its centre, none on the border."""
    for seq in range(0, 400, 7):
        red = render(seq, 160, 90)[..., 0] > 236
        red[60:] = False
        assert not red[0].any() and not red[:, 0].any() and not red[:, -1].any()


def test_default_pattern_is_endless_640_by_360_at_25() -> None:
    """Plain `synthetic` is not live, and frame n is at n/25 s."""
    source = open_source("synthetic")
    frames = [source.read() for _ in range(3)]
    info = source.info
    assert (info.live, info.width, info.height, info.fps) == (False, 640, 360, 25.0)
    assert [(frame.seq, frame.pts_s) for frame in frames if frame] == [
        (0, 0.0),
        (1, 0.04),
        (2, 0.08),
    ]
    source.close()
    assert source.read() is None


def test_counted_pattern_ends_after_its_frames() -> None:
    """`#3` gives three frames of the given size and then None."""
    source = open_source("synthetic:64x48@10#3")
    shapes = [frame.image.shape for frame in iter(source.read, None)]
    assert shapes == [(48, 64, 3)] * 3


def test_looped_pattern_starts_its_figures_again() -> None:
    """With loop the pictures repeat while seq and time go on."""
    source = open_source("synthetic#2", SourceOptions(loop=True))
    first, _, third = source.read(), source.read(), source.read()
    assert first is not None and third is not None
    assert np.array_equal(first.image, third.image)
    assert (third.seq, third.pts_s) == (2, 0.08)
