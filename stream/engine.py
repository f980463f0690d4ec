"""The one thread that owns the device.

It loops: take commands, take at most one frame a stream, step. A step serves frames first, then
a slice of new questions' text, then one token for every answer under way, so watching never stops
while answering. Other threads only touch the bounded buffers and the inbox.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch

from model.checkpoint import LoadedModel
from model.preprocess import fit_grid
from model.state import ContextFullError
from stream.answers import Answers, StreamView
from stream.buffer import FrameBuffer, ScheduledFrame
from stream.events import (
    AnswerDone,
    AnswerStatus,
    DropReason,
    Event,
    FrameDone,
    FrameDropped,
    SourceCondition,
    SourceState,
)
from stream.question import Question, QuestionRefusedError

Publish = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Sizes, all fixed when the engine is made.

    Attributes:
        frame_tokens: the most image tokens a frame becomes.
        grid: rows and columns of image tokens for every frame; None to fit each picture's shape.
        max_streams, max_answers: slots; a question beyond them waits.
        max_questions: open questions in all; one more is refused.
        max_context: tokens that full-attention layers remember; None for the checkpoint's own.
    """

    frame_tokens: int
    grid: tuple[int, int] | None = None
    max_streams: int = 1
    max_answers: int = 4
    max_questions: int = 32
    max_context: int | None = None


@dataclass(slots=True, eq=False)
class Stream:
    """A stream the engine watches; `open` is guarded by the engine's lock."""

    name: str
    slot: int
    buffer: FrameBuffer
    publish: Publish
    open: bool = True
    view: StreamView | None = None


@dataclass(frozen=True, slots=True)
class OpenStream:
    stream: Stream


@dataclass(frozen=True, slots=True)
class CloseStream:
    stream: Stream
    reason: str


@dataclass(frozen=True, slots=True)
class CancelQuestion:
    question_id: int


Command = OpenStream | CloseStream | Question | CancelQuestion
Due = tuple[Stream, ScheduledFrame]


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
        self._answers = Answers(model, self.pool, answer_slots, self._publish_answer, clock)
        self._streams: dict[str, Stream] = {}
        self._changed = threading.Condition()
        self._inbox: deque[Command] = deque()
        self._open_questions = 0
        self._awake = False
        self._closed = False

    def open_stream(self, name: str, buffer: FrameBuffer, publish: Publish) -> None:
        """Watch the frames of a buffer from now on; events go to `publish`, on this thread.

        Raises:
            ValueError: the name is taken or no slot is free.
        """
        with self._changed:
            if name in self._streams:
                raise ValueError(f"there is a stream named {name!r} already")
            if not self._stream_slots:
                raise ValueError(f"all {self._config.max_streams} stream slots are taken")
            stream = Stream(name, self._stream_slots.pop(0), buffer, publish)
            self._streams[name] = stream
            self._send(OpenStream(stream))

    def close_stream(self, name: str, reason: str) -> None:
        """Stop watching: cancel the stream's questions and free its slot."""
        with self._changed:
            stream = self._streams.get(name)
            if stream is not None and stream.open:
                stream.open = False
                self._send(CloseStream(stream, reason))

    def ask(self, question: Question) -> None:
        """Accept a question.

        Raises:
            QuestionRefusedError: the stream is not open, or too many questions are.
        """
        with self._changed:
            stream = self._streams.get(question.stream)
            if self._closed or stream is None or not stream.open:
                raise QuestionRefusedError(f"there is no open stream {question.stream!r}")
            if self._open_questions >= self._config.max_questions:
                raise QuestionRefusedError(
                    f"{self._open_questions} questions are open, which is the limit; "
                    "ask again when one has been answered"
                )
            self._open_questions += 1
            self._send(question)

    def cancel(self, question_id: int) -> None:
        """Cancel a question; nothing happens if it has ended already."""
        with self._changed:
            self._send(CancelQuestion(question_id))

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
                        self._changed.wait_for(lambda: self._awake or self._closed, timeout=0.5)
                        self._awake = False
        except Exception as error:
            reason, status = f"{type(error).__name__}: {error}", AnswerStatus.FAILED
            raise
        finally:
            self._shut_down(reason, status)

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
        streams = list(self._streams.values())
        due = [(s, frame) for s in streams if s.open and (frame := s.buffer.take()) is not None]
        for batch in _same_shape(due):
            self._append_frames(batch)
        views = {s.name: s.view for s in streams if s.view is not None}
        return self._answers.step(views) or bool(due)

    def _obey(self, command: Command) -> None:
        match command:
            case OpenStream(stream):
                self._vlm.start_stream(stream.slot, self.pool)
            case CloseStream(stream, reason):
                self._end_stream(stream, AnswerStatus.CANCELLED, reason)
                with self._changed:
                    del self._streams[stream.name]
                    self._stream_slots.append(stream.slot)
            case Question():
                self._answers.add(command)
            case CancelQuestion(question_id):
                self._answers.cancel(question_id, "cancelled by the asker")

    def _append_frames(self, batch: list[Due]) -> None:
        """Let streams see one frame each; all pictures have one shape."""
        taken_s = last_s = self._clock()
        stages: dict[str, float] = {}

        def mark(stage: str) -> None:
            nonlocal last_s
            if self._vlm.device.type == "cuda":
                torch.cuda.synchronize()
            now_s = self._clock()
            stages[stage], last_s = now_s - last_s, now_s

        device = self._vlm.device
        frames = [scheduled.frame for _, scheduled in batch]
        height, width = frames[0].image.shape[:2]
        grid = self._config.grid or fit_grid(height, width, self._config.frame_tokens)
        images = torch.stack([torch.from_numpy(frame.image) for frame in frames]).to(device)
        times_s = torch.tensor([f.pts_s for f in frames], dtype=torch.float64, device=device)
        slots = torch.tensor([stream.slot for stream, _ in batch], device=device)
        try:
            self._vlm.append_frames(images, times_s, slots, self.pool, grid, mark)
        except Exception as error:
            for stream, scheduled in batch:
                self._drop(stream, scheduled, DropReason.FAILED)
                if isinstance(error, ContextFullError):
                    self._fail_stream(stream, str(error))
            if not isinstance(error, ContextFullError):
                raise
            return
        for stream, scheduled in batch:
            wait_s = taken_s - scheduled.frame.arrived_s
            own = {"decode": scheduled.frame.decode_s, "wait": wait_s}
            self._frame_done(stream, scheduled, last_s, own | stages)

    def _frame_done(
        self, stream: Stream, scheduled: ScheduledFrame, done_s: float, stages_s: dict[str, float]
    ) -> None:
        frame = scheduled.frame
        stream.view = StreamView(
            slot=stream.slot,
            num_frames=1 if stream.view is None else stream.view.num_frames + 1,
            last_seq=frame.seq,
            last_pts_s=frame.pts_s,
            last_arrived_s=frame.arrived_s,
        )
        stream.publish(
            FrameDone(
                stream=stream.name,
                seq=frame.seq,
                tick=scheduled.tick,
                pts_s=frame.pts_s,
                due_s=scheduled.due_s,
                arrived_s=frame.arrived_s,
                done_s=done_s,
                stages_s=stages_s,
            )
        )

    def _fail_stream(self, stream: Stream, reason: str) -> None:
        """Stop watching a stream that cannot go on, and say why; others are not touched."""
        with self._changed:
            stream.open = False
        self._end_stream(stream, AnswerStatus.FAILED, reason)
        stream.publish(SourceState(stream.name, SourceCondition.FAILED, reason, self._clock()))

    def _end_stream(self, stream: Stream, status: AnswerStatus, reason: str) -> None:
        """Account for the frames and questions that a stream leaves behind."""
        stream.buffer.close()
        while (scheduled := stream.buffer.take()) is not None:
            self._drop(stream, scheduled, DropReason.CLOSED)
        self._answers.end_stream(stream.name, status, reason)

    def _drop(self, stream: Stream, scheduled: ScheduledFrame, reason: DropReason) -> None:
        frame = scheduled.frame
        stream.publish(FrameDropped(stream.name, frame.seq, scheduled.tick, frame.pts_s, reason))

    def _shut_down(self, reason: str, status: AnswerStatus) -> None:
        with self._changed:
            self._closed = True
        for command in self._inbox:
            if isinstance(command, Question):
                self._answers.add(command)
        for stream in self._streams.values():
            self._end_stream(stream, status, reason)
            if status is AnswerStatus.FAILED:
                state = SourceState(stream.name, SourceCondition.FAILED, reason, self._clock())
                stream.publish(state)

    def _publish_answer(self, event: Event) -> None:
        """To the stream it belongs to; an answer that ends makes room for another question."""
        if isinstance(event, AnswerDone):
            with self._changed:
                self._open_questions -= 1
        self._streams[event.stream].publish(event)

    def _send(self, command: Command) -> None:
        """Put a command into the inbox; the caller holds the lock."""
        self._inbox.append(command)
        self._awake = True
        self._changed.notify_all()


def _same_shape(due: list[Due]) -> list[list[Due]]:
    """Frames that can be stacked together."""
    groups: dict[tuple[int, ...], list[Due]] = {}
    for stream, scheduled in due:
        groups.setdefault(scheduled.frame.image.shape, []).append((stream, scheduled))
    return list(groups.values())
