"""The vision tower on frames of any size."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.config import VisionConfig
from model.preprocess import cut_patches, fit_grid, frames_to_patches, normalise
from model.vision import VisionAttention, VisionTower
from model.vision_grid import VisionGrid
from tests.closeness import assert_close
from tests.small_models import small_model


@pytest.fixture
def tower() -> VisionTower:
    torch.set_grad_enabled(False)
    return small_model().visual


@pytest.mark.parametrize("size", [(4, 4), (8, 8), (1, 1), (3, 5), (4, 9), (9, 2)])
def test_windows_hold_the_patches_of_their_square(size: tuple[int, int]) -> None:
    """Windowed attention, batched and padded, equals attention window by window."""
    torch.set_grad_enabled(False)
    rows, columns = size
    tower = small_model().visual
    config = tower.config
    grid = VisionGrid.build(config, rows, columns)
    block = tower.blocks[0].attn
    assert isinstance(block, VisionAttention) and not block.whole_frame
    x = torch.randn(2, rows * columns * 4, config.hidden_size)
    got = block(x, grid)

    place = torch.empty(rows, columns, dtype=torch.long)
    place.view(-1)[torch.argsort(grid.token_order)] = torch.arange(rows * columns)
    covered = 0
    for r in range(0, rows, 4):
        for c in range(0, columns, 4):
            tokens = place[r : r + 4, c : c + 4].flatten()
            patches = (tokens[:, None] * 4 + torch.arange(4)).flatten()
            one = VisionAttention(config, whole_frame=True)
            one.load_state_dict(block.state_dict())
            turned = replace(grid, cos=grid.cos[patches], sin=grid.sin[patches])
            part = one(x[:, patches], turned)
            assert_close(f"window {r},{c}", part, got[:, patches], 1e-5)
            covered += len(patches)
    assert covered == x.shape[1]


def test_a_patch_is_turned_by_its_own_row_and_column(tower: VisionTower) -> None:
    """The rotation table, put back into picture order, counts rows and columns of patches."""
    rows, columns = 3, 5
    grid = VisionGrid.build(tower.config, rows, columns)
    cos = torch.empty_like(grid.cos)
    cos[grid.patch_order] = grid.cos
    by_patch = cos.view(rows, columns, 2, 2, -1).permute(0, 2, 1, 3, 4).reshape(6, 10, -1)
    quarter = tower.config.head_dim // 4
    expected_rows = torch.arange(6).cos()[:, None].expand(6, 10)
    assert_close("rows", expected_rows, by_patch[..., 0], 1e-6)
    expected_columns = torch.arange(10).cos()[None].expand(6, 10)
    assert_close("columns", expected_columns, by_patch[..., quarter], 1e-6)


def test_a_duplicated_frame_needs_half_the_pixels(tower: VisionTower) -> None:
    """The summed patch kernel on one frame equals the published one on the frame twice."""
    grid = VisionGrid.build(tower.config, 3, 4)
    single = torch.randn(2, 48, 588)
    pair = single.view(2, 48, 3, 1, 196).expand(-1, -1, -1, 2, -1).reshape(2, 48, 1176)
    assert_close("tokens", tower(pair, grid), tower(single, grid), 1e-5)


def test_padding_the_mlp_changes_nothing(tower: VisionTower) -> None:
    """The MLP is wider than published, and the added columns are exactly without effect."""
    width = tower.config.intermediate_size
    mlp = tower.blocks[0].mlp
    padded = tower.config.padded_intermediate_size
    assert padded > width and padded % 64 == 0
    x = torch.randn(5, tower.config.hidden_size)
    gate, up = F.linear(x, mlp.gate_up_proj.weight, mlp.gate_up_proj.bias).chunk(2, -1)
    hidden = F.silu(gate[:, :width]) * up[:, :width]
    expected = F.linear(hidden, mlp.down_proj.weight[:, :width], mlp.down_proj.bias)
    assert_close("mlp", expected, mlp(x), 1e-6)
    assert not mlp.down_proj.weight[:, width:].any()
    assert VisionConfig(32, 1280, 3420, 16, 2048, ()).padded_intermediate_size == 3456


def test_tokens_come_row_by_row_and_frames_do_not_mix(tower: VisionTower) -> None:
    """Changing one frame of a batch changes its own tokens only."""
    grid = VisionGrid.build(tower.config, 3, 5)
    patches = torch.randn(2, 60, 588)
    before = tower(patches, grid)
    patches[1] += 1.0
    after = tower(patches, grid)
    assert before.shape == (2, 15, 32)
    assert torch.equal(before[0], after[0]) and not torch.equal(before[1], after[1])


def picture(height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (1, height, width, 3), dtype=torch.uint8)


def test_a_frame_of_the_right_size_is_cut_without_resampling() -> None:
    """Patch (row, column) holds its own normalised pixels, tokens' four patches together."""
    config = small_model().config.vision
    frame = picture(56, 84)
    patches = frames_to_patches(frame, 2, 3, config, torch.float32)
    pixels = normalise(frame.permute(0, 3, 1, 2))
    # token (1, 2), its patch below on the left: picture rows 42.., columns 56..
    number = (1 * 3 + 2) * 4 + 2
    expected = pixels[0, :, 42:56, 56:70].reshape(-1)
    assert torch.equal(patches[0, number], expected)


def test_normalisation_is_clips() -> None:
    """Black and white become CLIP's published extremes."""
    black = normalise(torch.zeros(1, 3, 1, 1))
    white = normalise(torch.full((1, 3, 1, 1), 255.0))
    assert_close("black", torch.tensor([-1.7923, -1.7521, -1.4802]), black.flatten(), 1e-4)
    assert_close("white", torch.tensor([1.9303, 2.0749, 2.1459]), white.flatten(), 1e-4)


def test_resizing_keeps_what_is_where() -> None:
    """A picture half red, half blue stays so at another size, within the range of bytes."""
    config = small_model().config.vision
    frame = torch.zeros(1, 123, 77, 3, dtype=torch.uint8)
    frame[:, :61, :, 0], frame[:, 61:, :, 2] = 255, 255
    patches = frames_to_patches(frame, 2, 2, config, torch.float32)
    red = patches.view(2, 2, 2, 2, 3, 14, 14)[0, :, 0, :, 0]
    blue = patches.view(2, 2, 2, 2, 3, 14, 14)[1, :, 1, :, 2]
    assert torch.allclose(red, red.max()) and torch.allclose(blue, blue.max())
    expected = normalise(torch.tensor([255.0, 0, 0]).view(1, 3, 1, 1)).flatten()[0]
    assert torch.isclose(red.max(), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("height", "width", "tokens", "expected"),
    [
        (448, 448, 256, (16, 16)),
        (224, 224, 64, (8, 8)),
        (720, 1280, 256, (12, 21)),
        (1280, 720, 256, (21, 12)),
        (10, 5000, 64, (1, 64)),
        (5000, 10, 64, (64, 1)),
        (480, 640, 1, (1, 1)),
    ],
)
def test_the_grid_fits_the_picture(
    height: int, width: int, tokens: int, expected: tuple[int, int]
) -> None:
    """As many tokens as allowed, never more, in the picture's own shape."""
    assert fit_grid(height, width, tokens) == expected
    assert expected[0] * expected[1] <= tokens


def test_cutting_keeps_every_pixel_once() -> None:
    """Patches are a permutation of the pixels."""
    config = small_model().config.vision
    pixels = torch.arange(3 * 56 * 84, dtype=torch.float32).view(1, 3, 56, 84)
    cut = cut_patches(pixels, 2, 3, config)
    assert cut.shape == (1, 24, 588)
    assert torch.equal(cut.flatten().sort().values, pixels.flatten())
