"""The capturing process: puts pictures into shared memory until it is told to stop or none come.

    python -m sources.feed_child RING_FD PIPE_FD

Started by sources.feed, which says on standard input, in one line of JSON, what to capture.
"""

import contextlib
import json
import os
import resource
import signal
import sys
import threading
import time
from typing import Any

from sources.capture import open_capture
from sources.capture_errors import CaptureError
from sources.captured import Losses, Opened
from sources.decode import Picture
from sources.frame import is_too_large
from sources.ring import FrameRing

# Room for a decoder and its threads; a picture beyond `max_pixels` is refused long before.
_MEMORY_BYTES = 6 << 30


def main() -> None:
    """Capture, say how it ended, and be gone."""
    try:
        _capture()
    finally:
        # Not by the ordinary way out: a library, or our own thread, may hang in the cleaning up.
        os._exit(0)


def _capture() -> None:
    ring_fd, pipe = map(int, sys.argv[1:3])
    capture = json.loads(sys.stdin.readline())
    _limit()
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is our parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    ring = FrameRing(ring_fd, capture["max_pixels"])
    try:
        code = _run(ring, pipe, capture)
    except CaptureError as error:
        code = error.code
    except MemoryError:
        code = "memory"
    _say(pipe, {"closed": code})


def _run(ring: FrameRing, pipe: int, capture: dict[str, Any]) -> str:
    """Hand over what the capture brings; why there is no more."""
    # Closed also when we are told to stop between two items: a camera wants to be told goodbye.
    with contextlib.closing(open_capture(capture, time.monotonic)) as items:
        for item in items:
            match item:
                case Opened():
                    said = {"width": item.width, "height": item.height, "fps": item.fps}
                    _say(pipe, said | {"detail": item.detail})
                case Losses(corrupt, stale):
                    ring.count_losses(corrupt, stale)
                    _wake(pipe)
                case Picture(image, _, decode_s):
                    height, width = image.shape[:2]
                    if is_too_large(width, height, capture["max_pixels"]):
                        raise CaptureError("too_large")
                    ring.write(image, time.monotonic(), decode_s)
                    _wake(pipe)
    return "ended"


def _wake(pipe: int) -> None:
    """A byte for a frame or a loss; after thousands that nobody has read, one more says nothing."""
    os.set_blocking(pipe, False)
    with contextlib.suppress(BlockingIOError):
        os.write(pipe, b"\n")
    os.set_blocking(pipe, True)


def _say(pipe: int, what: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(pipe, json.dumps(what).encode() + b"\n")


def _limit() -> None:
    """Bound what a hostile stream can take, and let the model go first."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        os.nice(5)


def _stop(*_: object) -> None:
    """Out of whatever Python is doing; the camera is told goodbye on the way."""
    raise SystemExit(0)


def _end_with_parent() -> None:
    """Standard input ends when our parent does, also when it is killed."""
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
