"""Pieces of many living streams with questions, made on the fly by worker processes.

A worker keeps a few worlds alive and hands out their next frames again and again, so that streams
grow old and what they remember is carried from piece to piece. What it sends is numbers to draw
and token ids, never pictures, so a few workers keep a GPU busy.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from model.tokenizer import ChatTokenizer
from training.asking import ANSWER, LEEWAY, Asked, Asking
from training.nano import GRID, VOCAB_SIZE, nano_config
from training.stream_pass import Branches
from training.world import World, WorldStyle
from training.world_scene import Scene, stack_scenes

IGNORED = -100
# Early on streams are short, slow and eventful: many things are seen, little must be remembered.
EARLY, EARLY_FPS = 0.12, 5.0
LATEST_START_S = 7200.0


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
    memory_share: tuple[float, float] = (0.2, 0.8)
    ramp: tuple[float, float] = (0.03, 0.25)


@dataclass(frozen=True, slots=True)
class Rows:
    """Questions with their answers at n moments of B streams, M at each, T tokens a row.

    branches; first [B, n, M] int64: the last place of the prompt; targets [B, n, M, ANSWER] int64:
    the ids of the answer and of its end, IGNORED after it; kinds [B, n, M] int64: twice the
    number of the family, one more if the evidence is further back than four windows; -1 for a row
    that teaches nothing.
    """

    branches: Branches
    first: Tensor
    targets: Tensor
    kinds: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of one step.

    scenes [B * F, SCENE_SIZE]; times_s [B, F] float64, by the streams' clocks; fresh [B] bool:
    these streams begin; group: whose streams these are, for what they carry; asked: short rows,
    then long ones.
    """

    scenes: Tensor
    times_s: Tensor
    fresh: Tensor
    group: int
    asked: tuple[Rows, ...]

    def tensors(self) -> list[Tensor]:
        """All of them, in a fixed order."""
        own = [self.scenes, self.times_s, self.fresh]
        for rows in self.asked:
            branches = rows.branches
            own += [branches.ids, branches.lengths, rows.first, rows.targets, rows.kinds]
        return own

    def like(self, tensors: list[Tensor]) -> "Batch":
        """Other tensors in the same order."""
        scenes, times_s, fresh, *rows = tensors
        asked = tuple(
            Rows(Branches(*rows[i : i + 2]), *rows[i + 2 : i + 5]) for i in range(0, len(rows), 5)
        )
        return Batch(scenes, times_s, fresh, self.group, asked)


class Life:
    """One stream: its world, its questions so far, and how many pieces it has left."""

    def __init__(self, config: DataConfig, asking: Asking, rng: random.Random, early: bool) -> None:
        fps = rng.choice([fps for fps in config.fps if not early or fps <= EARLY_FPS])
        shortest, longest = map(math.log, config.lives_s)
        life = math.ceil(math.exp(rng.uniform(shortest, longest)) * fps / config.frames)
        self.pieces = 1 if early else life
        self.world = World(rng.getrandbits(48), fps, draw_style(rng, fps, early), LEEWAY)
        self._start_s = draw_start(rng)
        self._config, self._asking, self._rng = config, asking, rng
        self._turns: list[Asked] = []

    def piece(self, memory_share: float) -> tuple[list[Scene], list[float], list[list[Asked]]]:
        """The next frames, their times, and the short and the long rows in their order.

        What stays true of a stream is asked in its last piece and in few others. Asked in every
        piece, it would be learned by heart, step after step, and not be read from what the stream
        remembers.
        """
        config, world, asking = self._config, self.world, self._asking
        scenes: list[Scene] = []
        times_s: list[float] = []
        short: list[Asked] = []
        long: list[Asked] = []
        every = config.frames // config.dialogues
        self.pieces -= 1
        lasting = self.pieces == 0 or self._rng.random() < config.recall
        share = memory_share if lasting else memory_share / 3
        for frame in range(config.frames):
            scenes.append(world.advance())
            times_s.append(self._start_s + world.now)
            for _ in range(config.questions):
                short.append(asking.ask(world, self._rng, share, config.short, lasting=lasting))
            if (frame + 1) % every == 0:
                long.append(
                    asking.ask(world, self._rng, share, config.long, self._turns, lasting=lasting)
                )
            self._remember(short[-1])
        return scenes, times_s, [short, long]

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
    )


class Streams(IterableDataset[Batch]):
    """Endless batches, different in every worker, the same for the same seed.

    Args:
        first, total: the step to begin with, and how many the training has.
    """

    def __init__(
        self, config: DataConfig, tokenizer_file: str, seed: int, first: int, total: int
    ) -> None:
        self._config, self._file, self._seed = config, tokenizer_file, seed
        self._first, self._total = first, total

    def __iter__(self) -> Iterator[Batch]:
        info = torch.utils.data.get_worker_info()
        group, workers = (0, 1) if info is None else (info.id, info.num_workers)
        rng = random.Random(f"{self._seed} {self._first} {group}")
        tokenizer = ChatTokenizer.from_file(Path(self._file), VOCAB_SIZE)
        asking = Asking(tokenizer, window_frames(), self._config.questions)
        lives: list[Life | None] = [None] * self._config.streams
        step = self._first + group
        while True:
            yield self._batch(lives, asking, rng, group, step / self._total)
            step += workers

    def _batch(
        self,
        lives: list[Life | None],
        asking: Asking,
        rng: random.Random,
        group: int,
        progress: float,
    ) -> Batch:
        config = self._config
        share = memory_share(config, progress)
        fresh, scenes, times_s = [], [], []
        rows: list[list[Asked]] = [[], []]
        for b, life in enumerate(lives):
            fresh.append(life is None or life.pieces == 0)
            if life is None or life.pieces == 0:
                life = lives[b] = Life(config, asking, rng, progress < EARLY)
            shown, times, asked = life.piece(share)
            scenes += shown
            times_s.append(times)
            for all_rows, own in zip(rows, asked, strict=True):
                all_rows += own
        B = config.streams
        return Batch(
            scenes=stack_scenes(scenes),
            times_s=torch.tensor(times_s, dtype=torch.float64),
            fresh=torch.tensor(fresh),
            group=group,
            asked=(
                stack_rows(rows[0], (B, config.frames, config.questions), config.short),
                stack_rows(rows[1], (B, config.dialogues, 1), config.long),
            ),
        )


def window_frames() -> int:
    """How many frames the window of the small checkpoint holds."""
    return nano_config().sliding_window // (GRID[0] * GRID[1])


def memory_share(config: DataConfig, progress: float) -> float:
    """How many of the questions are about the past, after a share of the training."""
    start, end = config.ramp
    done = min(max((progress - start) / (end - start), 0.0), 1.0)
    low, high = config.memory_share
    return low + (high - low) * done


def stack_rows(asked: list[Asked], shape: tuple[int, int, int], length: int) -> Rows:
    """Rows of one length in one tensor."""

    def stack(rows: list[list[int]], width: int, fill: int) -> Tensor:
        padded = [row + [fill] * (width - len(row)) for row in rows]
        return torch.tensor(padded).view(*shape, width)

    def numbers(values: list[int]) -> Tensor:
        return torch.tensor(values).view(shape)

    return Rows(
        Branches(stack([a.ids for a in asked], length, 0), numbers([len(a.ids) for a in asked])),
        numbers([a.prompt - 1 for a in asked]),
        stack([a.targets for a in asked], ANSWER, IGNORED),
        numbers([a.kind for a in asked]),
    )


def loader(
    config: DataConfig, tokenizer_file: str, seed: int, first: int, total: int, workers: int
) -> DataLoader[Any]:
    """Batches made ahead of time, from one worker after the other."""
    return DataLoader(
        Streams(config, tokenizer_file, seed, first, total),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=3 if workers else None,
        # To be started before CUDA is: forked workers begin at once.
        multiprocessing_context="fork" if workers else None,
    )
