"""Frames in shared memory: handed over whole, in order, and overtaken only where said."""

import os
import threading

import numpy as np
import pytest

from sources.ring import SLOTS, FrameRing

MAX_PIXELS = 64 * 48


def pair() -> tuple[FrameRing, FrameRing]:
    """Two views of one ring, as two processes have them."""
    fd = FrameRing.allocate(MAX_PIXELS)
    rings = FrameRing(fd, MAX_PIXELS), FrameRing(fd, MAX_PIXELS)
    os.close(fd)
    return rings


def picture(value: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), value % 256, np.uint8)


def test_frames_arrive_as_they_were_written_whatever_their_size() -> None:
    writer, reader = pair()
    assert reader.written == 0 and reader.read(0) is None
    for seq, (height, width) in enumerate([(48, 64), (1, 1), (31, 7)]):
        writer.write(picture(seq, height, width), 10.0 + seq, 0.5)
        frame = reader.read(seq)
        assert frame is not None and frame.image.shape == (height, width, 3)
        assert (frame.image == seq).all()
        assert (frame.seq, frame.arrived_s, frame.decode_s) == (seq, 10.0 + seq, 0.5)
    assert reader.written == 3


def test_a_copy_stays_when_its_slot_is_written_again() -> None:
    writer, reader = pair()
    writer.write(picture(1), 0.0, 0.0)
    frame = reader.read(0)
    for seq in range(SLOTS):
        writer.write(picture(50 + seq), 0.0, 0.0)
    assert frame is not None and (frame.image == 1).all()
    assert reader.read(0) is None
    last = reader.read(SLOTS)
    assert last is not None and (last.image == 50 + SLOTS - 1).all()


def test_losses_add_up_beside_the_frames() -> None:
    writer, reader = pair()
    writer.count_losses(2, 0)
    writer.write(picture(1), 0.0, 0.0)
    writer.count_losses(1, 5)
    assert reader.losses() == (3, 5) and reader.written == 1


def test_a_reader_never_sees_half_of_two_frames() -> None:
    """While another thread overwrites slots as fast as it can, what is read is of one colour."""
    writer, reader = pair()
    stop = threading.Event()

    def write() -> None:
        seq = 0
        while not stop.is_set():
            writer.write(picture(seq), float(seq), 0.0)
            seq += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        seen = 0
        while seen < 300:
            frame = reader.read(max(reader.written - 1, 0))
            if frame is not None:
                seen += 1
                assert (frame.image == int(frame.arrived_s) % 256).all()
    finally:
        stop.set()
        thread.join()


def test_unmapping_gives_the_memory_back() -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(20):
        for ring in pair():
            ring.close()
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before
    with pytest.raises(OSError):
        FrameRing(-5, MAX_PIXELS)
