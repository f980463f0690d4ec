"""The one thread that owns the device.

It loops: take commands, take at most one frame a stream, step. A step serves frames first, then
a slice of new questions' text, then one token for every answer under way, so watching never stops
while answering. Other threads only touch the bounded buffers and the inbox.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from model.checkpoint import LoadedModel
from sources.frame import Image
from stream.answers import Answers, unstarted
from stream.buffer import FrameBuffer, Staged
from stream.capacity import check_capacity, rate_left
from stream.commands import CancelQuestion, CloseStream, Command, OpenStream, Publish, Stream
from stream.events import (
    AnswerDone,
    AnswerStatus,
    DropReason,
    Event,
    SourceCondition,
    SourceState,
)
from stream.frames import Frames
from stream.graphs import make_steps
from stream.monitor import MonitorReport
from stream.question import Question, QuestionRefusedError, TooManyQuestionsError
from stream.slack import Slack
from stream.steps import Riders

# How long the engine sleeps if nothing wakes it.
IDLE_S = 0.5
NO_FRAME = "the stream ended before its first frame"


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Sizes, all fixed when the engine is made.

    Attributes:
        frame_tokens: the most image tokens a frame becomes.
        grid: rows and columns of image tokens for every frame; None to fit each picture's shape.
        max_streams, max_answers: slots; a question beyond them waits.
        max_questions: open questions in all; one more is refused.
        overcommit: let in more streams than the device was measured to hold.
        max_context: tokens that full-attention layers remember; None for the checkpoint's own.
    """

    frame_tokens: int
    grid: tuple[int, int] | None = None
    max_streams: int = 1
    max_answers: int = 4
    max_questions: int = 64
    overcommit: bool = False
    max_context: int | None = None


class Engine:
    """Serves any number of streams and questions with one model.

    `step` may be called by hand (tests do); `run` is the thread's body.
    """

    def __init__(
        self, model: LoadedModel, config: EngineConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._vlm = model.vlm
        self._config = config
        self._clock = clock
        self.pool = model.vlm.new_pool(
            config.max_streams + config.max_answers,
            max_append=config.frame_tokens,
            max_context=config.max_context,
        )
        slots = list(range(1, self.pool.num_slots + 1))
        self._stream_slots = slots[: config.max_streams]
        answer_slots = slots[config.max_streams :]
        self._slack = Slack()
        self._steps = make_steps(
            model.vlm, self.pool, clock, config.max_streams, config.max_answers
        )
        self._frames = Frames(self._steps, config.frame_tokens, config.grid, clock)
        self._answers = Answers(
            model, self.pool, self._steps, answer_slots, self._publish_answer, self._slack, clock
        )
        self._streams: dict[str, Stream] = {}  # names that are taken; guarded by the lock
        self._watched: dict[str, Stream] = {}  # streams that were begun; `step`'s alone
        self._changed = threading.Condition(threading.RLock())
        self._inbox: deque[Command] = deque()
        self._open_questions = 0
        self._awake = False
        self._closed = False

    def check_rates(self, rates: Sequence[float | None]) -> None:
        """Raise ValueError if streams of so many frames a second are more than can be watched.

        A stream alone is always let in: it drops frames, and says so. Nothing is refused where
        steps have not been measured.
        """
        scheduled = [fps for fps in rates if fps is not None]
        if len(scheduled) > 1 and not self._config.overcommit:
            check_capacity(self._steps.frames_s, len(scheduled), max(scheduled))

    def rate_left(self, reports: Sequence[MonitorReport], fps: float) -> float:
        """How many frames a second one more stream may have, at most `fps`."""
        return rate_left(self._steps.frames_s, reports, fps)

    def open_stream(
        self,
        name: str,
        buffer: FrameBuffer,
        publish: Publish,
        *,
        fps: float | None = None,
        reset_on_gap: bool = False,
    ) -> None:
        """Watch the frames of a buffer from now on; events go to `publish`, on this thread.

        Args:
            fps: the rate at which they come; None for no schedule.
            reset_on_gap: forget everything before the first frame of a new epoch.

        Raises:
            ValueError: the name is taken, no slot is free, the engine has closed, or all streams
                together would come faster than they can be watched.
        """
        with self._changed:
            if self._closed:
                raise ValueError("the engine has closed")
            if name in self._streams:
                raise ValueError(f"there is a stream named {name!r} already")
            if not self._stream_slots:
                raise ValueError(f"all {self._config.max_streams} stream slots are taken")
            others = (self._streams[other] for other in self._streams)
            self.check_rates([*(one.fps for one in others if not one.over), fps])
            slot = self._stream_slots.pop(0)
            stream = Stream(name, slot, buffer, publish, reset_on_gap, fps)
            self._streams[name] = stream
            self._send(OpenStream(stream))

    def close_stream(self, name: str, reason: str) -> None:
        """Stop watching: cancel the stream's questions and free its slot."""
        with self._changed:
            stream = self._streams.get(name)
            if stream is not None and not stream.closing:
                stream.closing = True
                self._send(CloseStream(stream, reason))

    def reserve(self) -> None:
        """Make room for a question that will be asked later; `release` or its end gives it back.

        Raises:
            TooManyQuestionsError: too many questions are open.
        """
        with self._changed:
            if self._open_questions >= self._config.max_questions:
                raise TooManyQuestionsError(
                    f"{self._open_questions} questions are open, which is the limit; "
                    "ask again when one has been answered"
                )
            self._open_questions += 1

    def release(self) -> None:
        """Give back the room of a question that will never be asked."""
        with self._changed:
            self._open_questions -= 1

    def ask(self, question: Question, *, reserved: bool = False) -> None:
        """Accept a question.

        Args:
            reserved: its room has been reserved; a refusal gives it back.

        Raises:
            QuestionRefusedError: the stream is not open, or too many questions are.
        """
        with self._changed:
            if not reserved:
                self.reserve()
            stream = self._streams.get(question.stream)
            if self._closed or stream is None or not stream.open:
                self.release()
                raise QuestionRefusedError(f"there is no open stream {question.stream!r}")
            self._send(question)

    def cancel(self, stream: str, question_id: int) -> None:
        """Cancel a question; nothing happens if it has ended already."""
        with self._changed:
            self._send(CancelQuestion(stream, question_id))

    def wake(self) -> None:
        """Something changed: let `run` look."""
        with self._changed:
            self._awake = True
            self._changed.notify_all()

    def run(self) -> None:
        """Step until closed; the thread's body. Whatever ends it, every question gets its end."""
        reason, status = "the engine has closed", AnswerStatus.CANCELLED
        try:
            while not self._closed:
                if not self.step():
                    with self._changed:
                        # Answers may be waiting for a frame that then does not come.
                        left_s = min(IDLE_S, self._slack.left_s(self._clock()))
                        self._changed.wait_for(lambda: self._awake or self._closed, left_s)
                        self._awake = False
        except Exception as error:
            reason, status = f"{type(error).__name__}: {error}", AnswerStatus.FAILED
            raise
        finally:
            self._shut_down(reason, status)

    @torch.inference_mode()
    def warm_up(self, height: int, width: int) -> None:
        """Before anything is due: make ready for pictures of this size.

        What a device compiles, allocates or captures is then there when the first frame comes.
        """
        grid = self._frames.grid_of(height, width)
        self._steps.warm_up(grid, self._config.max_answers, self._config.max_streams)

    def stage(self, image: Image) -> Staged:
        """Make a picture ready for a step; for the threads of the sources, while steps run."""
        return self._frames.stage(image)

    def close(self) -> None:
        """Let `run` return soon; idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @torch.inference_mode()
    def step(self) -> bool:
        """Commands, then frames, then prompts, then a token each; False if there was nothing."""
        while self._inbox:
            self._obey(self._inbox.popleft())
        streams = list(self._watched.values())
        due = [(s, frame) for s in streams if s.open and (frame := s.buffer.take()) is not None]
        riding = self._answers.decoding()[: self._steps.most_riders] if due else []
        riders = Riders([a.next_id or 0 for a in riding], [a.slot for a in riding])
        failed, logits = self._frames.serve(due, riders if riding else None)
        if logits is None:
            riding = []
        else:
            self._answers.take(riding, logits)
        for stream, reason in failed:
            self._fail_stream(stream, reason)
        for stream, scheduled in due:
            self._slack.saw(stream.name, scheduled)
        for stream in streams:
            if stream.view is None and stream.buffer.ended:
                self._answers.end_stream(stream.name, AnswerStatus.CANCELLED, NO_FRAME)
        views = {s.name: s.view for s in streams if s.view is not None}
        return self._answers.step(views, riding, after_frames=bool(due)) or bool(due)

    def _obey(self, command: Command) -> None:
        match command:
            case OpenStream(stream):
                self._watched[stream.name] = stream
                self._steps.start(stream.slot)
            case CloseStream(stream, reason):
                # First, so that whoever waits for the last event can take the name again.
                with self._changed:
                    del self._streams[stream.name]
                    self._stream_slots.append(stream.slot)
                self._end_stream(stream, AnswerStatus.CANCELLED, reason)
                self._slack.forget(stream.name)
                del self._watched[stream.name]
            case Question():
                failure = self._watched[command.stream].failure
                if failure is None:
                    self._answers.add(command)
                else:  # it was accepted while its stream was failing
                    status, now_s = AnswerStatus.FAILED, self._clock()
                    self._publish_answer(unstarted(command, status, failure, now_s))
            case CancelQuestion(name, question_id):
                self._answers.cancel(name, question_id, "cancelled by the asker")

    def _fail_stream(self, stream: Stream, reason: str) -> None:
        """Stop watching a stream that cannot go on, and say why; others are not touched."""
        with self._changed:
            stream.failure = reason
        self._end_stream(stream, AnswerStatus.FAILED, reason)
        self._say_failed(stream, reason)

    def _say_failed(self, stream: Stream, reason: str) -> None:
        now_s, failed = self._clock(), SourceCondition.FAILED
        stream.publish(SourceState(stream.name, failed, reason, now_s, epoch=stream.epoch))

    def _end_stream(self, stream: Stream, status: AnswerStatus, reason: str) -> None:
        """Account for the frames and questions that a stream leaves behind."""
        stream.buffer.close()
        while (scheduled := stream.buffer.take()) is not None:
            stream.drop(scheduled, DropReason.CLOSED)
        self._answers.end_stream(stream.name, status, reason)

    def _shut_down(self, reason: str, status: AnswerStatus) -> None:
        with self._changed:
            self._closed = True
        while self._inbox:  # others may still be adding to it
            match command := self._inbox.popleft():
                case OpenStream(stream):
                    self._watched[stream.name] = stream
                case Question():
                    self._answers.add(command)
        for stream in self._watched.values():
            self._end_stream(stream, status, reason)
            if status is AnswerStatus.FAILED:
                self._say_failed(stream, reason)

    def _publish_answer(self, event: Event) -> None:
        """To the stream it belongs to; an answer that ends makes room for another question."""
        if isinstance(event, AnswerDone):
            self.release()
        self._watched[event.stream].publish(event)

    def _send(self, command: Command) -> None:
        """Put a command into the inbox; the caller holds the lock."""
        self._inbox.append(command)
        self._awake = True
        self._changed.notify_all()
