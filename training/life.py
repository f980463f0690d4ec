"""The life of one training stream: its world, its pieces, and what is asked at every frame."""

import math
import random
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from training.asking import LEEWAY, Asked, Asking
from training.world import NOTHING_TOLD, World, WorldStyle
from training.world_scene import Scene

# Early on streams are short, slow and eventful: many things are seen, little must be remembered.
EARLY, EARLY_FPS = 0.12, 5.0
LATEST_START_S = 7200.0
# From which frame on one is asked after the recurrent state was zeroed.
WIPED_FRAMES = 16
MAX_CAST = 24


@dataclass(frozen=True, slots=True)
class DataConfig:
    """What a batch holds, and how long streams live.

    Attributes:
        streams, frames: of one batch; each frame is asked `questions` questions.
        short, long: tokens of a question's row; `dialogues` moments a stream get a long row, for
            which the asker's earlier turns are put before the question.
        fps: frame rates, drawn evenly; slow ones more often, for their lives have fewer pieces.
        lives_s: the shortest and the longest life of a stream, in seconds, drawn log-evenly.
        recall: in how many pieces of a life, beside its last one, one asks for what stays true.
        wiped: how many pieces there are more, at the ends of lives, with the state zeroed.
        memory_share: how many questions are about what is gone, at the start and in the end.
        ramp: between which shares of the training the memory questions come in.
    """

    streams: int = 8
    frames: int = 64
    questions: int = 3
    short: int = 48
    long: int = 128
    dialogues: int = 8
    fps: tuple[float, ...] = (*[2.0] * 7, *[3.0] * 2, *[5.0] * 4, 8.0, 8.0, 12.0, 12.0, 25.0)
    lives_s: tuple[float, float] = (8.0, 240.0)
    recall: float = 0.3
    wiped: float = 0.05
    memory_share: tuple[float, float] = (0.2, 0.8)
    ramp: tuple[float, float] = (0.03, 0.25)


class Piece(NamedTuple):
    """Frames that follow each other, their times, and at its moments what can be recollected.

    wiped: the recurrent state is to be zeroed before them.
    """

    wiped: bool
    scenes: list[Scene]
    times_s: list[float]
    short: list[Asked]
    long: list[Asked]
    recollected: list[list[tuple[float, ...]]]


class Life:
    """One stream: its world, its questions so far, and how many pieces it has left."""

    def __init__(self, config: DataConfig, asking: Asking, rng: random.Random, early: bool) -> None:
        fps = rng.choice([fps for fps in config.fps if not early or fps <= EARLY_FPS])
        shortest, longest = map(math.log, config.lives_s)
        life = math.ceil(math.exp(rng.uniform(shortest, longest)) * fps / config.frames)
        # A piece more, in which one has just begun to watch: what is there can be told without what
        # was remembered, and what is told of the past is what has been seen since, not a guess.
        self._wiped = not early and rng.random() < config.wiped * life
        self.pieces = 1 if early else life + self._wiped
        self.world = World(rng.getrandbits(48), fps, draw_style(rng, fps, early), LEEWAY)
        self._start_s = draw_start(rng)
        self._config, self._asking, self._rng = config, asking, rng
        self._turns: list[Asked] = []

    def piece(self, memory_share: float) -> "Piece":
        """The next frames and questions.

        What stays true of a stream is asked in its last piece and in few others. Asked in every
        piece, it would be learned by heart, step after step, and not be read from what the stream
        remembers.
        """
        config, world, asking = self._config, self.world, self._asking
        every = config.frames // config.dialogues
        self.pieces -= 1
        wiped = self._wiped and self.pieces == 0
        piece = Piece(wiped, [], [], [], [], [])
        lasting = self.pieces <= self._wiped or self._rng.random() < config.recall
        share = memory_share if lasting else memory_share / 3
        if wiped:
            share = memory_share / 2
        ask = partial(asking.ask, world, self._rng, share, lasting=lasting)
        for frame in range(config.frames):
            # Until then the window still shows what was there before.
            world.unclear = wiped and frame < WIPED_FRAMES
            piece.scenes.append(world.advance())
            piece.times_s.append(self._start_s + world.now)
            if wiped and frame == 0:
                world.forget()
                self._turns = []
            piece.short.extend(ask(config.short) for _ in range(config.questions))
            if (frame + 1) % every == 0:
                piece.long.append(ask(config.long, turns=self._turns))
                names = world.casting.class_of if lasting and not world.unclear else ()
                told = [world.recollect(name) for name in names]
                piece.recollected.append(told + [NOTHING_TOLD] * (MAX_CAST - len(told)))
            self._remember(piece.short[-1])
        return piece

    def _remember(self, asked: Asked) -> None:
        if asked.question and self._rng.random() < 0.3:
            self._turns = [*self._turns, asked][-8:]


def draw_start(rng: random.Random) -> float:
    """How late on its clock a stream begins, in seconds.

    What a question is from a picture's rows and columns grows with the stream (model/rope.py), far
    beyond what a few pieces could show.
    """
    return 0.0 if rng.random() < 0.4 else math.exp(rng.uniform(0.0, math.log(LATEST_START_S)))


def draw_style(rng: random.Random, fps: float, early: bool) -> WorldStyle:
    """How a world of the training is; early on much happens, before many backgrounds."""
    slowest = 1.0 if early else 4.0 if fps <= 5 else 2.0
    return WorldStyle(
        clutter=rng.choice((0, 1, 2, 2)),
        photo_share=rng.uniform(0.2, 0.8),
        pace=math.exp(rng.uniform(math.log(0.6), math.log(slowest))),
        change_rate=rng.choice((1.0, 3.0, 8.0)),
        cast=rng.choice((8, 12, 16, 16, 24)),
        cut_rate=4.0 if early else rng.choice((1.0, 2.0, 4.0)),
        temper=0.8,
        dye=rng.choice((0.0, 0.3)),
        looks=0.4,
    )
