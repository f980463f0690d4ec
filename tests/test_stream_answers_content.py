"""What an answer is made of: the frames seen so far, its own dialogue, and no one else's."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from model.tokenizer import ChatTokenizer
from tests.stream_helpers import FRAME_TOKENS, MINI, STOP_ID, HandEngine

Script = Callable[[bytes], None]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Makes the model say given bytes and stop, whatever it is asked; one answer at a time."""

    def script(text: bytes) -> None:
        tokens: Iterator[int] = iter([*text, STOP_ID])
        monkeypatch.setattr("stream.answers.sample", lambda *_: next(tokens))

    return script


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[tuple[str, str]]]]:
    """What prompts were made of: each question with its dialogue."""
    made: list[tuple[str, list[tuple[str, str]]]] = []
    original = ChatTokenizer.question_prompt

    def record(self: ChatTokenizer, question: str, dialogue: Any = ()) -> list[int]:
        made.append((question, list(dialogue)))
        return original(self, question, dialogue)

    monkeypatch.setattr(ChatTokenizer, "question_prompt", record)
    return made


def test_answers_at_once_say_what_each_would_alone() -> None:
    """Four greedy answers made together have the text that each has by itself."""
    texts = ["Who?", "What is it that you see?", "Why", "Where is the red one now?"]

    def answers(together: bool) -> list[str]:
        hand = HandEngine("a", max_answers=4)
        hand.see(count=7)
        ids = []
        for i, text in enumerate(texts):
            ids.append(hand.ask(text, asker=str(i), max_tokens=12))
            if not together:
                hand.run_dry()
        hand.run_dry()
        return [hand.events["a"].ends()[i].answer for i in ids]

    alone = answers(together=False)
    assert answers(together=True) == alone
    assert len(set(alone)) > 1


def test_question_is_about_what_was_seen_when_it_got_its_slot() -> None:
    """An answer names the newest frame it saw and its age, not those that came later."""
    hand = HandEngine("a")
    hand.see(count=3)
    hand.clock.advance(0.5)
    number = hand.ask(max_tokens=4)
    hand.engine.step()
    hand.see(count=5)
    hand.run_dry()
    done = hand.events["a"].ends()[number]
    assert (done.num_frames, done.last_seq, done.last_pts_s) == (3, 2, 2 / 25)
    assert (done.frame_age_s, done.queue_s) == (0.5, 0.0)


def test_times_of_an_answer_count_from_the_asking() -> None:
    """Queue, first token and total are durations since the question was asked."""
    hand = HandEngine("a", max_answers=1)
    hand.see()
    first = hand.ask(max_tokens=3)
    hand.engine.step()
    second = hand.ask(max_tokens=3)
    hand.clock.advance(2.0)
    hand.step_until(lambda: first in hand.events["a"].ends())
    hand.engine.step()
    hand.clock.advance(3.0)
    hand.run_dry()
    done = hand.events["a"].ends()[second]
    assert (done.queue_s, done.time_to_first_token_s, done.total_s) == (2.0, 5.0, 5.0)


def test_prompts_are_read_in_slices_no_longer_than_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """In no step do the new questions bring more tokens than a frame has."""
    hand = HandEngine("a")
    hand.see()
    brought: list[int] = []
    append = hand.model.vlm.append_text

    def count(ids: torch.Tensor, slots: Any, pool: Any, lengths: torch.Tensor | None) -> Any:
        if lengths is not None:
            brought.append(int(lengths.sum()))
        return append(ids, slots, pool, lengths)

    monkeypatch.setattr(hand.model.vlm, "append_text", count)
    texts = ["Who is it?", "And why, if I may ask?"]
    for i, text in enumerate(texts):
        hand.ask(text, asker=str(i))
    hand.run_dry()
    assert max(brought) == FRAME_TOKENS
    assert sum(brought) == sum(len(hand.model.tokenizer.question_prompt(t)) for t in texts)


def test_asker_does_not_see_what_another_asked(
    prompts: list[tuple[str, list[tuple[str, str]]]], say: Script
) -> None:
    """A prompt holds the asker's own dialogue and nothing of anybody else's."""
    roomy = replace(MINI, sliding_window=512)
    hand = HandEngine("a", config=roomy)
    hand.see()
    for asker, text in [("anna", "My secret?"), ("ben", "Hello?"), ("anna", "Again?")]:
        say(f"to {asker}".encode())
        hand.ask(text, asker=asker, max_tokens=50)
        hand.run_dry()
    assert prompts == [
        ("My secret?", []),
        ("Hello?", []),
        ("Again?", [("My secret?", "to anna")]),
    ]


def test_cancelled_question_is_not_part_of_the_dialogue(
    prompts: list[tuple[str, list[tuple[str, str]]]],
) -> None:
    """What was cancelled is not held against the asker's next question."""
    hand = HandEngine("a", config=replace(MINI, sliding_window=512))
    hand.see()
    number = hand.ask("Never mind?", max_tokens=500)
    for _ in range(40):
        hand.engine.step()
    hand.engine.cancel("a", number)
    hand.run_dry()
    hand.ask("Next?")
    hand.run_dry()
    assert prompts[-1] == ("Next?", [])


def test_dialogue_that_the_asker_keeps_stands_in_for_ours(
    say: Script, prompts: list[tuple[str, list[tuple[str, str]]]]
) -> None:
    """What came with the question is before it, and neither is remembered."""
    hand = HandEngine("a", config=replace(MINI, sliding_window=512))
    hand.see()
    given = (("Before?", "Yes."), ("And then?", "No."))
    asked = [("What?", "Cat.")]
    for turns, before in ((None, []), (given, list(given)), ((), []), (None, asked)):
        say(b"Cat.")
        number = hand.ask("What?", turns=turns)
        hand.run_dry()
        assert prompts[-1] == ("What?", before)
    ids = hand.model.tokenizer.question_prompt("What?", asked)
    assert hand.events["a"].ends()[number].num_prompt_tokens == len(ids)


def test_dialogue_leaves_half_the_window_to_frames(
    prompts: list[tuple[str, list[tuple[str, str]]]],
) -> None:
    """The oldest turns go first until the prompt fits into half the window."""
    hand = HandEngine("a", config=replace(MINI, sliding_window=300))
    hand.see()
    for i in range(5):
        hand.ask(f"Question number {i}?", max_tokens=5)
        hand.run_dry()
    ends = list(hand.events["a"].ends().values())
    all_turns = [(done.question, done.answer) for done in ends[:-1]]
    text, turns = prompts[-1]
    assert turns == all_turns[-len(turns) :] != all_turns
    prompt = hand.model.tokenizer.question_prompt
    assert len(prompt(text, turns)) <= 150 < len(prompt(text, all_turns[-len(turns) - 1 :]))


def test_question_longer_than_the_window_is_still_answered() -> None:
    """A prompt that does not fit into the window is read to its end and answered."""
    hand = HandEngine("a")
    hand.see()
    number = hand.ask("why " * 60, max_tokens=3)
    hand.run_dry()
    assert hand.events["a"].ends()[number].num_tokens == 3


def test_same_seed_draws_the_same_answer() -> None:
    """A sampled answer is repeatable by its seed, and another seed draws another one."""

    def draw(seed: int) -> str:
        hand = HandEngine("a")
        hand.see(count=2)
        number = hand.ask(max_tokens=12, temperature=1.5, seed=seed)
        hand.run_dry()
        return hand.events["a"].ends()[number].answer

    assert draw(1) == draw(1)
    assert len({draw(seed) for seed in range(3)}) > 1


def test_a_dialogue_that_does_not_fit_is_not_read_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Frames wait for the engine's thread: it reads no more than can be part of a prompt."""
    hand = HandEngine("a", config=replace(MINI, sliding_window=512))
    hand.see()
    tokenizer, read = hand.model.tokenizer, 0
    encode = tokenizer.encode

    def counting(text: str) -> list[int]:
        nonlocal read
        read += len(text)
        return encode(text)

    monkeypatch.setattr(tokenizer, "encode", counting)
    number = hand.ask("What?", turns=tuple(("Before?", "word " * 3000) for _ in range(4)))
    hand.run_dry()
    assert hand.events["a"].ends()[number].num_prompt_tokens < 256
    assert read < 5000
