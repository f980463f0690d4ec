"""Reads a source as a session does, on a thread of its own, and notes when each thing came."""

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from sources.frame import VideoFrame
from sources.open import open_source
from sources.status import FramesLost, SourceCondition, SourceStatus
from tests.rig.barcode import read_number
from tests.rig.belongings import belongings

# The last minute at 25 pictures a second: what is kept must not look like a leak.
KEPT_FRAMES = 1500


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """A frame that was handed out: its number if that is readable, the frames lost before it."""

    number: int | None
    seq: int
    epoch: int
    size: tuple[int, int]
    arrived_s: float
    read_s: float
    num_lost: int


@dataclass(frozen=True, slots=True)
class SeenStatus:
    """A status, and when it was told."""

    at_s: float
    status: SourceStatus


class Observer:
    """Watches a source from entering to `close`; `pause_s` is slept after each frame."""

    def __init__(self, uri: str) -> None:
        self.source = open_source(uri)
        self.pause_s = 0.0
        self.statuses: list[SeenStatus] = []
        self.frames: deque[SeenFrame] = deque(maxlen=KEPT_FRAMES)
        self.num_frames = 0
        self.lost: Counter[str] = Counter()
        self.first_lost_s: dict[str, float] = {}
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self.began_s = time.monotonic()
        self._thread.start()

    def until(self, done: Callable[[], bool], within_s: float, what: str) -> None:
        """Wait until something is so; raises TimeoutError after `within_s`."""
        with self._changed:
            if not self._changed.wait_for(done, within_s):
                raise TimeoutError(f"no {what} within {within_s:g} s")

    def until_frames(self, count: int, within_s: float) -> None:
        """Wait for so many more frames."""
        wanted = self.num_frames + count
        self.until(lambda: self.num_frames >= wanted, within_s, f"{count} frames")

    def until_told(
        self, since_s: float, within_s: float, *conditions: SourceCondition
    ) -> SeenStatus:
        """Wait for the first status of one of these conditions since a moment."""
        self.until(lambda: bool(self.told(since_s, *conditions)), within_s, "/".join(conditions))
        return self.told(since_s, *conditions)[0]

    def told(self, since_s: float, *conditions: SourceCondition) -> list[SeenStatus]:
        """What was told of these conditions since a moment."""
        return [
            seen
            for seen in self.statuses
            if seen.at_s >= since_s and seen.status.condition in conditions
        ]

    def until_whole(self, since_s: float, within_s: float) -> SeenFrame:
        """Wait for the first undamaged picture that arrived after a moment."""

        def whole() -> list[SeenFrame]:
            return [f for f in self.frames if f.arrived_s > since_s and f.number is not None]

        self.until(lambda: bool(whole()), within_s, "undamaged picture")
        return whole()[0]

    def waited_s(self, from_s: float, to_s: float) -> float:
        """How much of a time was spent in announced waits."""
        spans = [
            (max(s.at_s, from_s), min(s.at_s + (s.status.retry_s or 0.0), to_s))
            for s in self.statuses
        ]
        return sum(max(end_s - start_s, 0.0) for start_s, end_s in spans)

    def close(self, within_s: float = 10.0) -> float:
        """End the source; the seconds until it was closed and its reader had come back."""
        began_s = time.monotonic()
        self.source.close()
        self._thread.join(within_s)
        if self._thread.is_alive():
            raise TimeoutError(f"no end of reading within {within_s:g} s of close()")
        return time.monotonic() - began_s

    def _run(self) -> None:
        while (item := self.source.read()) is not None:
            now_s = time.monotonic()
            with self._changed:
                match item:
                    case VideoFrame():
                        self.frames.append(self._seen(item, now_s))
                        self.num_frames += 1
                    case FramesLost(count, reason):
                        self.lost[reason] += count
                        self.first_lost_s.setdefault(reason, now_s)
                    case SourceStatus():
                        self.statuses.append(SeenStatus(now_s, item))
                self._changed.notify_all()
            if isinstance(item, VideoFrame):
                time.sleep(self.pause_s)

    def _seen(self, frame: VideoFrame, now_s: float) -> SeenFrame:
        height, width = frame.image.shape[:2]
        return SeenFrame(
            read_number(frame.image),
            frame.seq,
            frame.epoch,
            (width, height),
            frame.arrived_s,
            now_s,
            self.lost.total(),
        )


def held() -> dict[str, int]:
    """What this process holds: threads, children, descriptors, mappings of shared memory."""
    threads, children, _ = belongings()
    shared = [line for line in _lines("/proc/self/maps") if "/memfd:" in line or "/dev/shm" in line]
    return {
        "threads": len(threads),
        "children": len(children),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "shared_memory": len(shared),
    }


def resident_bytes() -> int:
    """Memory of this process."""
    return int(psutil.Process().memory_info().rss)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
