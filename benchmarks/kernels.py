"""What does each fused kernel gain over plain torch, and over the library's where it has one?

    python -m benchmarks.kernels --streams 1 4

The published shapes with the window full, in bf16, on a GPU. Each op is captured many times in one
graph and replayed, so launches by the host do not count; times are medians in microseconds. `error`
is the norm of the difference to the plain version in fp32 over its norm.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.report import quantile, show
from kernels.gated_delta_net.naive import DeltaNetWeights, prepare
from kernels.ops import PLAIN, Ops, fused_ops
from kernels.window_attention.naive import RingPlaces, open_blocks, relative_tags, visible
from tests.closeness import relative_error

H, K, V, W = 16, 128, 256, 4
CHANNELS = H * (2 * K + V)
WINDOW, CAPACITY = 8192, 8447
Call = Callable[[Ops, torch.dtype], Any]


def replay_us(call: Callable[[], Any], launches: int = 20, repeats: int = 7) -> float:
    """The median time of a call within a replayed graph, in microseconds."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(launches):
            call()
    times = []
    for _ in range(repeats + 2):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(1e3 * start.elapsed_time(end) / launches)
    return quantile(times[2:], 0.5) or 0.0


def random(*shape: int) -> Tensor:
    return torch.randn(shape, device="cuda", dtype=torch.bfloat16)


def delta_net(B: int, T: int) -> tuple[Call, Callable[[], Any] | None]:
    """All of a Gated DeltaNet layer between its projections; and the library's rule alone."""
    weights = DeltaNetWeights(
        0.5 * random(CHANNELS, W),
        torch.empty(H, device="cuda").uniform_(1.0, 16.0).log(),
        torch.randn(H, device="cuda") - 4.0,
        torch.ones(V, device="cuda", dtype=torch.bfloat16),
        1e-5,
    )
    projected = random(B, T, CHANNELS + H * V + 2 * H)
    state = 0.3 * torch.randn(B + 1, H, K, V, device="cuda")
    conv, slots = random(B + 1, W - 1, CHANNELS), torch.arange(1, B + 1, device="cuda")

    def call(ops: Ops, dtype: torch.dtype) -> Tensor:
        x = projected.to(dtype)
        own = weights._replace(conv=weights.conv.to(dtype), norm=weights.norm.to(dtype))
        kept = state.clone() if dtype == torch.float32 else state
        inputs = conv.to(dtype)
        return ops.gated_delta_net(x, x[..., -2 * H :], own, kept, inputs, slots)

    try:
        from kernels.gated_delta_rule.fla import fla_gated_delta_rule
    except ImportError:
        return call, None
    gates = projected[..., -2 * H :]
    inputs, _, _ = prepare(projected, gates, weights, conv[slots], None, None)
    return call, lambda: fla_gated_delta_rule(*inputs, state[slots])


def ring(B: int, T: int) -> tuple[Call, None]:
    """Attention over a full ring, with rotation and storing."""
    heads, G, D = 16, 2, 128
    keys, values = random(B + 1, CAPACITY, G, D), random(B + 1, CAPACITY, G, D)
    slots = torch.arange(1, B + 1, device="cuda")
    first = torch.full((B,), 100_001, device="cuda")
    index = first[:, None] + torch.arange(T - CAPACITY, T, device="cuda")
    tags = torch.full((B + 1, CAPACITY), -1, device="cuda")
    tags[slots[:, None], index % CAPACITY] = index
    relative = relative_tags(tags[slots], first, WINDOW)
    steps = torch.arange(T, device="cuda").expand(B, T).int().contiguous()
    places = RingPlaces(
        slots[:, None].expand(B, T).contiguous(),
        index[:, -T:] % CAPACITY,
        steps,
        relative,
        WINDOW,
        open_blocks(relative, T, WINDOW),
        visible(steps, relative, WINDOW),
    )
    qkv = random(B, T, (heads + 2 * G) * D)
    angles = torch.randn(B, T, 1, D // 2, device="cuda").repeat(1, 1, 1, 2)
    cos, sin = angles.cos(), angles.sin()

    def call(ops: Ops, dtype: torch.dtype) -> Tensor:
        tensors = (t.to(dtype) for t in (keys, values))
        return ops.append_attention(qkv.to(dtype), cos, sin, *tensors, slots, places)

    return call, None


def vision(B: int, L: int) -> tuple[Call, None]:
    """Rotation and attention of a vision block, with windows of L patches."""
    qkv = random(B, 1024, 3 * 16 * 80)
    angles = torch.randn(1024, 1, 40, device="cuda").repeat(1, 1, 2)
    cos, sin = angles.cos(), angles.sin()
    return lambda ops, dtype: ops.vision_attention(qkv.to(dtype), cos, sin, 16, L), None


def norm(rows: int, N: int) -> tuple[Call, None]:
    """The residual sum and RMSNorm."""
    x, delta, weight = random(rows, N), random(rows, N), random(N)
    return lambda ops, dtype: ops.add_rms_norm(
        x.to(dtype), delta.to(dtype), weight.to(dtype), 1e-6
    )[1], None


def activation(rows: int, N: int) -> tuple[Call, None]:
    """silu(gate) * up."""
    x = random(rows, 2 * N)
    return lambda ops, dtype: ops.silu_mul(x.to(dtype)), None


def product(rows: int, K: int, N: int) -> tuple[Call, None]:
    """Gate, up and activation of an MLP."""
    x, weight = random(rows, K), random(2 * N, K) / K**0.5
    return lambda ops, dtype: ops.gated_product(x.to(dtype), weight.to(dtype), None), None


def cases(B: int) -> dict[str, tuple[Call, Callable[[], Any] | None]]:
    """Every op of a step of B streams, and of B single tokens."""
    return {
        "delta net, frame": delta_net(B, 256),
        "delta net, token": delta_net(B, 1),
        "ring attention, frame": ring(B, 256),
        "ring attention, token": ring(B, 1),
        "vision attention, windows": vision(B, 64),
        "vision attention, frame": vision(B, 1024),
        "norm, decoder": norm(256 * B, 2048),
        "norm, vision": norm(1024 * B, 1280),
        "activation, decoder": activation(256 * B, 11008),
        "activation, vision": activation(1024 * B, 3456),
        "gated product, decoder": product(256 * B, 2048, 11008),
        "gated product, vision": product(1024 * B, 1280, 3456),
    }


@torch.inference_mode()
def main(argv: list[str] | None = None) -> int:
    """0, or 2 without a GPU."""
    parser = argparse.ArgumentParser(description="Fused kernels beside plain torch.")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4])
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("error: torch sees no CUDA device here", file=sys.stderr)
        return 2
    rows, results = [], []
    for B in args.streams:
        for name, (call, library) in cases(B).items():
            exact = call(PLAIN, torch.float32)
            error = relative_error(exact, call(fused_ops(), torch.bfloat16))
            plain = replay_us(lambda call=call: call(PLAIN, torch.bfloat16), launches=5)  # type: ignore[misc]
            fused = replay_us(lambda call=call: call(fused_ops(), torch.bfloat16))  # type: ignore[misc]
            other = replay_us(library) if library else None
            shown = "-" if other is None else f"{other:.1f}"
            rows.append([f"{name}, {B}", f"{plain:.1f}", shown, f"{fused:.1f}", f"{error:.1e}"])
            results.append(
                {"op": name, "streams": B, "plain_us": plain, "library_us": other,
                 "fused_us": fused, "error": error}
            )  # fmt: skip
    header = ["op, streams", "plain us", "library us", "fused us", "error"]
    show("Kernels", header, rows, {"benchmark": "kernels", "ops": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
