"""Each fused kernel beside its plain version, on any device: the relative errors of all it gives.

    TRITON_INTERPRET=1 python -m tests.fused_cases     # a JSON object: case -> {tensor: error}

bf16 inputs are given to the plain version as the same numbers in fp32.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from kernels.gated_delta_net.naive import DeltaNetWeights
from kernels.ops import PLAIN, Ops, fused_ops
from kernels.window_attention.naive import RingPlaces, open_blocks, relative_tags, visible
from model.preprocess import resize
from model.weights import random_weights
from tests.closeness import relative_error
from tests.small_models import LINEAR, SLIDING, SMALL

Errors = dict[str, float]
Case = Callable[[torch.device, torch.dtype], Errors]


def delta_net(
    device: torch.device,
    dtype: torch.dtype,
    *,
    T: int,
    sizes: tuple[int, int, int] = (2, 16, 32),
    lengths: tuple[int, ...] = (),
    equal: bool = False,
    forget: float = 0.0,
) -> Errors:
    """Outputs and both states of two rows; `forget` makes one token wipe the state."""
    H, K, V = sizes
    B, W, C = 2, 4, H * (2 * K + V)
    weights = DeltaNetWeights(
        (torch.randn(C, W) * 0.5).to(device, dtype),
        torch.empty(H).uniform_(1.0, 16.0).log().to(device),
        (torch.randn(H) - 3.0).to(device),
        torch.randn(V).to(device, dtype),
        1e-5,
    )
    projected = torch.randn(B, T, C + H * V + 2 * H)
    if equal:
        projected = projected[:, :1].expand_as(projected).clone()
    if forget:
        projected[:, T // 2, C + H * V : C + H * V + H] = forget
    projected = projected.to(device, dtype)
    state = 0.3 * torch.randn(B + 2, H, K, V, device=device)
    conv = torch.randn(B + 2, W - 1, C).to(device, dtype)
    slots = torch.arange(1, B + 1, device=device)
    limits = torch.tensor(lengths, device=device) if lengths else None
    counts = torch.ones(B, T, dtype=torch.bool, device=device)
    if limits is not None:
        counts = torch.arange(T, device=device) < limits[:, None]
    plain_state, plain_conv = state.clone(), conv.float().clone()
    wide = weights._replace(conv=weights.conv.float(), norm=weights.norm.float())
    gates = projected[..., C + H * V :]
    o = PLAIN.gated_delta_net(
        projected.float(), gates.float(), wide, plain_state, plain_conv, slots, limits, counts
    )
    fused_o = fused_ops().gated_delta_net(projected, gates, weights, state, conv, slots, limits)
    return {
        "o": relative_error(o[counts], fused_o[counts]),
        "state": relative_error(plain_state, state),
        "inputs": relative_error(plain_conv, conv),
    }


def ring(
    device: torch.device,
    dtype: torch.dtype,
    *,
    T: int,
    seen: int,
    window: int = 64,
    sizes: tuple[int, int, int] = (4, 2, 16),
    lengths: tuple[int, ...] = (),
) -> Errors:
    """Outputs and ring of two streams that have seen so many tokens, and a few more."""
    H, G, D = sizes
    B, C = 2, window - 1 + T
    keys, values = (torch.randn(B + 1, C, G, D).to(device, dtype) for _ in range(2))
    slots = torch.arange(1, B + 1)
    first = torch.tensor([seen, seen + 7])
    tags = torch.full((B + 1, C), -1)
    for slot, past in zip(slots, first, strict=True):
        index = torch.arange(max(0, int(past) - C), int(past))
        tags[slot, index % C] = index
    steps = torch.arange(T).expand(B, T)
    write_slots = slots[:, None].expand(B, T)
    if lengths:
        limits = torch.tensor(lengths)[:, None]
        write_slots = torch.where(steps < limits, write_slots, 0)
        steps = torch.minimum(steps, limits - 1)
    index = first[:, None] + torch.arange(T)
    tags[write_slots, index % C] = index
    relative = relative_tags(tags[slots], first, window)
    places = RingPlaces(
        write_slots.contiguous().to(device),
        (index % C).to(device),
        steps.int().contiguous().to(device),
        relative.to(device),
        window,
        open_blocks(relative, T, window).to(device),
        visible(steps, relative, window).to(device),
    )
    qkv = torch.randn(B, T, (H + 2 * G) * D).to(device, dtype)
    angles = torch.randn(B, T, 1, D // 2, device=device).repeat(1, 1, 1, 2)
    cos, sin, at = angles.cos(), angles.sin(), slots.to(device)
    plain_keys, plain_values = keys.float().clone(), values.float().clone()
    attend, plain = fused_ops().append_attention, PLAIN.append_attention
    o = plain(qkv.float(), cos, sin, plain_keys, plain_values, at, places)
    fused_o = attend(qkv, cos, sin, keys, values, at, places)
    return {
        "o": relative_error(o, fused_o),
        "keys": relative_error(plain_keys[1:], keys[1:]),
        "values": relative_error(plain_values[1:], values[1:]),
    }


def vision(
    device: torch.device,
    dtype: torch.dtype,
    *,
    P: int,
    L: int,
    sizes: tuple[int, int] = (2, 20),
) -> Errors:
    """Outputs of two frames of P patches with windows of L."""
    H, D = sizes
    qkv = torch.randn(2, P, 3 * H * D).to(device, dtype)
    angles = torch.randn(P, 1, D // 2, device=device).repeat(1, 1, 2)
    args = (angles.cos(), angles.sin(), H, L)
    o = PLAIN.vision_attention(qkv.float(), *args)
    return {"o": relative_error(o, fused_ops().vision_attention(qkv, *args))}


def norms(device: torch.device, dtype: torch.dtype, *, N: int) -> Errors:
    """RMSNorm alone and after a sum, and the gated activation."""
    x, delta, weight = (torch.randn(n, N).to(device, dtype) for n in (5, 5, 1))
    fused = fused_ops()
    total, normed = PLAIN.add_rms_norm(x.float(), delta.float(), weight[0].float(), 1e-6)
    fused_total, fused_normed = fused.add_rms_norm(x, delta, weight[0], 1e-6)
    alone = PLAIN.rms_norm(x.float(), weight[0].float(), 1e-6)
    return {
        "sum": relative_error(total, fused_total),
        "normed": relative_error(normed, fused_normed),
        "alone": relative_error(alone, fused.rms_norm(x, weight[0], 1e-6)),
        "activation": relative_error(PLAIN.silu_mul(x.float()), fused.silu_mul(x)),
    }


def product(device: torch.device, dtype: torch.dtype, *, rows: int, bias: bool) -> Errors:
    """The gated activation of a product of which no size fits the tiles."""
    from kernels.silu_mul.product import activated_product

    x, weight = torch.randn(rows, 72), torch.randn(2 * 56, 72) / 72**0.5
    x, weight = x.to(device, dtype), weight.to(device, dtype)
    shift = torch.randn(2 * 56).to(device, dtype) if bias else None
    exact = (x.float(), weight.float(), None if shift is None else shift.float())
    return {"o": relative_error(PLAIN.gated_product(*exact), activated_product(x, weight, shift))}


def quantised(device: torch.device, dtype: torch.dtype, *, N: int) -> Errors:
    """What norms and activations quantise, and what is quantised by itself."""
    x, delta, weight = (torch.randn(n, N).to(device, dtype) for n in (5, 5, 1))
    fused = fused_ops()
    pairs = {
        "alone": (PLAIN.quantise(x), fused.quantise(x)),
        "activation": (PLAIN.quantised_silu_mul(x), fused.quantised_silu_mul(x)),
        "norm": (
            PLAIN.quantised_rms_norm(x, delta, weight[0], 1e-6, wide=True)[1],
            fused.quantised_rms_norm(x, delta, weight[0], 1e-6, wide=True)[1],
        ),
        "norm alone": (
            PLAIN.quantised_rms_norm(x, None, weight[0], 1e-6, wide=False)[1],
            fused.quantised_rms_norm(x, None, weight[0], 1e-6, wide=False)[1],
        ),
    }
    return {
        name: relative_error(*(q.values.float() * q.scale[:, None] for q in pair))
        for name, pair in pairs.items()
    }


MODEL = replace(
    SMALL,
    layer_types=(SLIDING, LINEAR),
    num_attention_heads=2,
    hidden_size=32,
    mrope_section=(4, 2, 2),
    linear_head_dim=16,
)


def whole_model(device: torch.device, dtype: torch.dtype, tried: Ops | None = None) -> Errors:
    """A stream whose window slides, a question on a fork, and tokens beside frames."""
    grid, results = (2, 3), []
    pictures = torch.randint(0, 256, (5, 1, 56, 84, 3), dtype=torch.uint8).to(device)
    for ops, own in ((PLAIN, torch.float32), (tried or fused_ops(), dtype)):
        vlm = random_weights(MODEL, 0, device, own)
        vlm.use_ops(ops)
        pool = vlm.new_pool(2, max_append=6)
        one, two = (torch.tensor([slot], device=device) for slot in (1, 2))
        vlm.start_stream(1, pool)
        for i, picture in enumerate(pictures):
            time_s = torch.tensor([i / 2], dtype=torch.float64, device=device)
            hidden = vlm.append_frames(picture, time_s, one, pool, grid, wanted="all")
        pool.copy(1, 2)
        asked = vlm.append_text(torch.tensor([[1, 2, 3]], device=device), two, pool)
        tokens = vlm.encode_pixels(resize(pictures[0], *grid, MODEL.vision), grid)
        ids = torch.tensor([5], device=device)
        decoded = vlm.watch_and_decode(tokens, time_s + 1, one, ids, two, pool, grid)
        results.append([hidden, asked, decoded, *(t[1:].float() for t in pool.tensors())])
    plain, fused = results
    names = ("hidden", "asked", "decoded", *(f"state {i}" for i in range(len(plain) - 3)))
    pairs = zip(names, plain, fused, strict=True)
    return {name: relative_error(a, b) for name, a, b in pairs if a.numel()}


CASES: dict[str, Case] = {
    "a token": partial(delta_net, T=1),
    "two tokens": partial(delta_net, T=2),
    "a whole chunk": partial(delta_net, T=64),
    "past a chunk": partial(delta_net, T=100),
    "two chunks": partial(delta_net, T=128, sizes=(1, 32, 64)),
    "padded rows": partial(delta_net, T=70, lengths=(3, 70)),
    "shorter than the convolution": partial(delta_net, T=9, lengths=(1, 2)),
    "equal keys": partial(delta_net, T=64, equal=True),
    "a token that forgets all": partial(delta_net, T=64, forget=1e4),
    "an empty ring": partial(ring, T=24, seen=0),
    "a ring that wrapped": partial(ring, T=24, seen=300),
    "a ring of months": partial(ring, T=24, seen=2**40),
    "one token on a ring": partial(ring, T=1, seen=300),
    "padded rows on a ring": partial(ring, T=24, seen=100, lengths=(3, 24)),
    "a window of many blocks": partial(ring, T=8, seen=5000, window=300, sizes=(4, 2, 32)),
    "windows of a frame": partial(vision, P=128, L=64),
    "small windows": partial(vision, P=64, L=16, sizes=(1, 32)),
    "a whole frame": partial(vision, P=96, L=96),
    "a whole model": whole_model,
    "a gated product": partial(product, rows=150, bias=False),
    "a gated product with a bias": partial(product, rows=65, bias=True),
    "8 bits": partial(quantised, N=100),
    "a norm": partial(norms, N=100),
    "a norm of a power of two": partial(norms, N=64),
}


def errors(name: str, device: str, dtype: torch.dtype) -> Errors:
    """The errors of a case, always of the same random numbers."""
    torch.manual_seed(len(name))
    with torch.no_grad():
        return CASES[name](torch.device(device), dtype)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps({name: errors(name, "cpu", torch.float32) for name in CASES}))
