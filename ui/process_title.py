"""Keeps passwords out of what `ps` shows of this process to everyone on the machine."""

import ctypes
import sys
from pathlib import Path

from sources.redact import safe_url

# Numbers 48 and 49 of proc(5)'s stat, of which the first two come before the split.
_ARG_START, _ARG_END = 48 - 3, 49 - 3


def hide_secrets() -> None:
    """Overwrite the addresses among our arguments by what is safe to show of them; Linux only."""
    if sys.platform != "linux":
        return
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(stat[_ARG_START]), int(stat[_ARG_END])
    for argument in ctypes.string_at(start, end - start).split(b"\0"):
        shown = safe_url(argument.decode(errors="replace")).encode()
        if shown != argument:
            room = len(argument)
            ctypes.memmove(start, shown[:room].ljust(room), room)
        start += len(argument) + 1
