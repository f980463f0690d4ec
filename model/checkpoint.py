"""From what a user writes after `--model` to a model ready to run.

A local folder, a Hugging Face id, `random:tiny` or `random:4b`. Only safetensors and JSON are
read; no code of a checkpoint is ever run.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from model.infinitevl import InfiniteVL
from model.presets import PUBLISHED_4B, PUBLISHED_SPECIAL_IDS, SEED, TINY, TINY_SPECIAL_IDS
from model.tokenizer import ChatTokenizer, TokenizerError, byte_tokenizer
from model.weights import CheckpointError, load_weights, random_weights

DEFAULT_MODEL = "random:tiny"
FILES = ["config.json", "tokenizer.json", "*.safetensors", "model.safetensors.index.json"]
RANDOM = {"tiny": (TINY, TINY_SPECIAL_IDS, 64), "4b": (PUBLISHED_4B, PUBLISHED_SPECIAL_IDS, 256)}
PUBLISHED_FRAME_TOKENS = 256


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model, its tokenizer, and what to say of it.

    Attributes:
        name: as the user gave it.
        trained: False for weights from a seed, whose every answer must be called untrained.
        frame_tokens: image tokens a frame may have unless the user says otherwise.
    """

    vlm: InfiniteVL
    tokenizer: ChatTokenizer
    name: str
    trained: bool
    frame_tokens: int


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
    return LoadedModel(vlm, tokenizer, name, trained=True, frame_tokens=PUBLISHED_FRAME_TOKENS)


def _folder(name: str) -> Path:
    """A local folder as it is; a Hugging Face id downloaded (or found in its cache)."""
    if name and os.path.isdir(os.path.expanduser(name)):
        return Path(name).expanduser()
    looks_like_id = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    if not looks_like_id or os.path.exists(name):
        raise CheckpointError(
            f"no model folder at {name!r}: give a folder, a Hugging Face id like "
            "hustvl/InfiniteVL-LongSFT, random:tiny or random:4b"
        )
    try:
        return Path(snapshot_download(name, allow_patterns=FILES))
    except HFValidationError as error:
        raise CheckpointError(f"{name!r} is neither a folder nor a Hugging Face id") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{name!r} could not be downloaded: {reason}") from error
