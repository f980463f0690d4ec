"""An engine stepped by hand on made frames: for benchmarks that need no pace and no threads."""

from collections.abc import Callable

import numpy as np

from model.checkpoint import LoadedModel
from sources.frame import VideoFrame
from stream.buffer import FrameBuffer, FullPolicy, ScheduledFrame
from stream.engine import Engine, EngineConfig
from stream.events import AnswerDone, Event

STREAM = "benchmark"
WIDTH, HEIGHT = 640, 360
PICTURE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


class HandDriven:
    """One stream whose frames are given one by one.

    `answers` collects what ended; `clock` is the engine's.
    """

    def __init__(self, model: LoadedModel, max_answers: int, clock: Callable[[], float]) -> None:
        config = EngineConfig(
            frame_tokens=model.frame_tokens,
            grid=model.grid,
            max_answers=max_answers,
            max_questions=max_answers,
        )
        self.engine = Engine(model, config, clock)
        self.answers: list[AnswerDone] = []
        self.frames = 0
        self._clock = clock
        self._buffer = FrameBuffer(
            1, FullPolicy.WAIT, on_drop=lambda _: None, on_change=lambda: None
        )
        self.engine.open_stream(STREAM, self._buffer, self._record)

    def give_frame(self) -> None:
        """Put the next frame of moving noise, at 25 frames a second of stream time."""
        frame = VideoFrame(
            image=np.roll(PICTURE, 4 * self.frames, 1),
            seq=self.frames,
            pts_s=self.frames / 25,
            arrived_s=self._clock(),
            decode_s=0.0,
        )
        self._buffer.put(ScheduledFrame(frame, self.frames, None))
        self.frames += 1

    def _record(self, event: Event) -> None:
        if isinstance(event, AnswerDone):
            self.answers.append(event)
