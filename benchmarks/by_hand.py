"""An engine stepped by hand on made frames: for benchmarks that need no pace and no threads."""

from collections.abc import Callable

import torch

from model.checkpoint import LoadedModel, best_dtype, load_model
from sources.frame import VideoFrame
from sources.synthetic import render
from stream.buffer import FrameBuffer, FullPolicy, ScheduledFrame
from stream.engine import Engine, EngineConfig
from stream.events import AnswerDone, Event

STREAM = "benchmark"
WIDTH, HEIGHT = 640, 360


def load(name: str) -> LoadedModel:
    """The model on the GPU if there is one, else on the CPU, in its best dtype."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_model(name, device, best_dtype(device))


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
        """Put the next frame of a moving pattern, at 25 frames a second of stream time."""
        frame = VideoFrame(
            image=render(self.frames, WIDTH, HEIGHT),
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
