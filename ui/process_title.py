"""Keeps passwords out of what `ps` shows of this process to everyone, and of what we say of it."""

import ctypes
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from sources.redact import safe_url

# Numbers 48 and 49 of proc(5)'s stat, of which the first two come before the split.
_ARG_START, _ARG_END = 48 - 3, 49 - 3
# Before an address there may be an option's name and a stream's: --stream=door=rtsp://camera
_NAMES = re.compile(r"(?:[^:/?#@=]*=)*")


def hide_secrets() -> None:
    """Overwrite the addresses among our arguments by what is safe to show of them; Linux only."""
    if sys.platform != "linux":
        return
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(stat[_ARG_START]), int(stat[_ARG_END])
    for argument in ctypes.string_at(start, end - start).split(b"\0"):
        shown = safe_argument(argument.decode(errors="replace")).encode()
        if shown != argument:
            room = len(argument)
            ctypes.memmove(start, shown[:room].ljust(room), room)
        start += len(argument) + 1


def safe_argument(argument: str) -> str:
    """What is safe to show of one argument of the command line."""
    names = _NAMES.match(argument)
    assert names is not None
    return names[0] + safe_url(argument[names.end() :])


def without_secrets(sentence: str, arguments: Iterable[str]) -> str:
    """A sentence that may repeat arguments, or the values in them, with what is safe of them."""
    for argument in arguments:
        for part in (argument, argument.partition("=")[2]):
            for told in (part, repr(part)[1:-1]):
                sentence = sentence.replace(told, safe_argument(told))
    return sentence
