"""The reader: frames at their ticks, every frame accounted for, every outcome an event."""

import threading
from collections.abc import Callable

import pytest

from sources.errors import SourceOpenError
from sources.frame import SourceItem, VideoFrame
from sources.pushed import PushedSource
from sources.status import FramesLost, LossReason, SourceStatus
from stream.buffer import FrameBuffer, FullPolicy, ScheduledFrame
from stream.events import (
    DropReason,
    FrameAdmitted,
    FrameDone,
    FrameDropped,
    SourceCondition,
    SourceState,
)
from stream.monitor import Monitor
from stream.reader import FrameReader
from tests.stream_helpers import (
    PATIENCE_S,
    Events,
    FakeClock,
    ScriptedSource,
    scripted,
    video_frame,
)


class Reading:
    """A reader on a clock that its own waiting moves, with a buffer that never fills."""

    def __init__(
        self,
        source: ScriptedSource,
        fps: float | None = 25.0,
        duration_s: float | None = None,
        wait: Callable[[float], bool] | None = None,
        reset_on_gap: bool = False,
    ) -> None:
        self.clock, self.events, self.source = FakeClock(), Events(), source
        self.handed_at: dict[int, float] = {}
        self.events.then = self._note
        self.buffer = FrameBuffer(1000, FullPolicy.WAIT, lambda _: None, lambda: None)
        self.reader = FrameReader(
            "s",
            source,
            self.buffer,
            self.events,
            fps=fps,
            duration_s=duration_s,
            reset_on_gap=reset_on_gap,
            clock=self.clock,
            wait=wait or self.clock.wait,
        )

    def _note(self, event: object) -> None:
        if isinstance(event, FrameAdmitted):
            self.handed_at[event.seq] = self.clock()

    def frames(self) -> list[ScheduledFrame]:
        return [f for f in iter(self.buffer.take, None) if f is not None]

    def states(self) -> list[tuple[SourceCondition, str]]:
        return [(e.condition, e.detail) for e in self.events.of(SourceState)]


def test_file_frames_are_handed_over_at_their_ticks() -> None:
    """Each frame of a file is held back until its tick, and arrives then."""
    reading = Reading(scripted(50))
    reading.reader.run()
    start = 100.0
    for scheduled in reading.frames():
        due_s = start + scheduled.tick / 25
        assert scheduled.due_s == pytest.approx(due_s)
        assert reading.handed_at[scheduled.frame.seq] == pytest.approx(due_s)
        assert scheduled.frame.arrived_s == pytest.approx(due_s)
    assert len(reading.handed_at) == 50


def test_file_that_is_read_late_is_not_held_back_further() -> None:
    """After a delay the frames that are due already follow at once, each due when it was."""
    reading = Reading(scripted(20))
    take = reading.source.read

    def slow() -> SourceItem | None:
        frame = take()
        if isinstance(frame, VideoFrame) and frame.seq == 5:
            reading.clock.advance(0.2)
        return frame

    reading.source.read = slow  # type: ignore[method-assign]
    reading.reader.run()
    assert reading.handed_at[5] == pytest.approx(100.0 + 4 / 25 + 0.2)
    assert reading.handed_at[6] == reading.handed_at[5]
    assert reading.handed_at[15] == pytest.approx(100.0 + 15 / 25)
    assert [f.due_s for f in reading.frames()][6] == pytest.approx(100.0 + 6 / 25)


def test_without_a_rate_frames_are_handed_over_at_once() -> None:
    """With no target rate nothing waits and no frame has a due time."""
    reading = Reading(scripted(20), fps=None)
    reading.reader.run()
    assert [(f.tick, f.due_s) for f in reading.frames()] == [(i, None) for i in range(20)]
    assert reading.clock() == 100.0


def test_live_frames_are_scheduled_by_their_arrival() -> None:
    """A camera's frame is due at its tick after the first arrival, and keeps its arrival."""
    arrivals = [200.0, 200.045, 200.079, 200.2]
    frames = [video_frame(i, arrived_s=a) for i, a in enumerate(arrivals)]
    reading = Reading(ScriptedSource(frames, live=True))
    reading.reader.run()
    taken = reading.frames()
    assert [f.tick for f in taken] == [0, 1, 2, 5]
    assert [f.due_s for f in taken] == pytest.approx([200.0, 200.04, 200.08, 200.2])
    assert [f.frame.arrived_s for f in taken] == arrivals
    assert reading.clock() == 100.0


def test_frames_too_many_are_dropped_as_paced() -> None:
    """Of 50 frames a second at 25, each is admitted or dropped with the reason; the sum fits."""
    frames = [video_frame(i, pts_s=i / 50) for i in range(100)]
    reading = Reading(ScriptedSource(frames))
    reading.reader.run()
    admitted = [e.seq for e in reading.events.of(FrameAdmitted)]
    dropped = reading.events.of(FrameDropped)
    assert sorted(admitted + [e.seq for e in dropped]) == list(range(100))
    assert {(e.reason, e.tick) for e in dropped} == {(DropReason.PACED, None)}
    assert abs(len(admitted) - 50) <= 1


def test_duration_cuts_the_stream() -> None:
    """Frames from the duration on are not part of the stream."""
    reading = Reading(scripted(100), duration_s=1.0)
    reading.reader.run()
    assert len(reading.frames()) == 25
    assert reading.states()[-1] == (SourceCondition.ENDED, "the 1 s asked for are over")
    assert reading.buffer.ended and reading.source.closed.is_set()


def test_end_of_a_source_is_said() -> None:
    """First that it is read, last that it has ended; the source and the buffer are closed."""
    reading = Reading(scripted(3))
    reading.reader.run()
    assert reading.states() == [
        (SourceCondition.LIVE, "reading scripted"),
        (SourceCondition.ENDED, "the source has ended"),
    ]
    assert isinstance(reading.events[-1], SourceState)
    assert reading.source.closed.is_set()
    assert not reading.buffer.put(ScheduledFrame(video_frame(9), 9, None))


def test_stop_while_a_frame_is_held_back() -> None:
    """A frame whose tick has not come when the stream is stopped is dropped as closed."""

    def stopped_meanwhile(_: float) -> bool:
        reading.reader.stop()
        return True

    reading = Reading(scripted(10), wait=stopped_meanwhile)
    reading.reader.run()
    assert [e.seq for e in reading.events.of(FrameAdmitted)] == [0]
    dropped = reading.events.of(FrameDropped)
    assert [(e.seq, e.tick, e.reason) for e in dropped] == [(1, None, DropReason.CLOSED)]
    assert reading.states()[-1] == (SourceCondition.ENDED, "stopped")


def test_stop_wakes_a_reader_that_waits_for_a_tick() -> None:
    """Stopping ends a wait of an hour at once, on the reader's own way of waiting."""
    frames = [video_frame(0), video_frame(1, pts_s=3600.0)]
    events = Events()
    buffer = FrameBuffer(4, FullPolicy.WAIT, lambda _: None, lambda: None)
    reader = FrameReader("s", ScriptedSource(frames), buffer, events, fps=25.0)
    thread = threading.Thread(target=reader.run, daemon=True)
    thread.start()
    assert events.wait_for(lambda: bool(events.of(FrameAdmitted)))
    reader.stop()
    reader.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert [(e.seq, e.reason) for e in events.of(FrameDropped)] in ([(1, DropReason.CLOSED)], [])
    assert events.of(SourceState)[-1].detail == "stopped"


def test_buffer_closed_by_the_engine_ends_the_reading() -> None:
    """A frame that finds its buffer closed is dropped as closed with its tick, and no more read."""
    reading = Reading(scripted(10))
    reading.buffer.close()
    reading.reader.run()
    assert [(e.seq, e.tick, e.reason) for e in reading.events.of(FrameDropped)] == [
        (0, 0, DropReason.CLOSED)
    ]
    assert len(reading.events.of(FrameAdmitted)) == 1
    assert reading.states()[-1] == (SourceCondition.ENDED, "the stream was closed")


def test_lost_source_is_a_failed_state() -> None:
    """A source's error becomes an event with its text; what came before it is kept."""
    source = ScriptedSource([video_frame(0), SourceOpenError("The camera was unplugged.")])
    reading = Reading(source)
    reading.reader.run()
    assert len(reading.frames()) == 1
    assert reading.states()[-1] == (SourceCondition.FAILED, "The camera was unplugged.")
    assert reading.buffer.ended and source.closed.is_set()


def test_unexpected_exception_is_a_failed_state_too() -> None:
    """An error that no source promised is said without its text, and not swallowed."""
    reading = Reading(ScriptedSource([video_frame(0), ZeroDivisionError("rtsp://me:secret@x")]))
    with pytest.raises(ZeroDivisionError):
        reading.reader.run()
    assert reading.states()[-1] == (SourceCondition.FAILED, "reading failed: ZeroDivisionError")
    assert len(reading.frames()) == 1
    assert reading.buffer.ended and reading.source.closed.is_set()


def test_schedule_of_a_long_stream_is_exact() -> None:
    """After ten days a frame's due time is right to a microsecond."""
    far = 10 * 86_400.0
    frames = [video_frame(0), video_frame(1, pts_s=far), video_frame(2, pts_s=far + 0.04)]
    reading = Reading(ScriptedSource(frames))
    reading.reader.run()
    due = [f.due_s for f in reading.frames() if f.due_s is not None]
    assert due[1] == pytest.approx(100.0 + far, abs=1e-6)
    assert due[2] - due[1] == pytest.approx(0.04, abs=1e-6)


CONNECTING = SourceStatus(SourceCondition.CONNECTING, "cam")

LIVE = SourceStatus(SourceCondition.LIVE, "cam: 64x48")
STALLED = SourceStatus(SourceCondition.STALLED, "cam: no picture for 2.0 s")
AGAIN = SourceStatus(SourceCondition.LIVE, "cam: 64x48, after 3.0 s", epoch=1, gap_s=3.0)


def test_what_a_source_says_of_itself_becomes_events_with_times() -> None:
    """Each state has its moment and how long the one before it lasted."""
    retry = SourceStatus(SourceCondition.RECONNECTING, "cam: lost; next try in 0.4 s", retry_s=0.4)
    reading = Reading(ScriptedSource([LIVE, video_frame(0), STALLED, retry, AGAIN], live=True))
    take = reading.source.read

    def slow() -> SourceItem | None:
        reading.clock.advance(1.0)
        return take()

    reading.source.read = slow  # type: ignore[method-assign]
    reading.reader.run()
    states = reading.events.of(SourceState)
    assert [(e.condition, e.at_s, e.lasted_s) for e in states] == [
        (SourceCondition.LIVE, 101.0, None),
        (SourceCondition.STALLED, 103.0, 2.0),
        (SourceCondition.RECONNECTING, 104.0, 1.0),
        (SourceCondition.LIVE, 105.0, 1.0),
        (SourceCondition.ENDED, 106.0, 1.0),
    ]
    assert states[2].retry_s == 0.4
    assert (states[3].epoch, states[3].gap_s) == (1, 3.0)
    assert [e.over for e in states] == [False] * 4 + [True]
    assert states[4].epoch == 1


def test_what_a_source_lost_is_counted_with_its_reason() -> None:
    lost = [FramesLost(3, LossReason.STALE), FramesLost(1, LossReason.RECONNECT)]
    items = [LIVE, video_frame(0), *lost, video_frame(1, arrived_s=100.04)]
    reading = Reading(ScriptedSource(items, live=True))
    reading.reader.run()
    dropped = reading.events.of(FrameDropped)
    assert [(e.reason, e.count, e.seq, e.tick) for e in dropped] == [
        (DropReason.STALE, 3, None, None),
        (DropReason.RECONNECT, 1, None, None),
    ]
    assert [f.frame.seq for f in reading.frames()] == [0, 1]


def test_a_source_says_how_it_ended() -> None:
    """The end is told once, in the source's own words."""
    ended = SourceStatus(SourceCondition.ENDED, "cam has ended")
    reading = Reading(ScriptedSource([LIVE, video_frame(0), ended], live=True))
    reading.reader.run()
    assert reading.states()[-1] == (SourceCondition.ENDED, "cam has ended")
    assert len(reading.states()) == 2


def test_a_gap_says_whether_the_stream_begins_anew() -> None:
    for reset, said in ((True, "; the stream begins anew"), (False, "")):
        items = [LIVE, video_frame(0), AGAIN]
        reading = Reading(ScriptedSource(items, live=True), reset_on_gap=reset)
        reading.reader.run()
        assert [detail for _, detail in reading.states()][:2] == [
            "cam: 64x48",
            "cam: 64x48, after 3.0 s" + said,
        ]


def test_a_duration_is_over_though_no_frame_comes() -> None:
    """A camera that never answers is not waited for beyond the time that was asked for."""
    reading = Reading(ScriptedSource([STALLED] * 50, live=True), duration_s=10.0)
    take = reading.source.read

    def slow() -> SourceItem | None:
        reading.clock.advance(1.0)
        return take()

    reading.source.read = slow  # type: ignore[method-assign]
    reading.reader.run()
    assert reading.states()[-1] == (SourceCondition.ENDED, "the 10 s asked for are over")
    assert reading.clock() == 110.0


def test_picture_that_cannot_be_staged_is_accounted_for() -> None:
    """Where the device has no room, the frame is dropped as failed and the stream says so."""

    def stage(image: object) -> None:
        raise RuntimeError("out of memory")

    events = Events()
    buffer = FrameBuffer(1000, FullPolicy.WAIT, lambda _: None, lambda: None)
    reader = FrameReader("s", scripted(3), buffer, events, fps=None, stage=stage)
    with pytest.raises(RuntimeError, match="out of memory"):
        reader.run()
    assert [e.reason for e in events.of(FrameDropped)] == [DropReason.FAILED]
    assert [e.condition for e in events.of(SourceState)][-1] is SourceCondition.FAILED


def test_frames_that_we_did_not_take_in_time_were_due() -> None:
    """A program that stands still every other second does not hold the rate of its camera."""
    items: list[SourceItem] = []
    seq = 0
    for second in range(0, 60, 2):
        items += [video_frame(seq + i, arrived_s=200.0 + second + i / 25) for i in range(25)]
        items.append(FramesLost(25, LossReason.OVERRUN))
        seq += 50
    items.append(FramesLost(2, LossReason.STALE))
    reading = Reading(ScriptedSource(items, live=True))
    monitor = Monitor(25.0)
    reading.events.then = monitor.record
    reading.reader.run()
    for frame in reading.frames():
        due_s = frame.due_s
        monitor.record(FrameDone("s", 0, frame.tick, 0.0, due_s, due_s or 0.0, due_s or 0.0, {}))
    report = monitor.report()
    assert (report.due, report.on_time, report.starved) == (29 * 50 + 25, 30 * 25, 0)
    assert report.dropped == {"overrun": 30 * 25, "stale": 2}
    assert report.read == 30 * 50 + 2 and report.holds is False


def test_a_duration_is_of_the_stream_whatever_came_before_and_between() -> None:
    """Neither the time that connecting takes counts, nor does a loss end it early."""
    items: list[SourceItem] = [CONNECTING]
    for second in range(20):
        items += [video_frame(second * 25 + i) for i in range(25)]
        items.append(FramesLost(1, LossReason.CORRUPT))
    reading = Reading(ScriptedSource(items, live=True), fps=None, duration_s=10.0)
    take = reading.source.read

    def as_it_happens() -> SourceItem | None:
        item = take()
        if isinstance(item, VideoFrame):
            reading.clock.advance(8.0 if item.seq == 0 else 0.04)
        return item

    reading.source.read = as_it_happens  # type: ignore[method-assign]
    reading.reader.run()
    assert len(reading.events.of(FrameAdmitted)) == 250
    assert reading.states()[-1][1] == "the 10 s asked for are over"


def test_a_duration_ends_a_source_that_says_nothing() -> None:
    """Who is to push pictures may never come."""
    source, events = PushedSource("robot"), Events()
    buffer = FrameBuffer(4, FullPolicy.WAIT, lambda _: None, lambda: None)
    FrameReader("s", source, buffer, events, fps=25.0, duration_s=0.05).run()
    assert [e.detail for e in events.of(SourceState)][-1] == "the 0.05 s asked for are over"


def test_a_name_that_is_no_text_is_told_as_text() -> None:
    """A file's, in another encoding: what cannot be sent as JSON would be told to nobody."""
    said = SourceStatus(SourceCondition.LIVE, "reading caf\udce9.mp4")
    reading = Reading(ScriptedSource([said]))
    reading.reader.run()
    assert "reading caf?.mp4" in [state.detail for state in reading.events.of(SourceState)]
