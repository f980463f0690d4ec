"""The model that a benchmark measures."""

import torch

from model.checkpoint import LoadedModel, best_dtype, load_model


def load(name: str) -> LoadedModel:
    """The model on the GPU if there is one, else on the CPU, in its best dtype."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_model(name, device, best_dtype(device))
