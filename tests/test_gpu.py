"""On a CUDA device: the library's kernels agree, and the verbs behave as on the CPU."""

import pytest
import torch
from torch import Tensor

from benchmarks.parity import main as parity
from kernels.gated_delta_rule.naive import naive_gated_delta_rule
from kernels.ops import PLAIN, Ops, fused_ops
from model.checkpoint import load_model
from tests.closeness import assert_close, relative_error

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("T", [1, 24, 64, 65, 256])
def test_fla_equals_the_recurrence(T: int) -> None:
    """At the published shape, outputs within bf16's and TF32's rounding, state in fp32."""
    pytest.importorskip("fla", reason="flash-linear-attention is not installed")
    from kernels.gated_delta_rule.fla import fla_gated_delta_rule

    torch.set_grad_enabled(False)
    H, K, V = 16, 128, 256
    q, k = torch.randn(2, 2, T, H, K, device="cuda").unbind(0)
    v = torch.randn(2, T, H, V, device="cuda")
    g, beta = -0.1 * torch.rand(2, T, H, device="cuda"), torch.rand(2, T, H, device="cuda")
    state = torch.randn(2, H, K, V, device="cuda")
    for dtype, ratio in ((torch.float32, 2e-3), (torch.bfloat16, 1e-2)):
        args = [x.to(dtype) for x in (q, k, v)]
        o, end = naive_gated_delta_rule(*args, g, beta, state)
        fast_o, fast_end = fla_gated_delta_rule(*args, g, beta, state)
        assert fast_end.dtype == torch.float32
        assert_close(f"o {dtype}", o, fast_o, ratio)
        assert_close(f"state {dtype}", end, fast_end, ratio)


@pytest.mark.parametrize("ops", ["plain", "fused"])
def test_the_recording_is_met(ops: str) -> None:
    """1e-4 in fp32, with plain torch and with the fused kernels."""
    assert parity(["--device", "cuda", "--ops", ops]) == 0


def test_the_gpu_in_bf16_sees_what_the_cpu_in_fp32_sees() -> None:
    """Resizing, vision tower and decoder round in bf16, fused kernels hardly more than plain torch;
    and forks are free."""
    torch.set_grad_enabled(False)
    frames = torch.randint(0, 256, (12, 1, 360, 640, 3), dtype=torch.uint8)
    exact = watched(frames, "cpu", torch.float32, PLAIN)
    plain = relative_error(exact, watched(frames, "cuda", torch.bfloat16, PLAIN))
    fused = relative_error(exact, watched(frames, "cuda", torch.bfloat16, fused_ops()))
    assert plain < 0.1 and fused < 1.5 * plain, (plain, fused)


def watched(frames: Tensor, device: str, dtype: torch.dtype, ops: Ops) -> Tensor:
    """The last hidden vectors of a stream that was also asked a question, on a fork."""
    vlm = load_model("random:tiny").vlm.to(device)
    vlm.use_ops(ops)
    for name, parameter in vlm.named_parameters():
        if not name.endswith(("A_log", "dt_bias")):
            parameter.data = parameter.data.to(dtype)
    vlm.visual.patch_embed.fold()
    pool = vlm.new_pool(2, max_append=60)
    vlm.start_stream(1, pool)
    slots = torch.tensor([1], device=device)
    for i, frame in enumerate(frames):
        time_s = torch.tensor([i / 25], dtype=torch.float64, device=device)
        last = vlm.append_frames(frame.to(device), time_s, slots, pool, (6, 10), wanted="all")
    before = [t[1].clone() for t in pool.tensors()]
    pool.copy(1, 2)
    vlm.append_text(torch.tensor([[1, 2, 3]], device=device), slots + 1, pool)
    assert all(map(torch.equal, before, (t[1] for t in pool.tensors())))
    return last.float().cpu()
