"""A room of the exam: some worlds of one frame rate, watched side by side and asked.

Every world has a slot, and a question is a fork of it, as in the engine. Beside it a world may have
a twin: a slot that has seen the same, until its recurrent state was wiped.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from model.checkpoint import LoadedModel
from model.state import DeltaNetState, StatePool
from training.questions import QA, ask, normalise
from training.render_frame import FrameRenderer
from training.world import World, WorldStyle
from training.world_catalogue import Split

MAX_ANSWER = 24
# A question that can be answered without having seen anything.
NEGATIVE = ("no", "nothing", "not ", "zero", "i have not")


@dataclass(frozen=True, slots=True)
class Answered:
    """One question of the exam and what was answered.

    Attributes:
        room: which part of the exam it belongs to.
        at_s: the moment of the stream; windows: how many windows ago the evidence was.
        held_out: whether the world shows pictures that training never did.
        crowded: whether the scene is before a photo and has clutter in it.
        mind: "whole", or what was done to the state: "wiped" or "window only".
        accepted: other right answers.
    """

    room: str
    fps: float
    at_s: float
    family: str
    memory: bool
    yes_no: bool
    distance_s: float
    windows: float
    question: str
    expected: str
    answer: str
    held_out: bool
    crowded: bool
    mind: str = "whole"
    accepted: Sequence[str] = ()

    @property
    def right(self) -> bool:
        return normalise(self.answer) in map(normalise, (self.expected, *self.accepted))

    @property
    def negative(self) -> bool:
        """Whether nothing need be remembered to answer it."""
        return self.expected.lower().startswith(NEGATIVE)


class Room:
    """Worlds in lockstep with their slots; `twins` more slots that see the same frames."""

    def __init__(
        self,
        name: str,
        model: LoadedModel,
        renderer: FrameRenderer,
        worlds: Sequence[World],
        *,
        twins: bool = False,
        max_asked: int = 32,
    ) -> None:
        assert model.grid is not None
        self.name, self.worlds, self.fps = name, worlds, worlds[0].fps
        self._model, self._renderer, self._grid = model, renderer, model.grid
        self._noise = np.random.default_rng(worlds[0].seed)
        n = len(worlds) * (2 if twins else 1)
        self._pool = model.vlm.new_pool(n + max_asked, max_append=model.frame_tokens)
        self._slots = list(range(1, n + 1))
        self._free = list(range(n + 1, n + 1 + max_asked))
        self.window_s = model.vlm.config.sliding_window / model.frame_tokens / self.fps
        for slot in self._slots:
            model.vlm.start_stream(slot, self._pool)

    @property
    def now(self) -> float:
        return self.worlds[0].now

    def watch(self) -> None:
        """All worlds go on by a frame, and all slots see it."""
        frames = [self._renderer.draw(world.advance(), self._noise) for world in self.worlds]
        copies = len(self._slots) // len(self.worlds)
        pictures = torch.from_numpy(np.stack(frames)).repeat(copies, 1, 1, 1)
        times_s = torch.full((len(self._slots),), self.now, dtype=torch.float64)
        self._model.vlm.append_frames(
            pictures, times_s, torch.tensor(self._slots), self._pool, self._grid
        )

    def wipe_twins(self) -> None:
        """Make the twins like their originals, but with nothing in the recurrent states."""
        n = len(self.worlds)
        for original in self._slots[:n]:
            self._pool.copy(original, original + n)
        self.forget(self._slots[n:])

    def wipe_recurrent(self) -> None:
        """Take what the twins' recurrent states hold, and nothing else."""
        self.forget(self._slots[len(self.worlds) :])

    def forget(self, slots: Sequence[int]) -> None:
        for layer in self._pool.layers:
            if isinstance(layer, DeltaNetState):
                layer.recurrent_state[list(slots)] = 0.0

    def ask(self, questions: Sequence[tuple[int, QA]], mind: str = "whole") -> list[Answered]:
        """Answer questions (world number, question) about this moment.

        Args:
            mind: of whom: "whole" asks the slots, anything else their twins.
        """
        answered = []
        size = len(self._free)
        offset = 0 if mind == "whole" else len(self.worlds)
        for start in range(0, len(questions), size):
            part = questions[start : start + size]
            asked = [(self._slots[i + offset], qa.question) for i, qa in part]
            texts = answers(self._model, self._pool, asked, self._free)
            answered += [
                self._result(self.worlds[i], qa, text, mind)
                for (i, qa), text in zip(part, texts, strict=True)
            ]
        return answered

    def _result(self, world: World, qa: QA, text: str, mind: str) -> Answered:
        return Answered(
            room=self.name,
            fps=self.fps,
            at_s=world.now,
            family=qa.family,
            memory=qa.memory,
            yes_no=qa.yes_no,
            distance_s=qa.distance_s,
            windows=qa.distance_s / self.window_s,
            question=qa.question,
            expected=qa.answer,
            answer=text,
            held_out=world.style.split == "exam",
            crowded=world.crowded,
            mind=mind,
        )


def answers(
    model: LoadedModel, pool: StatePool, asked: Sequence[tuple[int, str]], forks: Sequence[int]
) -> list[str]:
    """Greedy answers to (slot, question) in one batch; each question takes one slot of `forks`."""
    tokenizer, vlm = model.tokenizer, model.vlm
    slots = torch.tensor(forks[: len(asked)])
    for (slot, _), fork in zip(asked, slots.tolist(), strict=True):
        pool.copy(slot, fork)
    prompts = [tokenizer.question_prompt(question) for _, question in asked]
    longest = max(map(len, prompts))
    ids = torch.tensor([p + [0] * (longest - len(p)) for p in prompts])
    logits = vlm.append_text(ids, slots, pool, torch.tensor([len(p) for p in prompts]))
    texts, readers = [""] * len(asked), [tokenizer.detokenizer() for _ in asked]
    rows = list(range(len(asked)))
    for _ in range(MAX_ANSWER):
        following = zip(rows, logits.argmax(-1).tolist(), strict=True)
        going_on = [(row, token) for row, token in following if token not in tokenizer.stop_ids]
        if not going_on:
            break
        for row, token in going_on:
            texts[row] += readers[row].push(token)
        rows = [row for row, _ in going_on]
        logits = vlm.decode(torch.tensor([token for _, token in going_on]), slots[rows], pool)
    return texts


class Examiner:
    """Chooses questions in held-out wordings, so that every family is asked as often."""

    def __init__(self, families: Sequence[str], seed: int) -> None:
        self._rng = random.Random(seed)
        self._asked = dict.fromkeys(families, 0)

    @property
    def num_asked(self) -> int:
        return sum(self._asked.values())

    def question(self, world: World, fits: Callable[[QA], bool] | None = None) -> QA | None:
        """What has been asked least of all that fits this moment; some families sit out."""
        ready = [family for family in self._asked if self._rng.random() < 0.6]
        self._rng.shuffle(ready)
        for family in sorted(ready, key=self._asked.__getitem__):
            qa = ask(world, self._rng, family, "heldout")
            if qa is not None and (fits is None or fits(qa)):
                self._asked[family] += 1
                return qa
        return None


def on_one_side(qa: QA, since_s: float) -> bool:
    """Whether a question is about what was seen after a wiping only, or before it only.

    One about both sides would prove nothing.
    """
    if qa.memory:
        return qa.distance_s > since_s + 0.5
    return qa.distance_s < since_s - 0.2


def worlds_of(seed: int, count: int, fps: float, held_out: float, **style: Any) -> list[World]:
    """Worlds of the exam, a share of them with pictures that training never showed."""
    worlds = []
    for n in range(count):
        split: Split = "exam" if n < round(held_out * count) else "train"
        # Training draws 48 bits at random: these seeds are its own by one chance in many million.
        worlds.append(World(seed * 1000 + n, fps, WorldStyle(split=split, **style)))
    return worlds
