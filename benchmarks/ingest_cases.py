"""Lets a source go through a fault, and compares what it did with what is promised."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from benchmarks.ingest_faults import Staged
from benchmarks.ingest_observer import Observer, held
from sources.status import LossReason, SourceCondition

FPS = 25
DETECT_S, DETECT_CONNECTING_S, LIVE_S, CLOSE_S = 3.0, 10.0, 2.0, 2.0
PATIENT_S = 60.0  # what takes longer hangs
LOST = (SourceCondition.STALLED, SourceCondition.RECONNECTING)


@dataclass(slots=True)
class Outcome:
    """What came of one fault; times in seconds, None where there is nothing to tell.

    Attributes:
        detected_s: from the beginning of the fault, or of the try, until it was told.
        backoff_s: the waits announced from then until pictures came.
        live_s: from the server's return to the first whole picture; `waited_s` of it were
            announced.
        left: what the process holds more of afterwards than before.
        misses: what was not as promised.
    """

    fault: str
    detect_within_s: float = DETECT_S
    detected_s: float | None = None
    told: str = ""
    backoff_s: float | None = None
    live_s: float | None = None
    waited_s: float = 0.0
    frames_before: int = 0
    frames_after: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    close_s: float | None = None
    left: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    misses: list[str] = field(default_factory=list)

    def expect(self, met: bool, otherwise: str) -> None:
        """Note a miss unless something was as promised."""
        if not met:
            self.misses.append(otherwise)


Case = Callable[[Outcome], None]


def measure(fault: str, case: Case) -> Outcome:
    """Let one fault happen; what hangs is a miss, and so is what is left behind."""
    outcome = Outcome(fault)
    before = held()
    try:
        case(outcome)
    except TimeoutError as error:
        outcome.misses.append(f"hung: {error}")
    outcome.left = {name: count - before[name] for name, count in held().items()}
    detected_s, live_s, close_s = outcome.detected_s, outcome.live_s, outcome.close_s
    outcome.expect(detected_s is None or detected_s <= outcome.detect_within_s, "detected late")
    outcome.expect(live_s is None or live_s - outcome.waited_s <= LIVE_S, "live late")
    outcome.expect(close_s is not None and close_s <= CLOSE_S, "closed late")
    outcome.expect(not any(outcome.left.values()), "something is left")
    return outcome


@contextmanager
def watching(uri: str, outcome: Outcome) -> Iterator[Observer]:
    """Watch a source; at the end close it and note what that took, and what was lost."""
    observer = Observer(uri)
    try:
        yield observer
    finally:
        outcome.frames_after = observer.num_frames - outcome.frames_before
        outcome.close_s = observer.close()
        outcome.lost = dict(observer.lost)


def staged_case(stage: Callable[[ExitStack], Staged]) -> Case:
    """Most faults: pictures, the fault, the word of it, the server's return, pictures."""

    def run(outcome: Outcome) -> None:
        with ExitStack() as stack:
            staged = stage(stack)
            with watching(staged.uri, outcome) as observer:
                go_through(staged, observer, outcome)

    return run


def go_through(staged: Staged, observer: Observer, outcome: Outcome) -> None:
    """One fault from the pictures before it to those after it."""
    if staged.connecting:
        outcome.detect_within_s = DETECT_CONNECTING_S
    else:
        observer.until_frames(2 * FPS, PATIENT_S)
    outcome.frames_before = observer.num_frames
    began_s = observer.began_s if staged.connecting else time.monotonic()
    staged.begin()
    if staged.lasts_s is not None:
        time.sleep(staged.lasts_s)
    else:
        wanted = LOST[1:] if staged.until_lost else LOST
        observer.until_told(began_s, PATIENT_S, *wanted)
    if staged.end is None:
        observer.until(lambda: len(observer.statuses) > 4, PATIENT_S, "further tries")
    else:
        staged.end()
        returned_s = began_s if staged.lasts_s == 0.0 else time.monotonic()
        see_return(observer, outcome, began_s, returned_s)
    outcome.detected_s, outcome.told = detection(observer, began_s)
    outcome.expect(outcome.detected_s is not None, "never told")
    last = observer.frames[-1] if observer.frames else None
    if staged.size is not None and last is not None:
        outcome.expect(last.size == staged.size and last.epoch > 0, "no pictures of the new size")
    if damaged := sum(frame.number is None for frame in observer.frames):
        outcome.notes.append(f"{damaged} damaged pictures handed out")


def detection(observer: Observer, began_s: float) -> tuple[float | None, str]:
    """After how long it was first told that something is wrong, and in which words."""
    found = [(seen.at_s, seen.status.detail) for seen in observer.told(began_s, *LOST)]
    if (corrupt_s := observer.first_lost_s.get(LossReason.CORRUPT)) is not None:
        found.append((corrupt_s, "corrupt frames lost"))
    if not found:
        return None, ""
    at_s, words = min(found)
    return at_s - began_s, words


def see_return(observer: Observer, outcome: Outcome, began_s: float, returned_s: float) -> None:
    """Wait for whole pictures of a server that has returned."""
    told = observer.told(began_s, *LOST)
    if not told and returned_s == began_s:
        told = [observer.until_told(began_s, PATIENT_S, *LOST)]
    first = observer.until_whole(max([returned_s] + [seen.at_s for seen in told[:1]]), PATIENT_S)
    outcome.live_s = first.arrived_s - returned_s
    outcome.waited_s = observer.waited_s(returned_s, first.arrived_s)
    retries_s = [seen.status.retry_s or 0.0 for seen in observer.told(began_s, *LOST[1:])]
    outcome.backoff_s = sum(retries_s) if retries_s else None
    observer.until_frames(2 * FPS, PATIENT_S)
