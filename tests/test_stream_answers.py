"""Every accepted question ends exactly once, however it ends, and its events come in order."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from model.tokenizer import ChatTokenizer
from stream.events import AnswerDelta, AnswerDone, AnswerStatus
from stream.question import QuestionRefusedError
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


def test_answer_that_stops_by_itself_is_completed(say: Script) -> None:
    """A stop token ends an answer as completed, with the text before it."""
    hand = HandEngine("a")
    hand.see(count=3)
    say("Grüß dich".encode())
    number = hand.ask(max_tokens=50)
    hand.run_dry()
    done = hand.events["a"].ends()[number]
    assert (done.status, done.reason, done.answer) == (AnswerStatus.COMPLETED, "", "Grüß dich")
    assert done.num_tokens == len("Grüß dich".encode())


def test_answer_that_stops_at_once_is_completed_and_empty(say: Script) -> None:
    """A stop token as the first token gives an empty answer, no delta, and a first-token time."""
    hand = HandEngine("a")
    hand.see()
    say(b"")
    number = hand.ask()
    hand.run_dry()
    done = hand.events["a"].ends()[number]
    assert (done.status, done.answer, done.num_tokens) == (AnswerStatus.COMPLETED, "", 0)
    assert done.time_to_first_token_s is not None
    assert not hand.events["a"].of(AnswerDelta)


def test_character_of_several_tokens_comes_in_one_piece(say: Script) -> None:
    """No delta holds half a character, and what was said half is left out."""
    hand = HandEngine("a")
    hand.see()
    say("é€".encode() + b"\xe2\x82")
    number = hand.ask(max_tokens=50)
    hand.run_dry()
    assert [e.text for e in hand.events["a"].of(AnswerDelta)] == ["é", "€"]
    assert hand.events["a"].ends()[number].answer == "é€"


def test_answer_that_is_too_long_is_incomplete() -> None:
    """At max_tokens an answer ends as incomplete and says so."""
    hand = HandEngine("a")
    hand.see(count=2)
    number = hand.ask(max_tokens=7)
    hand.run_dry()
    done = hand.events["a"].ends()[number]
    assert (done.status, done.reason) == (AnswerStatus.INCOMPLETE, "cut at 7 tokens")
    assert done.num_tokens == 7


def test_deltas_are_numbered_and_add_up_to_the_answer() -> None:
    """Joined deltas are the answer, and the end comes after all of them."""
    hand = HandEngine("a")
    hand.see(count=4)
    number = hand.ask(max_tokens=20)
    hand.run_dry()
    events = hand.events["a"]
    assert events.text(number) == events.ends()[number].answer != ""
    assert isinstance(events[-1], AnswerDone)


def test_deadline_while_waiting_ends_the_question_unanswered() -> None:
    """A question still in the queue at its deadline ends with nothing seen."""
    hand = HandEngine("a", max_answers=1)
    hand.see()
    hand.ask(max_tokens=500)
    late = hand.ask(deadline_s=hand.clock() + 1.0)
    hand.engine.step()
    hand.clock.advance(1.0)
    hand.engine.step()
    done = hand.events["a"].ends()[late]
    assert (done.status, done.reason) == (AnswerStatus.INCOMPLETE, "the deadline has passed")
    assert (done.last_seq, done.queue_s, done.num_tokens) == (None, None, 0)


def test_deadline_while_answering_keeps_what_was_said() -> None:
    """At its deadline an answer is cut: what was said until then is the answer."""
    hand = HandEngine("a")
    hand.see()
    number = hand.ask(max_tokens=500, deadline_s=hand.clock() + 1.0)
    hand.step_until(lambda: len(hand.events["a"].of(AnswerDelta)) == 3)
    hand.clock.advance(2.0)
    hand.run_dry()
    done = hand.events["a"].ends()[number]
    assert done.status is AnswerStatus.INCOMPLETE
    assert done.answer == hand.events["a"].text(number)
    assert done.num_tokens >= 3


def test_deadline_of_a_question_before_the_first_frame_passes() -> None:
    """A question that waits for a stream to begin ends at its deadline, too."""
    hand = HandEngine("a")
    number = hand.ask(deadline_s=hand.clock() + 1.0)
    hand.engine.step()
    assert not hand.events["a"].ends()
    hand.clock.advance(1.5)
    hand.engine.step()
    assert hand.events["a"].ends()[number].status is AnswerStatus.INCOMPLETE


@pytest.mark.parametrize("steps", [0, 1, 3, 60])
def test_cancelled_question_ends_wherever_it_is(steps: int) -> None:
    """Unread, while its prompt is read, while it is answered: it ends as cancelled, once."""
    hand = HandEngine("a")
    hand.see()
    number = hand.ask(max_tokens=500)
    for _ in range(steps):
        hand.engine.step()
    hand.engine.cancel("a", number)
    hand.engine.cancel("a", number)
    hand.run_dry()
    hand.engine.cancel("a", number)
    hand.run_dry()
    done = hand.events["a"].ends()[number]
    assert (done.status, done.reason) == (AnswerStatus.CANCELLED, "cancelled by the asker")
    assert (done.num_tokens > 0) == (steps == 60)


def test_cancelled_while_waiting_for_a_slot() -> None:
    """A question in the queue behind another ends at once; the other is not touched."""
    hand = HandEngine("a", max_answers=1)
    hand.see()
    first, second = hand.ask(max_tokens=9), hand.ask(max_tokens=9)
    hand.engine.step()
    hand.engine.cancel("a", second)
    hand.engine.step()
    assert list(hand.events["a"].ends()) == [second]
    hand.run_dry()
    assert hand.events["a"].ends()[first].num_tokens == 9


def test_cancelling_is_for_one_stream_alone() -> None:
    """Two sessions number their questions alike: cancelling one's leaves the other's alone."""
    hand = HandEngine("a", "b")
    hand.see("a")
    hand.see("b")
    number = hand.ask(stream="a", max_tokens=6)
    hand._next_id = number
    assert hand.ask(stream="b", max_tokens=6) == number
    hand.engine.cancel("a", number)
    hand.run_dry()
    assert hand.events["a"].ends()[number].status is AnswerStatus.CANCELLED
    assert hand.events["b"].ends()[number].num_tokens == 6


def test_closing_a_stream_cancels_its_questions_alone() -> None:
    """Waiting and answering questions of the closed stream end; another stream's goes on."""
    hand = HandEngine("a", "b", max_answers=2)
    hand.see("a")
    hand.see("b")
    mine = [hand.ask(stream="a", max_tokens=500), hand.ask(stream="a")]
    other = hand.ask(stream="b", max_tokens=8)
    hand.engine.step()
    mine.append(hand.ask(stream="a"))
    hand.engine.close_stream("a", "the user left")
    with pytest.raises(QuestionRefusedError, match="no open stream"):
        hand.ask(stream="a")
    hand.run_dry()
    ends = hand.events["a"].ends()
    assert {ends[i].status for i in mine} == {AnswerStatus.CANCELLED}
    assert {ends[i].reason for i in mine} == {"the user left"}
    assert hand.events["b"].ends()[other].num_tokens == 8


def test_full_queue_refuses_at_once_and_has_room_again() -> None:
    """One question too many is refused; when one has ended, the next is accepted."""
    hand = HandEngine("a", max_questions=2, max_answers=1)
    hand.see()
    hand.ask()
    hand.ask()
    for _ in range(2):
        with pytest.raises(QuestionRefusedError, match="2 questions are open"):
            hand.ask()
    hand.step_until(lambda: len(hand.events["a"].ends()) == 1)
    hand.ask()
    with pytest.raises(QuestionRefusedError):
        hand.ask()
    hand.run_dry()
    assert len(hand.events["a"].ends()) == 3
    for _ in range(2):
        hand.ask()


def test_cancelled_and_late_questions_make_room() -> None:
    """However a question ends, the next one finds its place and its slot free."""
    hand = HandEngine("a", max_questions=1, max_answers=1)
    hand.see()
    for number in range(6):
        deadline = hand.clock() + 1.0 if number % 3 == 0 else None
        asked = hand.ask(max_tokens=40, deadline_s=deadline)
        for _ in range(number * 8):
            hand.engine.step()
        hand.clock.advance(2.0)
        hand.engine.cancel("a", asked)
        hand.run_dry()
        assert asked in hand.events["a"].ends()


def test_questions_wait_their_turn() -> None:
    """With one slot, questions are answered in the order they were asked."""
    hand = HandEngine("a", max_answers=1)
    hand.see()
    ids = [hand.ask(f"Question {i}?") for i in range(4)]
    hand.run_dry()
    assert list(hand.events["a"].ends()) == ids


def test_stream_without_frames_keeps_nobody_else_waiting() -> None:
    """A question to a stream that has seen nothing waits; one asked later elsewhere does not."""
    hand = HandEngine("a", "b", max_answers=1)
    hand.see("b")
    early, other = hand.ask(stream="a"), hand.ask(stream="b")
    hand.run_dry()
    assert not hand.events["a"].ends()
    assert other in hand.events["b"].ends()
    hand.see("a")
    hand.run_dry()
    assert hand.events["a"].ends()[early].num_frames == 1


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
