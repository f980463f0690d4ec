"""A tiny model, a clock and a source that do as they are told, and an engine stepped by hand."""

import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch

from model.checkpoint import LoadedModel
from model.config import InfiniteVLConfig, VisionConfig
from model.presets import TINY_SPECIAL_IDS
from model.tokenizer import IM_END, VISION_END, byte_tokenizer
from model.weights import random_weights
from sources.frame import SourceInfo, SourceItem, VideoFrame
from stream.buffer import FrameBuffer, FullPolicy, ScheduledFrame
from stream.dialogues import Turn
from stream.engine import Engine, EngineConfig
from stream.events import AnswerDelta, AnswerDone, Event
from stream.question import Question, SamplingParams

E = TypeVar("E")

STOP_ID = TINY_SPECIAL_IDS[IM_END]
FRAME_TOKENS = 4
PATIENCE_S = 30.0  # how long a test waits for a thread before it fails

MINI = InfiniteVLConfig(
    vision=VisionConfig(
        depth=2,
        hidden_size=32,
        intermediate_size=64,
        num_heads=2,
        out_hidden_size=32,
        full_attention_blocks=(1,),
    ),
    vocab_size=300,
    hidden_size=32,
    intermediate_size=64,
    layer_types=("sliding_attention", "linear_attention", "linear_attention"),
    num_attention_heads=4,
    num_key_value_heads=2,
    mrope_section=(2, 1, 1),
    sliding_window=32,
    num_linear_heads=2,
    linear_head_dim=8,
    linear_value_dim=16,
    vision_start_token_id=TINY_SPECIAL_IDS["<|vision_start|>"],
    vision_end_token_id=TINY_SPECIAL_IDS[VISION_END],
)
FULL = replace(MINI, layer_types=("full_attention", "linear_attention", "sliding_attention"))


@lru_cache(maxsize=4)
def loaded(config: InfiniteVLConfig = MINI) -> LoadedModel:
    """A model of some ten thousand weights, large enough for what it saw to change its answers."""
    vlm = random_weights(config, seed=3)
    with torch.no_grad():
        for name, parameter in vlm.named_parameters():
            if parameter.ndim == 2 and "embed" not in name:
                parameter.mul_(6.0)
    vlm.visual.patch_embed.fold()
    tokenizer = byte_tokenizer(config.vocab_size, TINY_SPECIAL_IDS)
    return LoadedModel(vlm, tokenizer, "mini", trained=False, frame_tokens=FRAME_TOKENS)


class FakeClock:
    """Stands still until it is moved."""

    def __init__(self, now_s: float = 100.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds

    def wait(self, seconds: float) -> bool:
        """Sleep at once; never interrupted."""
        self.now_s += seconds
        return False


class Events(list[Event]):
    """A listener that keeps what it is told, then passes it on to `then` if that is set.

    May be watched from another thread.
    """

    def __init__(self) -> None:
        super().__init__()
        self.then: Callable[[Event], None] | None = None
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._changed:
            self.append(event)
            self._changed.notify_all()
        if self.then is not None:
            self.then(event)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in list(self) if isinstance(event, kind)]

    def ends(self) -> dict[int, AnswerDone]:
        """How each question ended; fails if one ended twice."""
        done = self.of(AnswerDone)
        by_id = {event.question_id: event for event in done}
        assert len(by_id) == len(done)
        return by_id

    def text(self, question_id: int) -> str:
        """The joined deltas of a question; fails if they are not numbered from 0."""
        deltas = [e for e in self.of(AnswerDelta) if e.question_id == question_id]
        assert [e.index for e in deltas] == list(range(len(deltas)))
        return "".join(e.text for e in deltas)

    def wait_for(self, happened: Callable[[], bool]) -> bool:
        with self._changed:
            return self._changed.wait_for(happened, PATIENCE_S)


def picture(seq: int, height: int = 56, width: int = 56) -> np.ndarray:
    """A picture of noise that is the same for the same number."""
    random = np.random.default_rng(seq)
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


def video_frame(
    seq: int,
    pts_s: float | None = None,
    arrived_s: float = 100.0,
    shape: tuple[int, int] = (56, 56),
    epoch: int = 0,
) -> VideoFrame:
    pts_s = seq / 25 if pts_s is None else pts_s
    return VideoFrame(picture(seq, *shape), seq, pts_s, arrived_s, 0.001, epoch)


class ScriptedSource:
    """Gives what it was given and raises the errors, in order; then ends or holds on."""

    def __init__(
        self,
        items: Iterable[SourceItem | Exception],
        *,
        live: bool = False,
        holds: bool = False,
    ) -> None:
        """Prepare.

        Args:
            holds: after the last item block until closed, as a silent camera does.
        """
        self._items = deque(items)
        self._holds = holds
        self.closed = threading.Event()
        self._info = SourceInfo("scripted", live, 56, 56, 25.0)

    @property
    def info(self) -> SourceInfo:
        return self._info

    def read(self) -> SourceItem | None:
        if self.closed.is_set():
            return None
        if not self._items:
            if self._holds:
                self.closed.wait(PATIENCE_S)
            return None
        item = self._items.popleft()
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        self.closed.set()


def scripted(count: int, *, live: bool = False, holds: bool = False) -> ScriptedSource:
    return ScriptedSource(map(video_frame, range(count)), live=live, holds=holds)


class HandEngine:
    """An engine without a thread, streams that are given their frames one by one, and a clock."""

    def __init__(
        self,
        *streams: str,
        config: InfiniteVLConfig = MINI,
        reset_on_gap: bool = False,
        **engine_config: int | None,
    ) -> None:
        self.clock = FakeClock()
        self.model = loaded(config)
        self.engine = Engine(
            self.model,
            EngineConfig(FRAME_TOKENS, max_streams=max(1, len(streams)), **engine_config),  # type: ignore[arg-type]
            self.clock,
        )
        self.events: dict[str, Events] = {}
        self.buffers: dict[str, FrameBuffer] = {}
        self._seqs: dict[str, int] = {}
        self._next_id = 1
        self._reset_on_gap = reset_on_gap
        self._epoch = 0
        for name in streams:
            self.open(name)

    def open(self, name: str) -> None:
        self.events[name] = Events()
        self._seqs[name] = 0
        self.buffers[name] = FrameBuffer(
            4, FullPolicy.WAIT, on_drop=lambda _: None, on_change=self.engine.wake
        )
        self.engine.open_stream(
            name, self.buffers[name], self.events[name], reset_on_gap=self._reset_on_gap
        )

    def lose_source(self) -> None:
        """From now on frames are of a source that was lost and found again."""
        self._epoch += 1

    def frame(self, name: str = "a", shape: tuple[int, int] = (56, 56)) -> None:
        seq = self._seqs[name]
        self._seqs[name] += 1
        frame = video_frame(seq, arrived_s=self.clock(), shape=shape, epoch=self._epoch)
        assert self.buffers[name].put(ScheduledFrame(frame, seq, None))

    def see(self, name: str = "a", count: int = 1, shape: tuple[int, int] = (56, 56)) -> None:
        """Let a stream see frames, a step each."""
        for _ in range(count):
            self.frame(name, shape)
            self.engine.step()

    def ask(
        self,
        text: str = "What?",
        *,
        stream: str = "a",
        asker: str = "local",
        deadline_s: float | None = None,
        turns: tuple[Turn, ...] | None = None,
        **sampling: float,
    ) -> int:
        sampling.setdefault("max_tokens", 5)
        number = self._next_id
        question = Question(
            number,
            stream,
            asker,
            text,
            self.clock(),
            deadline_s,
            SamplingParams(**sampling),  # type: ignore[arg-type]
            turns,
        )
        self.engine.ask(question)
        self._next_id += 1
        return number

    def run_dry(self, most: int = 1000) -> int:
        """Step until there is nothing to do; the number of steps that did something."""
        for number in range(most):
            if not self.engine.step():
                return number
        raise AssertionError(f"still busy after {most} steps")

    def step_until(self, happened: Callable[[], bool], most: int = 1000) -> None:
        for _ in range(most):
            if happened():
                return
            self.engine.step()
        raise AssertionError(f"did not happen within {most} steps")


def slot_tensors(engine: Engine, slot: int) -> list[torch.Tensor]:
    """Copies of everything that a slot remembers."""
    return [tensor[slot].clone() for tensor in engine.pool.tensors()]


@contextmanager
def running(engine: Engine) -> Iterator[threading.Thread]:
    """An engine on a thread of its own; fails if the thread does not end when it is closed."""
    thread = threading.Thread(target=engine.run, name="engine under test", daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        engine.close()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()


def rest(line: socket.socket) -> bytes:
    """All that comes until the server hangs up; raises TimeoutError if it never does."""
    line.settimeout(PATIENCE_S)
    heard = b""
    # It may hang up on what it has not read.
    with suppress(ConnectionResetError):
        while data := line.recv(1 << 16):
            heard += data
    return heard
