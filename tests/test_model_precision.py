"""8-bit weights: small errors, in the places meant, and nothing that is not meant."""

from dataclasses import replace

import pytest
import torch

from kernels.fp8_linear.naive import FP8_MAX, Quantised, fp8_linear, quantise
from model.delta_net import GatedDeltaNet
from model.layers import Fp8Linear
from model.precision import use_fp8
from model.preprocess import resize
from tests.closeness import relative_error
from tests.small_models import LINEAR, SLIDING, SMALL, slots, small_model

GRID = (2, 3)


def test_a_row_is_quantised_by_its_own_largest() -> None:
    """The largest of each row is exact, small values are within a sixteenth of themselves."""
    x = torch.randn(5, 64) * torch.tensor([1e-6, 1e-2, 1.0, 1e3, 1e6])[:, None]
    values, scale, wide = quantise(x)
    back = values.float() * scale[:, None]
    assert values.dtype == torch.float8_e4m3fn and wide is x
    assert torch.equal(values.float().abs().amax(1), torch.full((5,), FP8_MAX))
    near = (back - x).abs() <= x.abs() / 16 + x.abs().amax(1, keepdim=True) / 100_000
    assert near.all()


def test_a_row_of_nothing_stays_nothing() -> None:
    """No division by zero."""
    values, scale, _ = quantise(torch.zeros(2, 16))
    assert torch.equal(values.float() * scale[:, None], torch.zeros(2, 16))


def test_the_product_is_that_of_what_is_kept() -> None:
    """Scales of rows and columns, and the bias, are where they belong."""
    x, weight, bias = torch.randn(3, 4, 32), 10 * torch.randn(6, 32), torch.randn(6)
    a, b = quantise(x), quantise(weight)
    kept = (a.values.float() * a.scale[..., None]) @ (b.values.float() * b.scale[:, None]).T
    assert relative_error(kept + bias, fp8_linear(a, b, bias, torch.float32)) < 1e-6
    assert relative_error(x @ weight.T + bias, kept + bias) < 0.05


def test_a_model_in_8_bits_is_near_the_one_it_was() -> None:
    """Image tokens and logits of two layers move by some percent; gates and head stay."""
    torch.set_grad_enabled(False)
    config = replace(SMALL, layer_types=(SLIDING, LINEAR))
    frame = torch.randint(0, 256, (1, 56, 84, 3), dtype=torch.uint8)
    seen, said = [], []
    for eight in (False, True):
        vlm = small_model(config)
        head = vlm.language_model.embed_tokens.weight.clone()
        gates = [m.in_proj.weight[-4:] for m in vlm.modules() if isinstance(m, GatedDeltaNet)]
        if eight:
            use_fp8(vlm)
            kept = [m.gate_weight for m in vlm.modules() if isinstance(m, GatedDeltaNet)]
            assert all(map(torch.equal, gates, kept))
            assert sum(isinstance(m, Fp8Linear) for m in vlm.modules()) == 2 * 4 + 2 * 4
        assert torch.equal(vlm.language_model.embed_tokens.weight, head)
        seen.append(vlm.encode_pixels(resize(frame, *GRID, config.vision), GRID))
        pool = vlm.new_pool(1, max_append=6)
        vlm.start_stream(1, pool)
        said.append(vlm.append_text(torch.tensor([[1, 2, 3]]), slots(1), pool))
    assert 1e-3 < relative_error(*seen) < 0.1
    assert 1e-3 < relative_error(*said) < 0.2


def test_quantised_rows_name_what_they_were_made_of() -> None:
    """A product that must stay wide can find it."""
    assert Quantised(torch.zeros(1), torch.zeros(1)).wide is None
    with pytest.raises(AttributeError):
        quantise(torch.zeros(2, 16)).wide = None  # type: ignore[misc]
