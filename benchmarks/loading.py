"""The model that a benchmark measures."""

import torch

from model.checkpoint import LoadedModel, best_dtype, load_model
from model.precision import use_fp8


def load(name: str, precision: str = "best") -> LoadedModel:
    """The model on the GPU if there is one, else on the CPU, in its best dtype, or with fp8."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(name, device, best_dtype(device))
    if precision == "fp8":
        use_fp8(model.vlm)
    return model
