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

from tests.fused_cases import CASES, Errors, errors

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
    assert all(error < 1e-5 for error in found[name].values()), found[name]


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_kernels_agree_on_a_gpu(name: str) -> None:
    """In fp32 as in the interpreter, and in bf16 within its rounding."""
    for dtype, bound in ((torch.float32, 1e-5), (torch.bfloat16, 5e-3)):
        found = errors(name, "cuda", dtype)
        assert all(error < bound for error in found.values()), (dtype, found)
