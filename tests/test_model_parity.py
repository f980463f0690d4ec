"""Our model computes what the published code computed, and the comparison can fail."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.parity import main

TINY = Path(__file__).parent / "data" / "tiny"
GROUPS = {
    "vision",
    "hidden",
    "positions",
    "logits",
    "keys",
    "values",
    "recurrent",
    "convolution",
}


def test_every_recorded_tensor_is_met(capsys: pytest.CaptureFixture[str]) -> None:
    """Each group within 1e-4 in fp32, every greedy id equal, positions by our own code."""
    assert main(["--dir", str(TINY)]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["greedy_agreement"] == 1.0
    assert result["worst_relative_error"].keys() == GROUPS
    assert max(result["worst_relative_error"].values()) < 1e-4


def edited(folder: Path, file: str, change: Callable[[dict[str, Tensor]], object]) -> Path:
    """A copy of the recording with one thing changed."""
    for source in TINY.iterdir():
        (folder / source.name).write_bytes(source.read_bytes())
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / file).items()}
    change(tensors)
    save_file(tensors, folder / file)
    return folder


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("expected.safetensors", "frame.07.last_hidden"),
        ("expected.safetensors", "ask.11.logits"),
        ("expected.safetensors", "final.layer.4.keys"),
        ("expected.safetensors", "final.layer.6.recurrent_state"),
        ("expected.safetensors", "frame.03.position_ids"),
        ("model.safetensors", "model.language_model.layers.5.self_attn.v_conv1d.weight"),
    ],
)
def test_a_small_difference_is_a_miss(tmp_path: Path, file: str, name: str) -> None:
    """Changing one tensor by a little is noticed and exits 1."""

    def change(tensors: dict[str, Tensor]) -> None:
        tensors[name].flatten()[0] += tensors[name].abs().max().item() + 1

    assert main(["--dir", str(edited(tmp_path, file, change))]) == 1


def test_a_different_greedy_id_is_a_miss(tmp_path: Path) -> None:
    """One greedy id that differs exits 1, even with the tensors as recorded."""

    def change(tensors: dict[str, Tensor]) -> None:
        tensors["ask.04.greedy_ids"][-1] += 1

    assert main(["--dir", str(edited(tmp_path, "expected.safetensors", change))]) == 1


def test_a_folder_without_a_recording_is_bad_input(tmp_path: Path) -> None:
    """Exit code 2, not a miss."""
    assert main(["--dir", str(tmp_path)]) == 2
    assert not torch.is_inference_mode_enabled()
