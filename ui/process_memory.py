"""Keeps small what the C library holds back of the memory that this process no longer needs."""

import ctypes
import sys

MOST_ARENAS = 2
_M_ARENA_MAX = -8  # of glibc's malloc.h


def share_arenas() -> None:
    """Let all threads draw on the same few arenas; to be called before there are any threads.

    Of glibc's own, eight for each core, every one comes to keep the most that was ever in it, and
    as threads of decoders and clients come and go the process grows for hours.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_ARENA_MAX, MOST_ARENAS)
