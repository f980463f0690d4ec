"""What `--model` may be, and what is said when it is not."""

from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

import model.checkpoint
from model.checkpoint import CheckpointError, best_dtype, load_model
from model.tokenizer import byte_tokenizer

TINY = Path(__file__).parent / "data" / "tiny"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((TINY / name).read_bytes())
    return tmp_path


def give_tokenizer(folder: Path, vision_end_id: int = 314) -> None:
    """A byte-level tokenizer file whose special ids fit the small checkpoint."""
    special = {
        "<|endoftext|>": 310,
        "<|im_start|>": 311,
        "<|im_end|>": 312,
        "<|vision_start|>": 313,
        "<|vision_end|>": vision_end_id,
    }
    byte_tokenizer(320, special)._tokenizer.save(str(folder / "tokenizer.json"))


def test_random_tiny_is_small_and_called_untrained() -> None:
    """The model for trying things out has at most 8 M parameters and 64 tokens a frame."""
    model = load_model("random:tiny")
    assert sum(p.numel() for p in model.vlm.parameters()) <= 8e6
    assert (model.frame_tokens, model.trained) == (64, False)


def test_a_folder_loads_with_its_tokenizer(folder: Path) -> None:
    """Weights and tokenizer of a local checkpoint fit together."""
    give_tokenizer(folder)
    model = load_model(str(folder))
    assert model.trained and model.tokenizer.vision_end_id == 314


def test_a_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    """The id of <|vision_end|> must be the config's."""
    give_tokenizer(folder, vision_end_id=315)
    with pytest.raises(CheckpointError, match=r"is 315 in tokenizer\.json but 314 in config\.json"):
        load_model(str(folder))


def test_a_folder_without_tokenizer_is_refused(folder: Path) -> None:
    """The message names the missing file."""
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing"):
        load_model(str(folder))


def test_a_hugging_face_id_is_downloaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only JSON and safetensors are asked for."""
    give_tokenizer(folder)
    asked: list[str] = []

    def download(repo_id: str, allow_patterns: list[str]) -> str:
        asked.extend([repo_id, *allow_patterns])
        return str(folder)

    monkeypatch.setattr(model.checkpoint, "snapshot_download", download)
    assert load_model("someone/something").trained
    assert asked[0] == "someone/something"
    assert all(pattern.endswith((".json", ".safetensors")) for pattern in asked[1:])


def test_a_download_that_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network the id is named and the reason given."""

    def download(repo_id: str, allow_patterns: list[str]) -> str:
        raise LocalEntryNotFoundError("no connection\nand many more lines")

    monkeypatch.setattr(model.checkpoint, "snapshot_download", download)
    with pytest.raises(CheckpointError) as raised:
        load_model("someone/something")
    assert str(raised.value) == "'someone/something' could not be downloaded: no connection"


@pytest.mark.parametrize("name", ["nowhere", "./a/b", "/no/such/folder", "a/b/c", ""])
def test_what_is_neither_folder_nor_id_is_refused(name: str) -> None:
    """The message says what may be given."""
    with pytest.raises(CheckpointError, match="give nano, a folder, a Hugging Face id"):
        load_model(name)


def test_an_unknown_random_model_is_refused() -> None:
    """The message lists the known ones."""
    with pytest.raises(CheckpointError, match="random models are random:tiny, random:4b"):
        load_model("random:huge")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    """The first missing file is named."""
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        load_model(str(tmp_path))


def test_a_checkpoint_may_know_one_frame_size(folder: Path) -> None:
    """`preprocessor_config.json` with height and width; without them frames keep their shape."""
    give_tokenizer(folder)
    file = folder / "preprocessor_config.json"
    assert load_model(str(folder)).grid is None
    file.write_text('{"size": {"shortest_edge": 3136, "longest_edge": 12845056}}')
    assert load_model(str(folder)).grid is None
    file.write_text('{"size": {"height": 224, "width": 280}}')
    model = load_model(str(folder))
    assert (model.grid, model.frame_tokens) == ((8, 10), 80)


@pytest.mark.parametrize("text", ['{"size": {"height": 224, "width": 230}}', "[]", "{"])
def test_a_frame_size_that_cannot_be_is_refused(folder: Path, text: str) -> None:
    """The message names the file."""
    give_tokenizer(folder)
    (folder / "preprocessor_config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json"):
        load_model(str(folder))


def test_a_cpu_computes_in_bf16_only_where_that_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a CPU's features one is enough; a PyTorch that cannot tell means fp32."""
    assert best_dtype("cuda") is torch.bfloat16
    for features, dtype in (
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True, "avx512_bf16": False}, torch.bfloat16),
        ({"avx2": True}, torch.float32),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda features=features: features)
        assert best_dtype("cpu") is dtype
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert best_dtype(torch.device("cpu")) is torch.float32
