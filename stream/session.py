"""One watched stream: its source, its questions, its listeners.

A session reads the source on a thread of its own, hands frames to the engine, asks questions when
their moment has come, and tells every listener what happens. When the source has ended it sees
every frame and every question through to its end.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sources.frame import SourceInfo, VideoFrame, VideoSource
from stream.answers import unstarted
from stream.buffer import FrameBuffer, FullPolicy, ScheduledFrame
from stream.dialogues import MAX_TURNS, Turn
from stream.engine import NO_FRAME, Engine
from stream.events import (
    AnswerStatus,
    DropReason,
    Event,
    FrameDropped,
    QuestionAccepted,
    SourceCondition,
    SourceState,
)
from stream.monitor import Monitor, MonitorReport
from stream.progress import Progress
from stream.question import Question, QuestionRefusedError, SamplingParams, check_question
from stream.reader import FrameReader

Listener = Callable[[Event], None]

# Two periods: a frame that waited longer than this is late anyway.
LIVE_BUFFER_FRAMES = 2
FILE_BUFFER_FRAMES = 4


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """How a source is watched.

    Attributes:
        fps: the target rate; None to process every frame as fast as possible.
        on_full: None for the source's own way: a file waits, a live source drops its oldest.
        duration_s: end the stream at this time on its own clock.
        reset_on_gap: begin anew, with nothing remembered, when a lost source is found again.
    """

    name: str = "stream"
    fps: float | None = 25.0
    on_full: FullPolicy | None = None
    duration_s: float | None = None
    reset_on_gap: bool = False


class StreamSession:
    """Watches one source through an engine; all methods may be called from any thread."""

    def __init__(
        self,
        source: VideoSource,
        engine: Engine,
        config: StreamConfig,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._config = config
        self._clock = clock
        self._info = source.info
        self._monitor = Monitor(config.fps)
        self._progress = Progress()
        self._listeners: list[Listener] = []
        self._changed = threading.Condition(threading.RLock())
        self._ids = itertools.count(1)
        self._scheduled: list[tuple[float, Question]] = []
        self._stopped = False
        policy = config.on_full or (FullPolicy.DROP_OLDEST if self._info.live else FullPolicy.WAIT)
        capacity = FILE_BUFFER_FRAMES if policy is FullPolicy.WAIT else LIVE_BUFFER_FRAMES
        self._buffer = FrameBuffer(capacity, policy, self._overwritten, engine.wake)
        self._reader = FrameReader(
            config.name,
            source,
            self._buffer,
            self._publish,
            fps=config.fps,
            duration_s=config.duration_s,
            reset_on_gap=config.reset_on_gap,
            clock=clock,
            stage=engine.stage,
        )
        self._thread = threading.Thread(target=self._reader.run, name="reader", daemon=True)

    @property
    def info(self) -> SourceInfo:
        return self._info

    @property
    def target_fps(self) -> float | None:
        """The rate of its schedule; None for a stream without one."""
        return self._config.fps

    def start(self) -> None:
        """Begin to watch; raises ValueError if it was stopped, or the engine refuses it."""
        config = self._config
        with self._changed:  # or else it might be stopped halfway, and keep its slot for ever
            if self._stopped:
                raise ValueError("the stream was stopped")
            self._engine.open_stream(
                config.name,
                self._buffer,
                self._publish,
                fps=config.fps,
                reset_on_gap=config.reset_on_gap,
            )
            self._thread.start()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event from now on; returns what ends it.

        Listeners run on the reader's and the engine's threads and must return quickly. One that
        raises is not called again.
        """
        with self._changed:
            self._listeners.append(listener)

        def unsubscribe() -> None:
            with self._changed:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return unsubscribe

    def ask(
        self,
        text: str,
        *,
        asker: str = "local",
        at_s: float = 0.0,
        deadline_s: float | None = None,
        sampling: SamplingParams | None = None,
        turns: Sequence[Turn] | None = None,
    ) -> int:
        """Accept a question; exactly one AnswerDone with the returned id will follow.

        Args:
            asker: whose private dialogue it continues.
            at_s: ask when the stream reaches this time on its own clock; AT_END after its last
                frame. A question whose moment never comes ends as cancelled.
            deadline_s: seconds to where the answer is cut: from the asking, or from the moment that
                the question waits for.
            turns: the dialogue before it, in place of the one that is kept for the asker; then
                this question is not kept either.

        Raises:
            QuestionRefusedError: it is empty, too long, or too many are open.
        """
        text = check_question(text)
        with self._changed:
            if self._stopped:
                raise QuestionRefusedError("the stream was stopped")
            question = Question(
                id=next(self._ids),
                stream=self._config.name,
                asker=asker,
                text=text,
                asked_s=self._clock(),
                deadline_s=None if deadline_s is None else self._clock() + deadline_s,
                sampling=sampling or SamplingParams(),
                turns=None if turns is None else tuple(turns[-MAX_TURNS:]),
            )
            accepted = QuestionAccepted(question.stream, question.id, asker, text)
            # Its room is taken now: what was accepted must not be refused when its moment comes.
            self._engine.reserve()
            begun = self._thread.ident is not None and not self._progress.frames_ended
            # What is asked now of a stream that has begun waits in the engine for its first frame.
            if self._progress.reached(at_s) or (at_s <= 0 and begun):
                self._engine.ask(question, reserved=True)
            else:
                self._scheduled.append((at_s, question))
            self._publish(accepted)
        return question.id

    def cancel(self, question_id: int) -> None:
        """End a question as cancelled; nothing happens if it has ended already."""
        with self._changed:
            mine = [entry for entry in self._scheduled if entry[1].id == question_id]
            if not mine:
                self._engine.cancel(self._config.name, question_id)
                return
            self._scheduled.remove(mine[0])
            self._cancel_unasked(mine[0][1], "cancelled by the asker")

    def report(self) -> MonitorReport:
        """What the monitor has counted so far."""
        with self._changed:
            return self._monitor.report(self._clock())

    def snapshot(self) -> VideoFrame | None:
        """The newest frame that got its place in the schedule, None before the first.

        It is the frame itself, not a copy: its picture must not be written to.
        """
        return self._reader.newest

    @property
    def open_questions(self) -> int:
        with self._changed:
            return self._progress.open_questions

    @property
    def source_state(self) -> SourceState | None:
        with self._changed:
            return self._progress.source_state

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the source has ended and every frame and question with it.

        Returns:
            False if the time ran out first.
        """
        with self._changed:
            return self._changed.wait_for(
                lambda: self._progress.frames_ended and not self._progress.open_questions, timeout_s
            )

    def stop(self, reason: str = "the stream was stopped") -> None:
        """Stop reading and cancel what is open; idempotent. The engine goes on."""
        with self._changed:
            if self._stopped:
                return
            self._stopped = True
            unasked, self._scheduled = self._scheduled, []
            for _, question in unasked:
                self._cancel_unasked(question, reason)
            if self._thread.ident is None:
                now_s = self._clock()
                self._publish(
                    SourceState(self._config.name, SourceCondition.ENDED, "never started", now_s)
                )
        self._reader.stop()
        self._engine.close_stream(self._config.name, reason)

    def _publish(self, event: Event) -> None:
        """Count an event, pass it on, and ask the questions whose moment it brought."""
        with self._changed:
            if isinstance(event, SourceState) and self._progress.failed:
                return  # its reader ends, too, but that it failed is the last word
            self._monitor.record(event)
            self._progress.record(event)
            for listener in list(self._listeners):
                self._tell(listener, event)
            self._ask_scheduled()
            self._changed.notify_all()

    def _tell(self, listener: Listener, event: Event) -> None:
        """Call a listener; what goes wrong there must not stop the reader or the engine."""
        try:
            listener(event)
        except Exception:
            logging.getLogger(__name__).exception("a listener failed and will not be called again")
            if listener in self._listeners:
                self._listeners.remove(listener)

    def _ask_scheduled(self) -> None:
        """Ask what the stream has reached; cancel what it can no longer reach."""
        progress = self._progress
        reached = [entry for entry in self._scheduled if progress.reached(entry[0])]
        lost = []
        if progress.frames_ended:
            lost = [entry for entry in self._scheduled if entry not in reached]
        # Taken out first: asking and cancelling publish, which comes back here.
        self._scheduled = [e for e in self._scheduled if e not in reached and e not in lost]
        for _, question in reached:
            self._ask_now(question)
        for _, question in lost:
            pts_s = progress.last_pts_s
            reason = NO_FRAME if pts_s is None else f"the stream ended at {pts_s:.1f} s"
            self._cancel_unasked(question, reason)

    def _ask_now(self, question: Question) -> None:
        """Hand a scheduled question to the engine; its waiting starts now."""
        now = self._clock()
        moved = None
        if question.deadline_s is not None:
            moved = question.deadline_s + now - question.asked_s
        question = replace(question, asked_s=now, deadline_s=moved)
        try:
            self._engine.ask(question, reserved=True)
        except QuestionRefusedError as error:
            self._publish(unstarted(question, AnswerStatus.FAILED, str(error), now))

    def _cancel_unasked(self, question: Question, reason: str) -> None:
        self._engine.release()
        self._publish(unstarted(question, AnswerStatus.CANCELLED, reason, self._clock()))

    def _overwritten(self, scheduled: ScheduledFrame) -> None:
        frame = scheduled.frame
        self._publish(
            FrameDropped(
                self._config.name, frame.seq, scheduled.tick, frame.pts_s, DropReason.OVERRUN
            )
        )
