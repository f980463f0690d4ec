"""What a test must give back: threads, child processes, sockets and pipes."""

import contextlib
import os
import threading
from pathlib import Path

Belongings = tuple[set[threading.Thread], set[str], set[str]]


def belongings() -> Belongings:
    """Return this process's threads, children, and open sockets and pipes (the latter on Linux)."""
    children, files = set(), set()
    for path in Path("/proc/self/task").glob("*/children"):
        children |= set(path.read_text().split())
    for path in Path("/proc/self/fd").glob("*"):
        with contextlib.suppress(OSError):  # the folder itself was open a moment ago
            files.add(os.readlink(path))
    kept = {name for name in files if name.startswith(("socket:", "pipe:"))}
    return set(threading.enumerate()), children, kept
