"""How close two results must be."""

import torch
from torch import Tensor


def assert_close(name: str, expected: Tensor, got: Tensor, ratio: float) -> None:
    """The norm of the difference over the norm of the expected is below `ratio`."""
    assert expected.shape == got.shape, f"{name}: {tuple(got.shape)} for {tuple(expected.shape)}"
    error = relative_error(expected, got)
    assert error < ratio, f"{name}: relative error {error:.2e}, allowed is {ratio:.0e}"


def relative_error(expected: Tensor, got: Tensor) -> float:
    """Norm of the difference over the norm of the expected; NaN anywhere gives infinity."""
    expected, got = expected.double().cpu(), got.double().cpu()
    error = ((got - expected).norm() / expected.norm().clamp_min(1e-30)).item()
    return error if torch.isfinite(got).all() else float("inf")
