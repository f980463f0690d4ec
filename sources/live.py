"""A live source that is never given up: camera, network stream or screen.

It is captured in a process of its own, watched, ended when it hangs, and tried again for ever, each
time after a random wait below a limit that doubles. All it goes through comes out of `read`, in
order, among its frames.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from sources.capture_errors import FINAL, WORDS
from sources.errors import SourceRefusedError
from sources.feed import Feed, FeedClosed, FeedEvent, FeedOpened
from sources.frame import SourceInfo, SourceItem, VideoFrame
from sources.ring import RingFrame
from sources.status import FramesLost, LossReason, SourceCondition, SourceStatus

# How many waits for a picture tell of a camera's rate, and what of it is taken for granted.
_FEW, _LONGEST_STALL_S = 5, 30.0


class RunningFeed(Protocol):
    """What is needed of sources.feed.Feed."""

    def next(self, timeout_s: float) -> FeedEvent | None: ...

    def cancel(self) -> None: ...

    def close(self) -> list[FramesLost]: ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How long, in seconds, a source may take.

    Attributes:
        connect: to the first picture of a try; that there is none is told within ten.
        stall: without a picture before it is called stalled; also five of its periods, or where
            its rate is not known thrice the longest of its last waits for a picture.
        grace: stalled before the try is given up.
        backoff, backoff_most: the limit of the first wait between tries, and of the longest.
        settled: with pictures after which the waits begin anew.
    """

    connect: float = 9.0
    stall: float = 2.0
    grace: float = 1.0
    backoff: float = 0.5
    backoff_most: float = 30.0
    settled: float = 10.0


class LiveSource:
    """The frames of a live source and what becomes of it; one thread reads, any may close."""

    def __init__(
        self,
        name: str,
        capture: dict[str, Any],
        *,
        clock: Callable[[], float] = time.monotonic,
        patience: Patience | None = None,
        start: Callable[[dict[str, Any]], RunningFeed] = Feed,
        wait: Callable[[float], bool] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Prepare; nothing is captured before the first `read`.

        Args:
            name: safe to print.
            capture: what the capturing process is told.
            start: starts a try.
            wait: sleeps so many seconds; True if the source was closed meanwhile.
        """
        self._info = SourceInfo(name, live=True)
        self._capture = capture
        self._clock = clock
        self._patience = patience or Patience()
        self._start = start
        self._closed = threading.Event()
        self._wait = wait or self._closed.wait
        self._rng = rng or random.Random()
        self._feed: RunningFeed | None = None
        self._reading = threading.Lock()
        self._seq = self._epoch = 0
        self._first_s: float | None = None
        self._last_s: float | None = None  # when the last picture came
        # Also over losses: a camera that is slower than our patience would be lost for ever.
        self._intervals_s: deque[float] = deque(maxlen=_FEW)
        self._live_since_s: float | None = None
        self._items = self._run()

    @property
    def info(self) -> SourceInfo:
        """What is known of it so far."""
        return self._info

    def read(self) -> SourceItem | None:
        """Block for the next frame, status or loss; None once closed or at the end of a film."""
        with self._reading:
            item = None if self._closed.is_set() else next(self._items, None)
            if self._closed.is_set():
                self._end_feed()
                return None
            return item

    def close(self) -> None:
        """End it; a blocked `read` returns None at once."""
        self._closed.set()
        if (feed := self._feed) is not None:
            feed.cancel()
        if self._reading.acquire(blocking=False):
            try:
                self._end_feed()
            finally:
                self._reading.release()

    def _run(self) -> Iterator[SourceItem]:
        """Try after try, with what each brings."""
        name, patience, tries = self._info.name, self._patience, 0
        yield SourceStatus(SourceCondition.CONNECTING, f"connecting to {name}")
        while not self._closed.is_set():
            self._live_since_s = None
            try:
                self._feed = self._start(self._capture)
            except OSError as error:  # there are too few descriptors or too little memory just now
                reason = f"it cannot be captured just now ({error.strerror})"
            else:
                reason = yield from self._watch(self._feed)
            yield from self._end_feed()
            if reason == "ended":
                yield SourceStatus(SourceCondition.ENDED, f"{name} has ended", self._epoch)
                return
            if reason in FINAL:
                raise SourceRefusedError(f"{name}: {WORDS[reason]}.")
            since_s, last_s = self._live_since_s, self._last_s
            if since_s is not None and last_s is not None and last_s - since_s >= patience.settled:
                tries = 0
            limit_s = min(patience.backoff * 2**tries, patience.backoff_most)
            retry_s, tries = self._rng.uniform(0.0, limit_s), min(tries + 1, 30)
            detail = f"{name}: {WORDS.get(reason, reason)}; next try in {retry_s:.1f} s"
            yield SourceStatus(
                SourceCondition.RECONNECTING, detail, self._epoch, retry_s=round(retry_s, 3)
            )
            self._wait(retry_s)

    def _watch(self, feed: RunningFeed) -> Generator[SourceItem, None, str]:
        """What one try brings; returns why it is over, a code or words."""
        patience, began_s = self._patience, self._clock()
        opened: FeedOpened | None = None
        stalled = False
        while not self._closed.is_set():
            if self._live_since_s is None:
                until_s = began_s + patience.connect
            else:
                assert self._last_s is not None
                until_s = self._last_s + self._stall_s() + (patience.grace if stalled else 0.0)
            event = feed.next(until_s - self._clock())
            match event:
                case FeedOpened():
                    opened = event
                case RingFrame():
                    if self._live_since_s is None or stalled:
                        yield self._live(opened, event.arrived_s, stalled)
                        stalled = False
                    yield self._frame(event)
                case FramesLost():
                    self._seq += event.count if event.reason is LossReason.OVERRUN else 0
                    yield event
                case FeedClosed(code):
                    return code
                case None if self._clock() >= until_s:
                    if self._live_since_s is None:
                        return f"no picture came within {patience.connect:g} s"
                    if stalled:
                        return "silent"
                    stalled = True
                    yield SourceStatus(
                        SourceCondition.STALLED,
                        f"{self._info.name}: no picture for {self._stall_s():.1f} s",
                        self._epoch,
                    )
        return "lost"

    def _live(self, opened: FeedOpened | None, arrived_s: float, stalled: bool) -> SourceStatus:
        """Pictures come, or come again; a new connection begins a new epoch."""
        gap_s = None if self._last_s is None else round(arrived_s - self._last_s, 3)
        if not stalled:
            if self._last_s is not None:
                self._epoch += 1
            self._live_since_s = arrived_s
        name = self._info.name
        if opened is not None:
            self._info = SourceInfo(name, True, opened.width, opened.height, opened.fps)
        detail = f"{name}: {opened.detail if opened else 'pictures come'}"
        if gap_s is not None:
            detail += f", after {gap_s:.1f} s without a picture"
        return SourceStatus(SourceCondition.LIVE, detail, self._epoch, gap_s=gap_s)

    def _frame(self, event: RingFrame) -> VideoFrame:
        if self._first_s is None:
            self._first_s = event.arrived_s
        if self._last_s is not None:
            self._intervals_s.append(event.arrived_s - self._last_s)
        self._last_s = event.arrived_s
        frame = VideoFrame(
            image=event.image,
            seq=self._seq,
            pts_s=event.arrived_s - self._first_s,
            arrived_s=event.arrived_s,
            decode_s=event.decode_s,
            epoch=self._epoch,
        )
        self._seq += 1
        return frame

    def _stall_s(self) -> float:
        if self._info.fps:
            usual_s = 5 / self._info.fps
        else:
            usual_s = min(3 * max(self._intervals_s, default=0.0), _LONGEST_STALL_S)
        return max(self._patience.stall, usual_s)

    def _end_feed(self) -> list[FramesLost]:
        """End the try under way; which of its frames nobody will see."""
        feed, self._feed = self._feed, None
        return [] if feed is None else feed.close()
