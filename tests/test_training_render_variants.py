"""Looks: the same thing in other shapes, colours and lights, whole and no larger."""

import numpy as np
import pytest

from training.render_pack import load_pack
from training.render_variants import LOOKS, Images, varied


@pytest.fixture(scope="module")
def cells() -> Images:
    return load_pack().cells[:24].permute(0, 2, 3, 1).contiguous().numpy()


def test_every_look_of_a_picture_is_another_one_and_none_is_cut_off(cells: Images) -> None:
    looks = varied(cells).reshape(len(LOOKS), *cells.shape)
    assert looks.min() >= 0 and looks.max() <= 1 and looks.dtype == np.float32
    for number, look in enumerate(looks):
        others = [cells, *looks[:number]]
        for n, picture in enumerate(look):
            assert all(np.abs(picture - other[n]).mean() > 0.01 for other in others)
        share = look[..., 3].mean((1, 2)) / cells[..., 3].mean((1, 2))
        expected = abs(LOOKS[number].width * LOOKS[number].height)
        np.testing.assert_allclose(share, expected, rtol=0.05)


def test_a_look_without_changes_is_the_picture_itself(
    cells: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import render_variants

    monkeypatch.setattr(render_variants, "LOOKS", (render_variants.Look(),))
    solid = cells[..., 3:]
    np.testing.assert_allclose(varied(cells) * solid, cells * solid, atol=0.02)


def test_a_negative_width_mirrors(cells: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    from training import render_variants

    monkeypatch.setattr(render_variants, "LOOKS", (render_variants.Look(width=-1.0),))
    np.testing.assert_allclose(varied(cells)[..., 3], cells[:, :, ::-1, 3], atol=0.01)
