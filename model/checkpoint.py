"""From what a user writes after `--model` to a model ready to run.

`nano`, which comes with the code, a local folder, a Hugging Face id, `random:tiny` or `random:4b`.
Only safetensors and JSON are read; no code of a checkpoint is ever run.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from model.infinitevl import InfiniteVL
from model.presets import PUBLISHED_4B, PUBLISHED_SPECIAL_IDS, SEED, TINY, TINY_SPECIAL_IDS
from model.tokenizer import ChatTokenizer, TokenizerError, byte_tokenizer
from model.weights import CheckpointError, load_weights, random_weights

NANO = "nano"
NANO_FOLDER = Path(__file__).parent.parent / "assets" / "nano"
DEFAULT_MODEL = NANO
FILES = [
    "config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "*.safetensors",
    "model.safetensors.index.json",
]
RANDOM = {"tiny": (TINY, TINY_SPECIAL_IDS, 64), "4b": (PUBLISHED_4B, PUBLISHED_SPECIAL_IDS, 256)}
PUBLISHED_FRAME_TOKENS = 256


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model, its tokenizer, and what to say of it.

    Attributes:
        name: as the user gave it.
        trained: False for weights from a seed, whose every answer must be called untrained.
        frame_tokens: image tokens a frame may have unless the user says otherwise.
        grid: rows and columns of image tokens, if the model knows frames of one size only.
        words: in small letters, if it has been trained with questions of these words only.
    """

    vlm: InfiniteVL
    tokenizer: ChatTokenizer
    name: str
    trained: bool
    frame_tokens: int
    grid: tuple[int, int] | None = None
    words: frozenset[str] | None = None

    def strange_words(self, question: str) -> list[str]:
        """Those that it has never been asked with, as they were written."""
        if self.words is None:
            return []
        asked = re.findall(r"[^\W\d_]+", question)
        return [one for one in asked if not {one.lower(), one.lower()[:-1]} & self.words]


def best_dtype(device: torch.device | str) -> torch.dtype:
    """bf16 where the device multiplies it faster than fp32, as all GPUs and some CPUs do."""
    if torch.device(device).type == "cuda":
        return torch.bfloat16
    can: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if can.get("avx512_bf16") or can.get("amx_bf16") else torch.float32


def load_model(
    name: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> LoadedModel:
    """Load what `--model` names.

    Raises:
        CheckpointError: one sentence naming what is wrong.
    """
    kind, _, size = name.partition(":")
    if kind == "random":
        if size not in RANDOM:
            raise CheckpointError(
                f"unknown model {name!r}: random models are random:tiny, random:4b"
            )
        config, special_ids, frame_tokens = RANDOM[size]
        vlm = random_weights(config, SEED, device, dtype)
        tokenizer = byte_tokenizer(config.vocab_size, special_ids)
        return LoadedModel(vlm, tokenizer, name, trained=False, frame_tokens=frame_tokens)
    folder = _folder(name)
    vlm = load_weights(folder, device, dtype)
    try:
        tokenizer = ChatTokenizer.from_file(folder / "tokenizer.json", vlm.config.vocab_size)
    except TokenizerError as error:
        raise CheckpointError(str(error)) from error
    if tokenizer.vision_end_id != vlm.config.vision_end_token_id:
        raise CheckpointError(
            f"{folder}: <|vision_end|> is {tokenizer.vision_end_id} in tokenizer.json but "
            f"{vlm.config.vision_end_token_id} in config.json"
        )
    grid = _frame_grid(folder, vlm.config.vision.cell_size)
    tokens = grid[0] * grid[1] if grid else PUBLISHED_FRAME_TOKENS
    return LoadedModel(vlm, tokenizer, name, True, tokens, grid, _words(folder))


def _frame_grid(folder: Path, cell: int) -> tuple[int, int] | None:
    """The one frame size a checkpoint knows, if its `preprocessor_config.json` names one."""
    file = folder / "preprocessor_config.json"
    if not file.exists():
        return None
    try:
        size = json.loads(file.read_text(encoding="utf-8")).get("size") or {}
        height, width = size.get("height"), size.get("width")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{file} is not readable JSON with a 'size': {error}") from error
    if height is None or width is None:
        return None
    for side in (height, width):
        if not isinstance(side, int) or side <= 0 or side % cell:
            raise CheckpointError(f"{file}: a frame's side must be a multiple of {cell}: {side!r}")
    return height // cell, width // cell


def _words(folder: Path) -> frozenset[str] | None:
    """Of a small checkpoint's `words.txt`, one a line; None for a model that knows language."""
    file = folder / "words.txt"
    return frozenset(file.read_text("utf-8").split()) if file.exists() else None


def _folder(name: str) -> Path:
    """A local folder as it is; a Hugging Face id downloaded (or found in its cache)."""
    if name == NANO:
        return NANO_FOLDER
    if name and os.path.isdir(os.path.expanduser(name)):
        return Path(name).expanduser()
    looks_like_id = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    if not looks_like_id or os.path.exists(name):
        raise CheckpointError(
            f"no model folder at {name!r}: give nano, a folder, a Hugging Face id like "
            "hustvl/InfiniteVL-LongSFT, random:tiny or random:4b"
        )
    try:
        return Path(snapshot_download(name, allow_patterns=FILES))
    except HFValidationError as error:
        raise CheckpointError(f"{name!r} is neither a folder nor a Hugging Face id") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{name!r} could not be downloaded: {reason}") from error


def default_threads() -> int:
    """CPU threads of one op: two ops run at once (`stream/steps.py`), and small ones use few."""
    return max(1, min(4, (os.cpu_count() or 1) // 2))
