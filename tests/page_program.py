"""The real program with its page, in a process of its own."""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from tests.stream_helpers import PATIENCE_S


@dataclass(frozen=True, slots=True)
class Program:
    """Where its page is, and the number of its process."""

    url: str
    pid: int


@contextlib.contextmanager
def program(*arguments: str) -> Iterator[Program]:
    """Run it with these arguments until it is no longer needed, and end it by SIGTERM."""
    command = [sys.executable, "run_stream.py", "--json", "--ui", "127.0.0.1:0", *arguments]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as running:
        assert running.stdout is not None
        try:
            says = (json.loads(line) for line in running.stdout)
            url = next(line["url"] for line in says if line["type"] == "Serving")
            # So that it never waits for someone to read.
            threading.Thread(target=lambda: [None for _ in says], daemon=True).start()
            yield Program(url, running.pid)
        finally:
            running.terminate()
            assert running.wait(PATIENCE_S) == 0
