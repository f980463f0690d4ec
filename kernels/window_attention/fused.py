"""Attention over a position-tagged ring as Triton kernels, in place by slot number.

One launch rotates the new tokens' queries and keys and writes keys and values into the ring; one
attends, its keys split over programs where there are too few queries to fill the device; one joins
the splits. Softmax does not care about order, so a ring is read as it lies and its tags say who is
seen. B rows of T tokens, S slots, C ring entries, H query heads, G key/value heads, D head dim.
"""

import torch
import triton
from torch import Tensor

from kernels.window_attention.naive import NULL_SLOT, OPEN_BLOCK, RingPlaces
from kernels.window_attention.ring_kernels import attend, join_splits, rotate_and_store

# Streaming multiprocessors of an H100.
SMS = 132
LOG2_E = 1.4426950408889634


def append_attention(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    keys: Tensor,
    values: Tensor,
    slots: Tensor,
    places: RingPlaces,
) -> Tensor:
    """`sdpa.append_attention`; qkv, keys and values contiguous."""
    B, T, width = qkv.shape
    _, C, G, D = keys.shape
    H = width // D - 2 * G
    q = qkv.new_empty(B, T, H * D)
    heads = triton.next_power_of_2(H + 2 * G)
    rotate_and_store[(T, B)](
        qkv, cos, sin, q, keys, values, places.write_slots, places.entries, T, C,
        H=H, G=G, D=D, HEADS=heads, num_warps=4,
    )  # fmt: skip
    rows = T * (H // G)
    tile_m, tile_n, warps, stages, per_sm = _tiles(rows, qkv.dtype)
    tiles = triton.cdiv(rows, tile_m)
    splits = num_splits(B * G * tiles, triton.cdiv(C, tile_n), per_sm * SMS)
    span = triton.cdiv(triton.cdiv(C, splits), tile_n) * tile_n
    out = torch.empty_like(q)
    partial, scale = out, out
    # Single tokens take larger blocks, and a mask over them costs little.
    has_open = places.open_blocks is not None and tile_n <= OPEN_BLOCK
    if splits > 1:
        partial = q.new_empty(B, G, splits, tiles * tile_m, D, dtype=torch.float32)
        scale = q.new_empty(B, G, splits, tiles * tile_m, dtype=torch.float32)
    attend[(tiles, G * splits, B)](
        q, keys, values, slots, places.steps, places.tags,
        places.open_blocks if has_open else slots, partial, scale, T, C, span, places.window,
        D**-0.5 * LOG2_E, H=H, G=G, D=D, SPLITS=splits, TILE_M=tile_m, TILE_N=tile_n,
        NULL_SLOT=NULL_SLOT, OPEN_BLOCK=OPEN_BLOCK if has_open else 0, num_warps=warps,
        num_stages=stages,
    )  # fmt: skip
    if splits > 1:
        block = max(1, 64 // splits)
        join_splits[(triton.cdiv(rows, block), G, B)](
            partial, scale, out, T, rows, tiles * tile_m, H=H, G=G, D=D, SPLITS=splits,
            ROWS=block, num_warps=4,
        )  # fmt: skip
    return out


def num_splits(programs: int, blocks: int, at_once: int) -> int:
    """Over how many programs the keys of a tile are split: the soonest to be through.

    Programs run in rounds; each has to start (as long as a few blocks take), and each split has to
    be joined.

    Args:
        programs: how many there are without splits.
        blocks: of keys, for each of them.
        at_once: programs of a round.
    """

    def cost(splits: int) -> float:
        rounds = -(-programs * splits // at_once)
        return rounds * (blocks / splits + 4) + 0.1 * splits

    return min((s for s in (1, 2, 4, 8, 16, 32, 64) if s <= max(1, blocks)), key=cost)


def _tiles(rows: int, dtype: torch.dtype) -> tuple[int, int, int, int, int]:
    """Queries and keys of a tile, warps, stages, and how many an SM holds; measured on an H100."""
    if dtype == torch.float32:
        return 16, 32, 4, 2, 1
    if rows <= 64:
        return 16, 128, 4, 3, 1
    return 64, 64, 4, 3, 2
