"""Frames handed from a capturing process to ours in shared memory: the last few, newest wins.

One writer, one reader, no locks: the writer never waits. Each slot has a version that is odd while
it is being written, so a reader who was overtaken knows. The memory has no name: it is passed as a
file descriptor and is gone with the last process that holds it, however that one ends.
"""

import mmap
import os
import struct
import tempfile
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SLOTS = 4
# frames written, packets that did not decode, packets skipped to catch up
_HEADER = struct.Struct("<QQQ")
# version, sequence number, width, height, when it was ready, seconds of decoding
_SLOT = struct.Struct("<QQIIdd")
_HEADER_BYTES = _SLOT_BYTES = 64


@dataclass(frozen=True, slots=True, eq=False)
class RingFrame:
    """A copy of a frame: uint8 RGB [H, W, 3], its number, when it was ready, what it cost (s)."""

    image: npt.NDArray[np.uint8]
    seq: int
    arrived_s: float
    decode_s: float


class FrameRing:
    """SLOTS frames of at most `max_pixels` each, in memory that another process maps, too."""

    def __init__(self, fd: int, max_pixels: int) -> None:
        """Map the memory behind a descriptor, which may then be closed."""
        self._slot_bytes = _SLOT_BYTES + 3 * max_pixels
        self._memory = mmap.mmap(fd, _HEADER_BYTES + SLOTS * self._slot_bytes)
        self._bytes = np.frombuffer(self._memory, np.uint8)

    @staticmethod
    def allocate(max_pixels: int) -> int:
        """A descriptor of new memory; pages are only taken as frames are written."""
        size = _HEADER_BYTES + SLOTS * (_SLOT_BYTES + 3 * max_pixels)
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("frames")
        else:  # macOS
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, size)
        return fd

    def close(self) -> None:
        """Unmap it."""
        del self._bytes
        self._memory.close()

    @property
    def written(self) -> int:
        """How many frames were written; the newest has this number less one."""
        return int(_HEADER.unpack_from(self._memory)[0])

    def losses(self) -> tuple[int, int]:
        """Packets that did not decode, and packets that were skipped to catch up, so far."""
        _, corrupt, stale = _HEADER.unpack_from(self._memory)
        return corrupt, stale

    def count_losses(self, corrupt: int, stale: int) -> None:
        """The writer's: add to the losses."""
        written, *before = _HEADER.unpack_from(self._memory)
        _HEADER.pack_into(self._memory, 0, written, before[0] + corrupt, before[1] + stale)

    def write(self, image: npt.NDArray[np.uint8], arrived_s: float, decode_s: float) -> None:
        """The writer's: put a frame in place of the oldest; it must not exceed `max_pixels`."""
        height, width = image.shape[:2]
        seq, corrupt, stale = _HEADER.unpack_from(self._memory)
        at = self._slot_at(seq)
        version = _SLOT.unpack_from(self._memory, at)[0]
        _SLOT.pack_into(self._memory, at, version + 1, seq, 0, 0, 0.0, 0.0)
        start = at + _SLOT_BYTES
        self._bytes[start : start + image.size].reshape(image.shape)[:] = image
        _SLOT.pack_into(self._memory, at, version + 2, seq, width, height, arrived_s, decode_s)
        _HEADER.pack_into(self._memory, 0, seq + 1, corrupt, stale)

    def read(self, seq: int) -> RingFrame | None:
        """The reader's: a copy of frame number `seq`, None if it has been overwritten."""
        at = self._slot_at(seq)
        version, number, width, height, arrived_s, decode_s = _SLOT.unpack_from(self._memory, at)
        if number != seq or version == 0 or version % 2:
            return None
        start, size = at + _SLOT_BYTES, 3 * width * height
        image = self._bytes[start : start + size].reshape(height, width, 3).copy()
        if _SLOT.unpack_from(self._memory, at)[0] != version:
            return None
        return RingFrame(image, seq, arrived_s, decode_s)

    def _slot_at(self, seq: int) -> int:
        return _HEADER_BYTES + seq % SLOTS * self._slot_bytes
