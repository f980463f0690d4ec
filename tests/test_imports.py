"""Our top-level names are common words: they must mean our packages."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ["kernels", "model", "sources", "stream", "ui", "benchmarks"]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_is_ours(name: str) -> None:
    """The name resolves inside this checkout."""
    file = importlib.import_module(name).__file__
    assert file is not None and Path(file).is_relative_to(ROOT)


def test_the_kernels_package_is_empty() -> None:
    """transformers imports a package of this name to see what it offers."""
    assert (ROOT / "kernels" / "__init__.py").read_text() == ""


def test_starting_up_imports_neither_fla_nor_transformers() -> None:
    """Both take seconds to import and are needed on CUDA only."""
    code = "import sys, run_stream; print([m for m in ('fla', 'transformers') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
