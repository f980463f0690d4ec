"""InfiniteVL-Online: three verbs, batched over slots.

`append_frames` updates what streams remember and computes no logits; `append_text` and `decode`
return the logits of the last token. Weights live here, state lives in the `StatePool` that every
verb is given. Forking a slot (`pool.copy`) and asking the fork leaves the stream untouched.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn

from kernels.ops import PLAIN, Ops, fused_ops
from model.append_plan import Append, Wanted
from model.config import InfiniteVLConfig, VisionConfig
from model.decoder import Decoder
from model.preprocess import cut_patches, frames_to_patches, normalise
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
        self._ops: Ops | None = None

    @property
    def device(self) -> torch.device:
        return self.language_model.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.language_model.embed_tokens.weight.dtype

    @property
    def ops(self) -> Ops:
        """Fused kernels on CUDA where they fit the model's sizes, plain torch elsewhere."""
        if self._ops is None:
            fits = self.device.type == "cuda" and kernels_fit(self.config)
            self._ops = fused_ops() if fits else PLAIN
        return self._ops

    def use_ops(self, ops: Ops) -> None:
        """Keep to these ops, wherever the model is: plain ones on CUDA are exact in fp32."""
        self._ops = ops

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
        ids = torch.full((1, 1), self.config.vision_start_token_id, device=self.device)
        slots = torch.full((1,), slot, device=self.device)
        return self.language_model([self._text(ids, slots, pool, None, "all")], pool, self.ops)[0]

    def append_frames(
        self,
        frames: Tensor,
        times_s: Tensor,
        slots: Tensor,
        pool: StatePool,
        grid: tuple[int, int],
        *,
        wanted: Wanted = "none",
    ) -> Tensor:
        """Let each stream see one more frame.

        Args:
            frames: [B, height, width, 3] uint8 RGB on the model's device.
            times_s: [B] float64, seconds since the stream's first frame.
            slots: [B] int64, all different, each opened by `start_stream`.
            grid: rows and columns of image tokens a frame becomes.
            wanted: whose last hidden vectors to return: nobody needs any to go on.

        Returns:
            As of `Append.wanted`: [B, 0, hidden] if none.
        """
        embeddings = self.encode_frames(frames, grid)
        return self.append_image_tokens(embeddings, times_s, slots, pool, grid, wanted=wanted)

    def encode_frames(
        self, frames: Tensor, grid: tuple[int, int], mark: Callable[[str], None] = _no_mark
    ) -> Tensor:
        """The part of `append_frames` that remembers nothing.

        Args:
            frames, grid: as there.
            mark: called with 'preprocess' and 'vision' as each stage ends.

        Returns:
            Image tokens [B, rows * columns, hidden].
        """
        patches = frames_to_patches(frames, *grid, self.config.vision, self.dtype)
        mark("preprocess")
        embeddings = self.encode_patches(patches, grid)
        mark("vision")
        return embeddings

    def encode_patches(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """Patches in merged order [B, P, 588 or 1176] -> image tokens [B, P / 4, hidden]."""
        return self.visual(
            patches, vision_grid(self.config.vision, *grid, patches.device), self.ops
        )

    def encode_pixels(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """Frames that have been resized, [B, 3, height, width] in 0..255 -> image tokens."""
        cut = cut_patches(normalise(pixels), *grid, self.config.vision)
        return self.encode_patches(cut.to(self.dtype), grid)

    def append_image_tokens(
        self,
        embeddings: Tensor,
        times_s: Tensor,
        slots: Tensor,
        pool: StatePool,
        grid: tuple[int, int],
        *,
        wanted: Wanted = "all",
    ) -> Tensor:
        """The decoder's part of `append_frames`, of embeddings [B, rows * columns, hidden]."""
        append = self._frames(embeddings, times_s, slots, grid, wanted)
        return self.language_model([append], pool, self.ops)[0]

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
        append = self._text(ids, slots, pool, lengths, "last")
        hidden = self.language_model([append], pool, self.ops)[0]
        return self.language_model.logits(hidden[:, 0])

    def decode(self, ids: Tensor, slots: Tensor, pool: StatePool) -> Tensor:
        """Append one token to each slot: ids [B] -> logits [B, vocabulary] fp32."""
        return self.append_text(ids[:, None], slots, pool)

    def watch_and_decode(
        self,
        embeddings: Tensor,
        times_s: Tensor,
        frame_slots: Tensor,
        ids: Tensor,
        text_slots: Tensor,
        pool: StatePool,
        grid: tuple[int, int],
    ) -> Tensor:
        """`append_image_tokens` and `decode` of other slots, in the same matrix products."""
        appends = [
            self._frames(embeddings, times_s, frame_slots, grid, "none"),
            self._text(ids[:, None], text_slots, pool, None, "last"),
        ]
        hidden = self.language_model(appends, pool, self.ops)[1]
        return self.language_model.logits(hidden[:, 0])

    def _frames(
        self,
        embeddings: Tensor,
        times_s: Tensor,
        slots: Tensor,
        grid: tuple[int, int],
        wanted: Wanted,
    ) -> Append:
        positions = frame_positions(times_s, *grid, self.config.vision.tokens_per_second)
        return Append(embeddings, positions, slots, wanted=wanted)

    def _text(
        self, ids: Tensor, slots: Tensor, pool: StatePool, lengths: Tensor | None, wanted: Wanted
    ) -> Append:
        positions = text_positions(pool.next_position[slots], ids.shape[1])
        return Append(self.language_model.embed_tokens(ids), positions, slots, lengths, wanted)


def kernels_fit(config: InfiniteVLConfig) -> bool:
    """Whether the fused kernels can tile the model's sizes: heads of a power of two, from 16."""
    sizes = (config.head_dim, config.linear_head_dim, config.linear_value_dim)
    return all(size >= 16 and size & (size - 1) == 0 for size in sizes)
