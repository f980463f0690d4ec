"""What threads leave behind in the C library's allocator is bounded."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

import run_stream
from ui.process_memory import MOST_ARENAS

ROOT = Path(run_stream.__file__).parent
# Counts the arenas of a process in which many threads have memory at the same time.
MANY_THREADS = """
import ctypes
import sys
import threading

import run_stream

met = threading.Barrier(33)

def hold():
    held = [bytes(5000) for _ in range(100)]
    met.wait()
    met.wait()
    del held

for _ in range(32):
    threading.Thread(target=hold, daemon=True).start()
met.wait()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
met.wait()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_threads_share_few_arenas(tmp_path: Path) -> None:
    """However many of them there are at a time."""
    told = tmp_path / "arenas.xml"
    command = [sys.executable, "-c", MANY_THREADS, str(told)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    assert 1 <= told.read_text().count("<heap nr=") <= MOST_ARENAS
