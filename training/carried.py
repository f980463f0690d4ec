"""What streams carry from one piece of training to the next: a slot's state, without the ring.

Keys stand in the order of their tokens, so that a pass needs no index; states carry no gradient.

B streams, L tokens of the frames that a window reaches back to.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.infinitevl import InfiniteVL
from model.state import DeltaNetState, RingKVCache

# keys and values [B, L, G, D], or recurrent_state [B, H, K, V] fp32 and conv_state [B, W - 1, C]
State = tuple[Tensor, Tensor]


def window_tokens(window: int, frame_tokens: int) -> int:
    """A window's length in whole frames."""
    return -(-window // frame_tokens) * frame_tokens


@dataclass(frozen=True, slots=True)
class Carried:
    """The state of each layer, and of each stream [B] its tokens so far and its next position."""

    layers: tuple[State, ...]
    num_tokens: Tensor
    next_position: Tensor

    @classmethod
    def start(cls, vlm: InfiniteVL, frame_tokens: int, dtype: torch.dtype) -> "Carried":
        """One stream [B = 1] that has seen nothing but `<vision_start>`; states stay fp32."""
        with torch.no_grad():
            pool = vlm.new_pool(1, max_append=1)
            vlm.start_stream(1, pool)
        L = window_tokens(vlm.config.sliding_window, frame_tokens)
        layers: list[State] = []
        for layer in pool.layers:
            match layer:
                case RingKVCache(keys, values):
                    # The first token is at the ring's entry 0 and last in order.
                    layers.append((_last(keys[1:], L, dtype), _last(values[1:], L, dtype)))
                case DeltaNetState(recurrent_state, conv_state):
                    layers.append((recurrent_state[1:], conv_state[1:].to(dtype)))
        return cls(tuple(layers), pool.num_tokens[1:], pool.next_position[1:])

    def tensors(self) -> list[Tensor]:
        """All of them, each with the stream as its leading dimension."""
        return [t for state in self.layers for t in state] + [self.num_tokens, self.next_position]

    def like(self, tensors: Iterable[Tensor]) -> "Carried":
        """Other tensors in the same order."""
        *own, num_tokens, next_position = tensors
        pairs = zip(own[::2], own[1::2], strict=True)
        return Carried(tuple(pairs), num_tokens, next_position)

    def renewed(self, fresh: Tensor, start: "Carried") -> "Carried":
        """The streams of `fresh` [B] bool start anew, the others stay."""
        pairs = zip(start.tensors(), self.tensors(), strict=True)
        return self.like(
            torch.where(fresh.view(-1, *[1] * (new.ndim - 1)), new.to(old.dtype), old)
            for new, old in pairs
        )

    def wiped(self, which: Tensor) -> "Carried":
        """The streams of `which` [B] bool keep their window and lose their recurrent states."""
        kept = ~which.view(-1, 1, 1, 1)
        layers = tuple(
            (first * kept if second.ndim == 3 else first, second) for first, second in self.layers
        )
        return replace(self, layers=layers)


def _last(ring: Tensor, L: int, dtype: torch.dtype) -> Tensor:
    ordered = ring.new_zeros(1, L, *ring.shape[2:], dtype=dtype)
    ordered[:, -1] = ring[:, 0]
    return ordered
