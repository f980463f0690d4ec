"""What takes its time: nothing wrong at all, a slow reader, a hole in HLS, and many flaps."""

import time

from benchmarks.ingest_cases import FPS, LOST, PATIENT_S, Case, Outcome, watching
from benchmarks.ingest_faults import rtsp
from benchmarks.ingest_observer import Observer, SeenFrame, held, resident_bytes
from sources.live import Patience
from sources.status import LossReason, SourceCondition
from tests.rig.http_servers import HlsServer
from tests.rig.proxy import FaultProxy
from tests.rig.rtsp import RtspServer

NORMAL_S = 10.0
SLOW_S, SLOW_PAUSE_S, AGE_S = 20.0, 0.5, 0.2
# The waits between tries double until a source has settled: flaps come in bursts with time to
# settle between them, or a hundred would be half an hour of waiting.
BURST, REPORT_EVERY = 4, 20


def normal(outcome: Outcome) -> None:
    """Nothing is wrong; `live_s` is from opening to the first picture."""
    with RtspServer() as camera, watching(camera.url, outcome) as observer:
        first = observer.until_whole(0.0, PATIENT_S)
        outcome.live_s = first.arrived_s - observer.began_s
        time.sleep(NORMAL_S)
    account(list(observer.frames), outcome)
    outcome.expect(not observer.told(0.0, *LOST), "told of a fault")


def slow_reader(outcome: Outcome) -> None:
    """Whoever reads two frames a second sees the present, and what was skipped is counted."""
    with RtspServer() as camera, watching(camera.url, outcome) as observer:
        observer.until_frames(2 * FPS, PATIENT_S)
        outcome.frames_before = observer.num_frames
        began_s = time.monotonic()
        observer.pause_s = SLOW_PAUSE_S
        time.sleep(SLOW_S)
        observer.pause_s = 0.0
        ended_s = time.monotonic()
        observer.until_frames(2 * FPS, PATIENT_S)
    slow = [f for f in observer.frames if began_s + SLOW_PAUSE_S < f.read_s < ended_s]
    ages_s = sorted(frame.read_s - frame.arrived_s for frame in slow)
    outcome.notes.append(
        f"{len(slow)} frames taken, age when taken {ages_s[len(ages_s) // 2] * 1e3:.0f} ms in "
        f"the middle, {ages_s[-1] * 1e3:.0f} ms at most"
    )
    outcome.expect(ages_s[-1] <= AGE_S, "old frames handed out")
    outcome.detected_s = observer.first_lost_s.get(LossReason.OVERRUN, began_s) - began_s
    outcome.told = "overrun frames lost"
    outcome.expect(not observer.told(0.0, *LOST), "told of a fault")
    account(list(observer.frames), outcome)


def account(frames: list[SeenFrame], outcome: Outcome) -> None:
    """Every picture between the first and the last was handed out or counted as lost."""
    first, last = frames[0], frames[-1]
    if first.number is None or last.number is None:
        outcome.misses.append("unreadable pictures")
        return
    sent = last.number - first.number + 1
    lost = last.num_lost - first.num_lost
    outcome.notes.append(f"{sent} sent = {len(frames)} handed out + {lost} lost")
    outcome.expect(sent == len(frames) + lost, f"{sent - len(frames) - lost} unexplained")


def missing_segment(segment_s: float) -> Case:
    """The server answers 404 for one segment of HLS, and has the next ones."""

    def run(outcome: Outcome) -> None:
        with HlsServer(segment_s=segment_s) as server, watching(server.url, outcome) as observer:
            observer.until_frames(FPS, PATIENT_S)
            outcome.frames_before = observer.num_frames
            lost = server.newest + 1
            server.lose(lost)
            hole = range(round(lost * segment_s * FPS), round((lost + 1) * segment_s * FPS))
            observer.until(
                lambda: (observer.frames[-1].number or 0) >= hole.stop + FPS, PATIENT_S, "later one"
            )
        see_hole(hole, observer, outcome)

    return run


def see_hole(hole: range, observer: Observer, outcome: Outcome) -> None:
    """The fault begins when the first missing picture is due, and ends when the next one is, or
    when the connection is given up."""
    frames = [frame for frame in observer.frames if frame.number is not None]
    numbers = [frame.number or 0 for frame in frames]
    after = next(n for n, number in enumerate(numbers) if number >= hole.start)
    began_s = frames[after - 1].arrived_s + 1 / FPS
    told = observer.told(began_s, *LOST)
    if told:
        outcome.detected_s, outcome.told = told[0].at_s - began_s, told[0].status.detail
    given_up = observer.told(began_s, SourceCondition.RECONNECTING)
    returned_s = given_up[0].at_s if given_up else began_s + len(hole) / FPS
    outcome.live_s = frames[after].arrived_s - returned_s
    outcome.waited_s = observer.waited_s(returned_s, frames[after].arrived_s)
    outcome.backoff_s = given_up[0].status.retry_s if given_up else None
    stood_s = frames[after].arrived_s - frames[after - 1].arrived_s
    missing = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
    outcome.notes.append(
        f"the picture stood still for {stood_s:.2f} s; {len(missing)} pictures missing, "
        f"{len(hole)} of them in the segment"
    )
    outcome.expect(missing == list(hole), "other pictures are missing")


def flaps(count: int) -> Case:
    """The network goes away and returns again and again; the figures are of the worst flap."""

    def run(outcome: Outcome) -> None:
        began_s = time.monotonic()
        with (
            RtspServer() as camera,
            FaultProxy(camera.port) as proxy,
            watching(rtsp(proxy.port), outcome) as observer,
        ):
            observer.until_frames(2 * FPS, PATIENT_S)
            outcome.frames_before = observer.num_frames
            for n in range(count):
                if n % BURST == 0:
                    settle(observer)
                flap(observer, proxy, outcome)
                if (n + 1) % REPORT_EVERY == 0:
                    outcome.notes.append(snapshot(n + 1))
        outcome.notes.append(f"{count} flaps took {time.monotonic() - began_s:.0f} s")

    return run


def settle(observer: Observer) -> None:
    """Wait until pictures have come for so long that the waits between tries begin anew."""
    live_s = observer.told(0.0, SourceCondition.LIVE)[-1].at_s
    time.sleep(max(live_s + Patience().settled + 0.5 - time.monotonic(), 0.0))


def flap(observer: Observer, proxy: FaultProxy, outcome: Outcome) -> None:
    """All connections are reset and new ones refused, until that is told."""
    began_s = time.monotonic()
    proxy.refuse()
    proxy.reset()
    told = observer.until_told(began_s, PATIENT_S, SourceCondition.RECONNECTING)
    proxy.listen()
    returned_s = time.monotonic()
    first = observer.until_whole(max(told.at_s, returned_s), PATIENT_S)
    live_s = first.arrived_s - returned_s
    waited_s = observer.waited_s(returned_s, first.arrived_s)
    if told.at_s - began_s > (outcome.detected_s or 0.0):
        outcome.detected_s, outcome.told = told.at_s - began_s, told.status.detail
    if outcome.live_s is None or live_s - waited_s > outcome.live_s - outcome.waited_s:
        outcome.live_s, outcome.waited_s = live_s, waited_s
        outcome.backoff_s = told.status.retry_s
    observer.until_frames(10, PATIENT_S)


def snapshot(num_flaps: int) -> str:
    """What is held now, with the source open."""
    parts = [f"{count} {name.replace('_', ' ')}" for name, count in held().items()]
    return f"after {num_flaps}: {', '.join(parts)}, {resident_bytes() / 1e6:.1f} MB"
