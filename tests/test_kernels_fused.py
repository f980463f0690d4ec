"""The fused kernels compute what their plain versions compute.

Without a GPU they run in Triton's interpreter, in fp32: its bf16 products are wrong.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kernels.ops import PLAIN
from tests.fused_cases import CASES, Errors, errors, whole_model

ROOT = Path(__file__).parent.parent


def interpreted(*command: str) -> str:
    """What a Python process prints whose kernels are interpreted: chosen before Triton's import."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def found() -> dict[str, Errors]:
    """The errors of all cases in the interpreter."""
    pytest.importorskip("triton", reason="triton is not installed: no interpreter to run it in")
    found: dict[str, Errors] = json.loads(interpreted("-m", "tests.fused_cases"))
    return found


@pytest.mark.parametrize("name", CASES)
def test_interpreted_kernels_agree(name: str, found: dict[str, Errors]) -> None:
    """Every output and every state that is written, in fp32."""
    # The interpreter cuts off what hardware rounds to 8 bits: up to an eighth of a value.
    bound = 0.125 if name == "8 bits" else 1e-5
    assert all(error < bound for error in found[name].values()), found[name]


def test_every_kernel_compiles_for_an_h100_and_keeps_to_registers() -> None:
    """Without a GPU, by Triton's own compiler: what the interpreter cannot see."""
    pytest.importorskip("triton", reason="triton is not installed: nothing to compile with")
    command = [sys.executable, "-m", "tests.compiled_kernels"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    stacks = json.loads(done.stdout.splitlines()[-1])
    assert len(stacks) == 15, sorted(stacks)
    assert not any(stacks.values()), stacks


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_kernels_agree_on_a_gpu(name: str) -> None:
    """In fp32 as in the interpreter, and in bf16 within its rounding."""
    bounds = {torch.float32: 1e-5, torch.bfloat16: 5e-3}
    if name == "a whole model":
        # Its products round in bf16, too: plain torch is as far from fp32 there.
        bounds[torch.bfloat16] = 4e-2
    if name == "8 bits":
        # What differs in its last digit may fall to either of two neighbours, a sixteenth apart.
        bounds = dict.fromkeys(bounds, 1e-2)
    for dtype, bound in bounds.items():
        found = errors(name, "cuda", dtype)
        assert all(error < bound for error in found.values()), (dtype, found)


@pytest.mark.gpu
def test_fused_kernels_round_no_worse_than_plain_torch() -> None:
    """A whole model in bf16 is as near to fp32 with one as with the other."""
    torch.manual_seed(0)
    with torch.no_grad():
        plain = whole_model(torch.device("cuda"), torch.bfloat16, PLAIN)
        torch.manual_seed(0)
        fused = whole_model(torch.device("cuda"), torch.bfloat16)
    for name in ("hidden", "asked", "decoded"):
        assert fused[name] < 1.5 * plain[name] + 1e-4, (name, fused[name], plain[name])
