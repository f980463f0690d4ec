"""Weights from safetensors files, one tensor at a time, or made up from a seed.

A model is built without memory (`meta`), given its device's memory once, and filled in place, so
loading needs little more than the model itself. Only safetensors is ever read.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from model.config import ConfigError, InfiniteVLConfig
from model.delta_net import GatedDeltaNet
from model.infinitevl import InfiniteVL
from model.key_map import LM_HEAD, Destination, current_name, destinations, published_shapes
from model.layers import RMSNorm

# Decay and write gates need more precision than bf16 has.
FP32_PARAMETERS = ("A_log", "dt_bias")


class CheckpointError(ValueError):
    """A checkpoint that cannot be loaded; the message names the file, tensor or key."""


def load_weights(
    folder: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> InfiniteVL:
    """Load a checkpoint folder: `config.json` and one or more safetensors files.

    Raises:
        CheckpointError: naming what is missing, extra, misshapen or damaged.
    """
    try:
        config = InfiniteVLConfig.from_file(folder / "config.json")
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    files = _weight_files(folder)
    vlm = empty_model(config, device, dtype)
    wanted = destinations(vlm)
    head_shape = published_shapes(vlm)[LM_HEAD]
    seen: set[str] = set()
    for file in files:
        for name, tensor in _tensors(file):
            destination = wanted.get(name)
            if name == LM_HEAD:
                # The head is tied to the embedding; a stored copy of it is not needed.
                destination = Destination(head_shape, tensor)
            if destination is None:
                raise CheckpointError(f"{file} holds {name!r}, which this model does not have")
            if tuple(tensor.shape) != destination.shape:
                raise CheckpointError(
                    f"{file}: {name!r} has shape {list(tensor.shape)}, "
                    f"the config asks for {list(destination.shape)}"
                )
            if name in seen:
                raise CheckpointError(f"{file}: {name!r} is there twice")
            seen.add(name)
            if name != LM_HEAD:
                destination.view.copy_(tensor.view(destination.view.shape))
    missing = sorted(wanted.keys() - seen)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CheckpointError(f"{folder} lacks the tensor {missing[0]!r}{more}")
    return finish(vlm)


def random_weights(
    config: InfiniteVLConfig,
    seed: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> InfiniteVL:
    """A model of untrained weights, the same for the same seed and device."""
    vlm = empty_model(config, device, dtype)
    generator = torch.Generator(device).manual_seed(seed)
    for name, destination in sorted(destinations(vlm).items()):
        if name.endswith("bias"):
            destination.view.zero_()
        else:
            # Outputs as large as inputs, as trained layers have them.
            width = destination.view.shape[-1]
            destination.view.normal_(0.0, width**-0.5, generator=generator)
    for module in vlm.modules():
        if isinstance(module, RMSNorm):
            module.weight.fill_(1.0)
        elif isinstance(module, GatedDeltaNet):
            # The spread of time constants that Gated DeltaNet is usually started with.
            module.A_log.uniform_(1.0, 16.0, generator=generator).log_()
            step = module.dt_bias.uniform_(-6.9, -2.3, generator=generator).exp_()
            module.dt_bias.copy_(step + torch.log(-torch.expm1(-step)))
    return finish(vlm)


def empty_model(
    config: InfiniteVLConfig, device: torch.device | str, dtype: torch.dtype
) -> InfiniteVL:
    """A model with zeroed weights on a device (`meta` for none), made without a second copy."""
    with torch.device("meta"):
        vlm = InfiniteVL(config)
    for name, parameter in vlm.named_parameters():
        wide = name.rsplit(".", 1)[-1] in FP32_PARAMETERS
        module = vlm.get_submodule(name.rpartition(".")[0])
        zeros = torch.zeros_like(
            parameter, device=device, dtype=torch.float32 if wide else dtype, requires_grad=False
        )
        setattr(module, name.rpartition(".")[2], nn.Parameter(zeros, requires_grad=False))
    return vlm


def finish(vlm: InfiniteVL) -> InfiniteVL:
    """Make what is derived from the weights, once they are all there."""
    vlm.visual.patch_embed.fold()
    return vlm.eval()


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            names = sorted(
                set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            )
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise CheckpointError(f"{index} has no readable 'weight_map'") from error
        files = [folder / str(name) for name in names]
    else:
        files = [folder / "model.safetensors"]
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{file} is missing")
    return files


def _tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Each tensor of a safetensors file under its published name, read when its turn comes."""
    try:
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118 - not a dict: it cannot be iterated over
                yield current_name(key), opened.get_tensor(key)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is damaged or not a safetensors file: {error}") from error
