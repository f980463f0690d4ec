"""InfiniteVL-Online: three verbs, batched over slots.

`append_frames` updates what streams remember and computes no logits; `append_text` and `decode`
return the logits of the last token. Weights live here, state lives in the `StatePool` that every
verb is given. Forking a slot (`pool.copy`) and asking the fork leaves the stream untouched.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn

from model.config import InfiniteVLConfig, VisionConfig
from model.decoder import Decoder
from model.delta_net import GatedDeltaNet
from model.preprocess import frames_to_patches
from model.rope import frame_positions, text_positions
from model.state import StatePool
from model.vision import VisionTower
from model.vision_grid import VisionGrid


def _no_mark(stage: str) -> None:
    pass


@lru_cache(maxsize=16)
def vision_grid(config: VisionConfig, rows: int, columns: int, device: torch.device) -> VisionGrid:
    """`VisionGrid.build`, remembered: a stream uses one frame size for ever."""
    with torch.inference_mode(False):  # whoever comes first, a training step may use it later
        return VisionGrid.build(config, rows, columns, device)


class InfiniteVL(nn.Module):
    """Vision tower and hybrid decoder."""

    def __init__(self, config: InfiniteVLConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = VisionTower(config.vision)
        self.language_model = Decoder(config)

    @property
    def device(self) -> torch.device:
        return self.language_model.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.language_model.embed_tokens.weight.dtype

    def use_plain_ops(self) -> None:
        """Keep to plain torch on CUDA too, for exact fp32 there."""
        for module in self.modules():
            if isinstance(module, GatedDeltaNet):
                module.plain = True

    def new_pool(
        self, num_slots: int, *, max_append: int, max_context: int | None = None
    ) -> StatePool:
        """A StatePool for this model, on its device and in its dtype."""
        return StatePool(
            self.config,
            num_slots,
            max_append=max_append,
            max_context=max_context,
            device=self.device,
            dtype=self.dtype,
        )

    def start_stream(self, slot: int, pool: StatePool) -> Tensor:
        """Make a slot a new stream: empty but for `<vision_start>`, which every video opens with.

        Returns:
            The token's last hidden vector [1, 1, hidden].
        """
        pool.reset(slot)
        ids = torch.tensor([[self.config.vision_start_token_id]], device=self.device)
        return self._append_ids(ids, torch.tensor([slot], device=self.device), pool, None)

    def append_frames(
        self,
        frames: Tensor,
        times_s: Tensor,
        slots: Tensor,
        pool: StatePool,
        grid: tuple[int, int],
        mark: Callable[[str], None] = _no_mark,
    ) -> Tensor:
        """Let each stream see one more frame.

        Args:
            frames: [B, height, width, 3] uint8 RGB on the model's device.
            times_s: [B] float64, seconds since the stream's first frame.
            slots: [B] int64, all different, each opened by `start_stream`.
            grid: rows and columns of image tokens a frame becomes.
            mark: called with 'preprocess', 'vision' and 'decoder' as each stage ends.

        Returns:
            Last hidden vectors [B, rows * columns, hidden].
        """
        patches = frames_to_patches(frames, *grid, self.config.vision, self.dtype)
        mark("preprocess")
        embeddings = self.encode_patches(patches, grid)
        mark("vision")
        hidden = self.append_image_tokens(embeddings, times_s, slots, pool, grid)
        mark("decoder")
        return hidden

    def encode_patches(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """Patches in merged order [B, P, 588 or 1176] -> image tokens [B, P / 4, hidden]."""
        return self.visual(patches, vision_grid(self.config.vision, *grid, patches.device))

    def append_image_tokens(
        self,
        embeddings: Tensor,
        times_s: Tensor,
        slots: Tensor,
        pool: StatePool,
        grid: tuple[int, int],
    ) -> Tensor:
        """The decoder's part of `append_frames`: [B, rows * columns, hidden] in and out."""
        positions = frame_positions(times_s, *grid, self.config.vision.tokens_per_second)
        return self.language_model(embeddings, positions, slots, pool)

    def append_text(
        self, ids: Tensor, slots: Tensor, pool: StatePool, lengths: Tensor | None = None
    ) -> Tensor:
        """Append text to slots and predict what follows.

        Args:
            ids: [B, T] int64, T at most the pool's max_append; rows padded at the end.
            slots: [B] int64, all different.
            lengths: [B] int64, how many ids of each row count, at least 1; None for all.

        Returns:
            Logits [B, vocabulary] fp32 after each row's last id.
        """
        hidden = self._append_ids(ids, slots, pool, lengths)
        if lengths is None:
            last = hidden[:, -1]
        else:
            last = hidden[torch.arange(len(ids), device=ids.device), lengths - 1]
        return self.language_model.logits(last)

    def decode(self, ids: Tensor, slots: Tensor, pool: StatePool) -> Tensor:
        """Append one token to each slot: ids [B] -> logits [B, vocabulary] fp32."""
        return self.append_text(ids[:, None], slots, pool)

    def _append_ids(
        self, ids: Tensor, slots: Tensor, pool: StatePool, lengths: Tensor | None
    ) -> Tensor:
        positions = text_positions(pool.next_position[slots], ids.shape[1])
        embeddings = self.language_model.embed_tokens(ids)
        return self.language_model(embeddings, positions, slots, pool, lengths)
