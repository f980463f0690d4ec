"""Pieces of many living streams with questions, made on the fly by worker processes.

A worker keeps a few worlds alive and hands out their next frames again and again, so that streams
grow old and what they remember is carried from piece to piece. What it sends is numbers to draw
and token ids, never pictures, so a few workers keep a GPU busy.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from model.tokenizer import ChatTokenizer
from training.asking import ANSWER, Asked, Asking
from training.life import EARLY, DataConfig, Life, Piece
from training.nano import GRID, VOCAB_SIZE, nano_config
from training.stream_pass import Branches
from training.world import NOTHING_TOLD, RECOLLECTED
from training.world_scene import stack_scenes

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Rows:
    """Questions with their answers at n moments of B streams, M at each, T tokens a row.

    branches; first [B, n, M] int64: the last place of the prompt; targets [B, n, M, ANSWER] int64:
    the ids of the answer and of its end, IGNORED after it; kinds [B, n, M] int64: twice the
    number of the family, one more if the evidence is further back than four windows; -1 for a row
    that teaches nothing; named [B, n, M, len(RECOLLECTED)] int64: the place in the row of the thing
    that it is about, and what can be recollected of that, UNKNOWN where there is no plain answer.
    """

    branches: Branches
    first: Tensor
    targets: Tensor
    kinds: Tensor
    named: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of one step.

    scenes [B * F, SCENE_SIZE]; times_s [B, F] float64, by the streams' clocks; fresh [B] bool:
    these streams begin; wiped [B] bool: the recurrent states of these are to be zeroed first;
    group: whose streams these are, for what they carry; recollected [B, dialogues, MAX_CAST,
    len(RECOLLECTED)] int64, at the moments of the long rows, UNKNOWN where there is no plain
    answer; asked: short rows, then long ones.
    """

    scenes: Tensor
    times_s: Tensor
    fresh: Tensor
    wiped: Tensor
    group: int
    recollected: Tensor
    asked: tuple[Rows, ...]

    def tensors(self) -> list[Tensor]:
        """All of them, in a fixed order."""
        own = [self.scenes, self.times_s, self.fresh, self.wiped, self.recollected]
        for rows in self.asked:
            branches = rows.branches
            own += [branches.ids, branches.lengths]
            own += [rows.first, rows.targets, rows.kinds, rows.named]
        return own

    def like(self, tensors: list[Tensor]) -> "Batch":
        """Other tensors in the same order."""
        scenes, times_s, fresh, wiped, recollected, *rows = tensors
        asked = tuple(
            Rows(Branches(*rows[i : i + 2]), *rows[i + 2 : i + 6]) for i in range(0, len(rows), 6)
        )
        return Batch(scenes, times_s, fresh, wiped, self.group, recollected, asked)


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
        fresh: list[bool] = []
        pieces: list[Piece] = []
        for b, life in enumerate(lives):
            fresh.append(life is None or life.pieces == 0)
            if life is None or life.pieces == 0:
                life = lives[b] = Life(config, asking, rng, progress < EARLY)
            pieces.append(life.piece(share))
        B = config.streams
        scenes = [scene for piece in pieces for scene in piece.scenes]
        short = [asked for piece in pieces for asked in piece.short]
        long = [asked for piece in pieces for asked in piece.long]
        return Batch(
            scenes=stack_scenes(scenes),
            times_s=torch.tensor([p.times_s for p in pieces], dtype=torch.float64),
            fresh=torch.tensor(fresh),
            wiped=torch.tensor([p.wiped for p in pieces]),
            group=group,
            recollected=torch.tensor([p.recollected for p in pieces]).long(),
            asked=(
                stack_rows(short, (B, config.frames, config.questions), config.short),
                stack_rows(long, (B, config.dialogues, 1), config.long),
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
        torch.tensor([a.named or NOTHING_TOLD for a in asked])
        .long()
        .view(*shape, len(RECOLLECTED)),
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
