"""Batches of streams with questions, made on the fly by worker processes.

A worker runs worlds frame by frame and asks at chosen moments; what it sends is numbers to draw and
token ids, never pictures, so a few workers keep a GPU busy.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from model.tokenizer import ChatTokenizer
from training.nano import VOCAB_SIZE
from training.questions import FAMILIES, ask
from training.stream_pass import Branches
from training.world import World, WorldStyle
from training.world_scene import Scene, stack_scenes

IGNORED = -100
# What is slowest to learn is asked more often.
HARD = {"number": 3.0, "direction": 3.0, "word": 2.0, "before": 2.0, "after": 2.0, "distinct": 2.0}
# Most moments suit only some families.
TRIES = 8
# A stream may be asked about at any moment of a long life: its time axis starts anywhere.
MAX_OFFSET_S = 20_000


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of the curriculum.

    Attributes:
        steps: optimiser steps.
        streams, frames: of one batch.
        questions: asked of each stream.
        memory_share: how many of them are about what is gone.
        fps: frame rates, drawn evenly.
        style: of the worlds.
    """

    steps: int
    streams: int
    frames: int
    questions: int
    memory_share: float
    fps: tuple[float, ...] = (2.0, 2.0, 5.0, 12.0, 25.0)
    style: WorldStyle = field(default_factory=WorldStyle)


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of one step.

    scenes [B * F, SCENE_SIZE]; times_s [B, F] float64; branches of Q questions of T tokens;
    targets [Q, T] int64: the token that follows, IGNORED outside of the answer.
    """

    scenes: Tensor
    times_s: Tensor
    branches: Branches
    targets: Tensor

    def tensors(self) -> list[Tensor]:
        own = self.branches
        branches = [own.ids, own.lengths, own.stream, own.frame]
        return [self.scenes, self.times_s, self.targets, *branches]

    def to(self, device: torch.device) -> "Batch":
        scenes, times_s, targets, *branches = (
            tensor.to(device, non_blocking=True) for tensor in self.tensors()
        )
        return Batch(scenes, times_s, Branches(*branches), targets)


def encode_pair(
    tokenizer: ChatTokenizer, question: str, answer: str, length: int
) -> tuple[list[int], list[int]] | None:
    """Input ids and targets of a question with its answer; None if longer than `length`."""
    prompt = tokenizer.question_prompt(question)
    ids = prompt + tokenizer.encode(answer)
    targets = [IGNORED] * (len(prompt) - 1) + ids[len(prompt) :] + [tokenizer.im_end_id]
    return None if len(ids) > length else (ids, targets)


class Streams(IterableDataset[Batch]):
    """Endless batches of a phase, different in every worker, the same for the same seed."""

    def __init__(self, phase: Phase, tokenizer_file: str, seed: int, length: int) -> None:
        self._phase, self._file, self._seed, self._length = phase, tokenizer_file, seed, length

    def __iter__(self) -> Iterator[Batch]:
        info = torch.utils.data.get_worker_info()
        rng = random.Random(f"{self._seed} {0 if info is None else info.id}")
        tokenizer = ChatTokenizer.from_file(Path(self._file), VOCAB_SIZE)
        while True:
            yield self._batch(rng, tokenizer)

    def _batch(self, rng: random.Random, tokenizer: ChatTokenizer) -> Batch:
        phase, scenes, times = self._phase, [], []
        ids: list[list[int]] = []
        targets: list[list[int]] = []
        places: list[tuple[int, int]] = []
        for b in range(phase.streams):
            fps = rng.choice(phase.fps)
            start_s = float(rng.randrange(MAX_OFFSET_S) if rng.random() < 0.5 else 0)
            shown, asked = self._stream(rng, fps, tokenizer)
            scenes += shown
            times.append([start_s + f / fps for f in range(phase.frames)])
            for frame, (own_ids, own_targets) in asked:
                ids.append(own_ids)
                targets.append(own_targets)
                places.append((b, frame))
        length = self._length
        return Batch(
            scenes=stack_scenes(scenes),
            times_s=torch.tensor(times, dtype=torch.float64),
            branches=Branches(
                ids=torch.tensor([row + [0] * (length - len(row)) for row in ids]),
                lengths=torch.tensor([len(row) for row in ids]),
                stream=torch.tensor([b for b, _ in places]),
                frame=torch.tensor([f for _, f in places]),
            ),
            targets=torch.tensor([row + [IGNORED] * (length - len(row)) for row in targets]),
        )

    def _stream(
        self, rng: random.Random, fps: float, tokenizer: ChatTokenizer
    ) -> tuple[list[Scene], list[tuple[int, tuple[list[int], list[int]]]]]:
        """A world's scenes, and questions by the frame they come after."""
        phase = self._phase
        world = World(rng.getrandbits(48), fps, phase.style)
        wanted = [0] * phase.frames
        for _ in range(phase.questions):
            wanted[rng.randrange(phase.frames)] += 1
        scenes: list[Scene] = []
        asked: list[tuple[int, tuple[list[int], list[int]]]] = []
        for frame in range(phase.frames):
            scenes.append(world.advance())
            last = frame == phase.frames - 1
            owed = phase.questions - len(asked) if last else wanted[frame]
            for _ in range(owed):
                pair = self._ask(world, rng, tokenizer)
                if pair is not None:
                    asked.append((frame, pair))
                elif not last:
                    wanted[frame + 1] += 1
        while len(asked) < phase.questions:  # nothing could be asked: a row that teaches nothing
            asked.append((phase.frames - 1, ([0], [IGNORED])))
        return scenes, asked

    def _ask(
        self, world: World, rng: random.Random, tokenizer: ChatTokenizer
    ) -> tuple[list[int], list[int]] | None:
        memory = rng.random() < self._phase.memory_share
        families = FAMILIES["memory" if memory else "perception"]
        weights = [HARD.get(name, 1.0) for name in families]
        for family in rng.choices(families, weights, k=TRIES):
            qa = ask(world, rng, family, "train")
            if qa is not None:
                return encode_pair(tokenizer, qa.question, qa.answer, self._length)
        return None


def loader(
    phase: Phase, tokenizer_file: str, seed: int, length: int, workers: int
) -> DataLoader[Any]:
    """Batches ready in page-locked memory, made ahead of time."""
    dataset = Streams(phase, tokenizer_file, seed, length)
    return DataLoader(
        dataset,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="spawn" if workers else None,
    )
