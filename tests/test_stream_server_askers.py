"""Eight clients ask one stream at once: all are answered, none hears another, the stream no one."""

import asyncio
import time
from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
import torch

from model.state import StatePool
from stream.client import Client
from stream.events import AnswerDone, Event, FrameDone
from tests.stream_helpers import MINI, PATIENCE_S, loaded, slot_tensors
from tests.test_stream_server import Served, run, serving
from tests.test_stream_server_faults import Hubbub

NAMES = ("Anna", "Boris", "Chiara", "Derya", "Emeka", "Fumiko", "Goran", "Hanna")
# Room for a dialogue: a prompt has half a window.
ROOMY = loaded(replace(MINI, sliding_window=1024))
STREAM_SLOT = 1


class Prompts:
    """The ids that the model reads of every question, from the fork of its slot on.

    A prompt is read in slices, which have lengths; the tokens of an answer have none.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read: list[list[int]] = []
        self._by_slot: dict[int, list[int]] = defaultdict(list)
        copy, append = StatePool.copy, ROOMY.vlm.append_text

        def spy_copy(pool: StatePool, source: int, target: int) -> None:
            self._by_slot[target] = []
            self.read.append(self._by_slot[target])
            copy(pool, source, target)

        def spy_append(ids: Any, slots: Any, pool: Any, lengths: Any = None) -> Any:
            for row, slot in enumerate(() if lengths is None else slots.tolist()):
                self._by_slot[slot] += ids[row, : lengths[row]].tolist()
            return append(ids, slots, pool, lengths)

        monkeypatch.setattr(StatePool, "copy", spy_copy)
        monkeypatch.setattr(ROOMY.vlm, "append_text", spy_append)

    def texts(self) -> list[str]:
        return ["".join(map(ROOMY.tokenizer.detokenizer().push, ids)) for ids in self.read]


def test_eight_contradict_each_other_and_nobody_is_told_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each says another name is the asker's own; what is read of a client's is its own alone."""
    prompts = Prompts(monkeypatch)
    due: list[list[int]] = []

    async def one(served: Served, name: str, together: asyncio.Barrier) -> None:
        dialogue: list[tuple[str, str]] = []
        async with Client(served.url) as client:
            for text in (f"My name is {name}.", "What is my name?"):
                due.append(ROOMY.tokenizer.question_prompt(text, dialogue))
                await together.wait()
                answer = await client.ask(text, stream="cam", max_tokens=6)
                dialogue.append((text, await answer.text()))
                assert answer.done is not None and answer.done.tokens > 0
                assert answer.done.status in ("completed", "incomplete")

    async def all_at_once(served: Served) -> None:
        together = asyncio.Barrier(len(NAMES))
        await asyncio.gather(*(one(served, name, together) for name in NAMES))

    with serving(model=ROOMY) as served:
        run(all_at_once(served))
    assert len(due) == 2 * len(NAMES) and sorted(prompts.read) == sorted(due)
    for text in prompts.texts():
        assert sum(name in text for name in NAMES) == 1
    assert sum("What is my name?" in text for text in prompts.texts()) == len(NAMES)


def watched(num_askers: int, frames: int = 200) -> tuple[list[torch.Tensor], list[AnswerDone]]:
    """All that a stream remembers after so many frames, and how the questions ended."""
    hubbub = Hubbub(frames=frames)
    seen: list[Event] = []
    done: list[AnswerDone] = []

    def hear(event: Event) -> None:
        if isinstance(event, FrameDone) and event.stream == "cam":
            seen.append(event)
        elif isinstance(event, AnswerDone):
            done.append(event)

    hubbub.registry.subscribe(hear)
    askers = [hubbub.hub.connect() for _ in range(num_askers)]
    until_s = time.monotonic() + PATIENCE_S
    while len(seen) < frames and time.monotonic() < until_s:
        hubbub.engine.step()
        if len(seen) == 3:
            while askers:
                hubbub.ask(askers.pop(), "q1", max_tokens=8)
    remembered = slot_tensors(hubbub.engine, STREAM_SLOT)
    hubbub.close()
    assert len(seen) == frames
    return remembered, done


def test_a_stream_remembers_the_same_bits_with_eight_askers_as_with_none() -> None:
    alone, nobody = watched(0)
    asked, done = watched(8)
    assert not nobody and len(done) == 8
    # They were answered between its frames, not before or after them.
    assert all(end.num_tokens > 0 and 3 <= end.num_frames < 200 for end in done)
    assert any(tensor.count_nonzero() for tensor in alone)
    assert all(map(torch.equal, alone, asked))
    fewer, _ = watched(0, frames=5)
    assert not all(map(torch.equal, alone, fewer))
