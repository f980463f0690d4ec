"""All mutable state of a model, for every stream and every question, allocated once.

A slot is a mind: a stream is a slot, a question is a slot forked from its stream. Every tensor
has the slot as its leading dimension and is updated in place, so bytes and addresses never change
however long a stream runs. Slot 0 is the null slot: padding is written there, nobody reads it.

S slots, C ring entries, G key/value heads, D head dim, H heads, K key dim, V value dim,
W convolution width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.window_attention.naive import NULL_SLOT as NULL_SLOT
from model.config import InfiniteVLConfig


class ContextFullError(RuntimeError):
    """A full-attention model was asked to remember more tokens than its stated maximum."""


@dataclass(frozen=True, slots=True)
class RingKVCache:
    """Rotated keys and values [S, C, G, D] of one attention layer."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True, slots=True)
class DeltaNetState:
    """The memory of one linear layer.

    recurrent_state [S, H, K, V] fp32; conv_state [S, W - 1, channels of q, k and v].
    """

    recurrent_state: Tensor
    conv_state: Tensor


LayerState = RingKVCache | DeltaNetState


class StatePool:
    """Preallocated slots; slot 0 is the null slot.

    Attributes:
        layers: one RingKVCache or DeltaNetState a layer.
        sliding_tags, full_tags: [S, C] int64, the stream index of the token in each ring entry,
            -1 if empty; shared by all layers of a kind.
        num_tokens: [S] int64, tokens seen. At 256 tokens a frame and 25 frames a second an int32
            would overflow within four days.
        next_position: [S] int64, one more than the largest position used so far.
        max_append: the most tokens one append may bring to a slot.
        max_context: the most tokens a full-attention layer remembers.
    """

    def __init__(
        self,
        config: InfiniteVLConfig,
        num_slots: int,
        *,
        max_append: int,
        max_context: int | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Allocate `num_slots` usable slots and the null slot, all empty.

        Args:
            max_append: sets how far a ring exceeds its window, so that the oldest key of the
                first new token is still there when the last one is written.
            max_context: for full-attention layers; the config's max_position_embeddings if None.
        """
        S = num_slots + 1
        self.max_append = max_append
        self.max_context = max_context or config.max_position_embeddings
        sliding = config.sliding_window - 1 + max_append
        full = self.max_context if config.has_full_attention else 0
        self.sliding_tags = torch.full((S, sliding), -1, device=device, dtype=torch.int64)
        self.full_tags = torch.full((S, full), -1, device=device, dtype=torch.int64)
        self.num_tokens = torch.zeros(S, device=device, dtype=torch.int64)
        self.next_position = torch.zeros(S, device=device, dtype=torch.int64)
        self.layers: list[LayerState] = []
        for layer_type in config.layer_types:
            if layer_type == "linear_attention":
                self.layers.append(_delta_net_state(config, S, device, dtype))
            else:
                capacity = sliding if layer_type == "sliding_attention" else full
                shape = (S, capacity, config.num_key_value_heads, config.head_dim)
                keys, values = (torch.zeros(shape, device=device, dtype=dtype) for _ in range(2))
                self.layers.append(RingKVCache(keys, values))

    @property
    def num_slots(self) -> int:
        """Usable slots, the null slot not counted."""
        return self.num_tokens.shape[0] - 1

    def tensors(self) -> list[Tensor]:
        """Every tensor of the pool, each with the slot as its leading dimension."""
        own = [self.sliding_tags, self.full_tags, self.num_tokens, self.next_position]
        for layer in self.layers:
            match layer:
                case RingKVCache(keys, values):
                    own += [keys, values]
                case DeltaNetState(recurrent_state, conv_state):
                    own += [recurrent_state, conv_state]
        return own

    @property
    def slot_bytes(self) -> int:
        """Bytes of one slot: what one more stream or question under way costs."""
        return sum(t[0].numel() * t.element_size() for t in self.tensors())

    @property
    def nbytes(self) -> int:
        """Bytes of the whole pool."""
        return self.slot_bytes * self.num_tokens.shape[0]

    def copy(self, src: int, dst: int) -> None:
        """Fork: make slot `dst` a copy of slot `src`, leaving `src` as it is."""
        for tensor in self.tensors():
            tensor[dst].copy_(tensor[src])

    def reset(self, slot: int) -> None:
        """Make a slot new: nothing seen, nothing remembered."""
        for tensor in self.tensors():
            tensor[slot].zero_()
        self.sliding_tags[slot].fill_(-1)
        self.full_tags[slot].fill_(-1)


def _delta_net_state(
    config: InfiniteVLConfig, S: int, device: torch.device | str, dtype: torch.dtype
) -> DeltaNetState:
    H, K, V = config.num_linear_heads, config.linear_head_dim, config.linear_value_dim
    recurrent = torch.zeros((S, H, K, V), device=device, dtype=torch.float32)
    channels = H * (2 * K + V)
    conv = torch.zeros((S, config.conv_size - 1, channels), device=device, dtype=dtype)
    return DeltaNetState(recurrent, conv)
