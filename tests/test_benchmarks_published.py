"""The published code as a peer: what is missing is told, and its model is called as its demo does.

The folder here is a stand-in that writes down its calls; the packages it would need are empty.
"""

import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path

import pytest
import torch

from benchmarks import peers, published

GRID = (2, 3)
TOKENS = GRID[0] * GRID[1]
START, IMAGE = 7, 8
STAND_IN = f"""
from types import SimpleNamespace

import torch
from configuration_infinitevl import InfiniteVLConfig


class InfiniteVLQwen2_5_VLForConditionalGeneration:
    def __init__(self, config):
        self.config, self.prepared, self.calls = config, [], []
        self.visual = SimpleNamespace(
            set_graph_bucket=lambda patches: self.prepared.append(patches.tolist()),
            precompute_window_buffers=lambda: self.prepared.append("windows"),
            precompute_full_cu_seqlens=lambda: self.prepared.append("full"),
        )
        self.model = SimpleNamespace(get_rope_index=self.get_rope_index)

    @classmethod
    def _from_config(cls, config):
        return cls(config)

    def eval(self):
        return self

    def get_rope_index(self, input_ids, image_grid_thw):
        return torch.arange({TOKENS} + 1).expand(3, 1, -1), None

    def allocate_inference_cache(self, batch_size):
        return ["cache of", batch_size]

    def __call__(self, **given):
        self.calls.append(given)
"""
CONFIGURATION = f"""
from types import SimpleNamespace


class InfiniteVLConfig:
    vision_start_token_id, image_token_id = {START}, {IMAGE}
    vision_config = SimpleNamespace(tokens_per_second=2)

    @classmethod
    def from_pretrained(cls, folder):
        return cls()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The stand-in's folder, where everything that it needs seems to be installed."""
    for name in (*published.PACKAGES, "flash_attn"):
        monkeypatch.setitem(sys.modules, name, module_from_spec(ModuleSpec(name, None)))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "configuration_infinitevl.py").write_text(CONFIGURATION)
    (tmp_path / "modeling_infinitevl.py").write_text(STAND_IN)
    yield tmp_path
    for name in ("configuration_infinitevl", "modeling_infinitevl"):
        sys.modules.pop(name, None)


def refusal(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `--published` says of a folder that it cannot use."""
    assert peers.main(["--published", str(folder)]) == 2
    said = capsys.readouterr()
    assert not said.out and said.err.startswith("error: ") and said.err.count("\n") == 1
    return said.err


def test_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{tmp_path / 'no' / 'config.json'} is missing" in refusal(tmp_path / "no", capsys)


@pytest.mark.parametrize("name", published.FILES)
def test_a_file_that_is_not_there(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / name).unlink()
    assert f"{folder / name} is missing" in refusal(folder, capsys)


@pytest.mark.parametrize("name", published.PACKAGES)
def test_a_package_that_is_not_there(
    name: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert f"needs {name}, which is not installed" in refusal(folder, capsys)


@pytest.mark.parametrize("file", ["configuration_infinitevl.py", "modeling_infinitevl.py"])
def test_code_that_another_version_does_not_take(
    file: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(published, "version", lambda name: "0.1")
    (folder / file).write_text("raise TypeError('no such\\nname')")
    said = refusal(folder, capsys)
    assert "transformers 0.1" in said and "TypeError: no such name" in said
    assert str(folder) not in sys.path


def test_frames_come_as_in_the_published_demo(folder: Path) -> None:
    """The start token comes once, the cache goes on, time moves at whole seconds."""
    made = []
    build = published.find(folder)

    def keep() -> object:
        made.append(build())
        return made[0]

    see = published.watch(keep, GRID, fps=2, device="cpu")
    for number in range(5):
        see(number)
    model = made[0]
    assert model.prepared == [[[1, 4, 6]], "windows", "full"]
    calls = model.calls
    assert calls[0]["input_ids"].tolist() == [[START] + TOKENS * [IMAGE]]
    assert all(call["input_ids"].tolist() == [TOKENS * [IMAGE]] for call in calls[1:])
    cached = torch.cat([call["cache_position"] for call in calls])
    assert cached.tolist() == list(range(1 + 5 * TOKENS))
    assert all(call["past_key_values"] is calls[0]["past_key_values"] for call in calls)
    assert [call["position_ids"][0, 0, -1].item() - TOKENS for call in calls] == [0, 0, 2, 2, 4]
    for call in calls:
        assert call["position_ids"].shape == (3, 1, call["input_ids"].shape[1])
        assert call["position_ids"][1:, 0, -1].tolist() == [TOKENS, TOKENS]
        assert call["pixel_values"].shape == (4 * TOKENS, 1176)
