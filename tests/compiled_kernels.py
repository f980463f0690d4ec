"""Compiles every fused kernel for an H100, on any machine: the published shapes, one stream, bf16.

    python -m tests.compiled_kernels     # a JSON object: kernel -> bytes of stack a thread needs

A kernel that the interpreter runs may still not compile; one that needs a stack keeps registers in
slow memory.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from kernels.gated_delta_net.naive import DeltaNetWeights
from kernels.ops import fused_ops
from kernels.window_attention.naive import OPEN_BLOCK, RingPlaces

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
H100 = GPUTarget("cuda", 90, 32)


class NoDevice:
    """As much of a driver as compiling asks for."""

    def get_current_target(self) -> GPUTarget:
        return H100

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def __getattr__(self, name: str) -> Any:
        return lambda *_: {"max_shared_mem": 232448, "multiprocessor_count": 132}


def stack_bytes(cubin: bytes) -> int:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(CUOBJDUMP), "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return max(int(n) for n in re.findall(r"STACK:(\d+)", text))


def compile_instead_of_running() -> dict[str, int]:
    """From now on a launch compiles; the stack of each kernel, the largest of its versions."""
    stacks: dict[str, int] = {}
    run, seen = JITFunction.run, set()

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        compiled = run(self, *args, grid=grid, warmup=True, **options)
        if compiled.hash not in seen:
            seen.add(compiled.hash)
            stack = stack_bytes(compiled.asm["cubin"])
            stacks[self.__name__] = max(stacks.get(self.__name__, 0), stack)
        return compiled

    driver.set_active(NoDevice())
    JITFunction.run = compile_only
    return stacks


def launch_all() -> None:
    """Every op at the published shapes: a frame, a question's text, a token."""
    ops = fused_ops()
    H, K, V, W = 16, 128, 256, 4
    C = H * (2 * K + V)

    def zeros(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype)

    gates = torch.zeros(H)
    weights = DeltaNetWeights(zeros(C, W), gates, gates, zeros(V), 1e-5)
    state, conv, slots = torch.zeros(2, H, K, V), zeros(2, W - 1, C), torch.ones(1).long()
    keys, values = zeros(2, 8448, 2, 128), zeros(2, 8448, 2, 128)
    for T, lengths in ((256, None), (64, slots), (1, None)):
        x = zeros(1, T, C + H * V + 2 * H)
        ops.gated_delta_net(x, x[..., -2 * H :], weights, state, conv, slots, lengths)
        at, tags = torch.zeros(1, T).long(), torch.zeros(1, 8448).int()
        blocks = torch.zeros(1, 8448 // OPEN_BLOCK).int()
        places = RingPlaces(at, at, at.int(), tags, 8192, blocks)
        turn = torch.zeros(1, T, 1, 128)
        ops.append_attention(zeros(1, T, 20 * 128), turn, turn, keys, values, slots, places)
    turn = torch.zeros(1024, 1, 80)
    ops.vision_attention(zeros(1, 1024, 3840), turn, turn, 16, 64)
    ops.vision_attention(zeros(1, 1024, 3840), turn, turn, 16, 1024)
    x = zeros(4, 2048)
    ops.rms_norm(x, x[0], 1e-6)
    ops.add_rms_norm(x, x, x[0], 1e-6)
    ops.silu_mul(zeros(4, 22016))
    ops.gated_product(zeros(4096, 1280), zeros(6912, 1280), zeros(6912))
    ops.quantise(x)
    ops.quantised_rms_norm(x, x, x[0], 1e-6, wide=True)
    ops.quantised_silu_mul(zeros(4, 22016))


if __name__ == "__main__":
    found = compile_instead_of_running()
    launch_all()
    print(json.dumps(found))
