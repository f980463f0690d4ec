"""A visitor's dialogue: asked once at a time, paced, private, and kept by the browser."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from stream.asking import Asking, AskLaterError
from stream.dialogues import Turn
from stream.events import AnswerStatus
from stream.question import QuestionRefusedError, SamplingParams
from stream.registry import UnknownStreamError
from tests.protocol_streams import answer_done
from ui.chat import (
    MAX_EXCHANGES,
    MAX_KEPT_BYTES,
    Chat,
    Exchange,
    clock,
    keep_history,
    messages,
    paced,
    read_history,
)

ASKED = Exchange(
    stream="cam", question="Who?", answer="a cat", status=AnswerStatus.COMPLETED, until_s=75.04,
    last_frame=1876, num_frames=1877, first_token_ms=12.4, total_ms=80.0, asked_at=1.0,
)  # fmt: skip


class ByHand(Asking):
    """Answers as the test says, and remembers what it was asked."""

    def __init__(self, *texts: str, refusal: Exception | None = None) -> None:
        self.texts, self.refusal = texts, refusal
        self.turns: Sequence[Turn] = ()
        self.cancelled = asyncio.Event()

    def ask(
        self, caller: int, stream: str, text: str, turns: Sequence[Turn], sampling: SamplingParams
    ) -> Any:
        if self.refusal is not None:
            raise self.refusal
        self.turns = turns
        return _Answer(self, stream, text)


class _Answer:
    def __init__(self, asking: ByHand, stream: str, text: str) -> None:
        self._asking, self._stream, self._text = asking, stream, text
        self.done: Any = None

    async def texts(self) -> AsyncGenerator[str]:
        for text in self._asking.texts:
            if text == "...":
                await self._asking.cancelled.wait()
                return
            yield text

    async def end(self) -> Any:
        stopped = self._asking.cancelled.is_set()
        status = AnswerStatus.CANCELLED if stopped else AnswerStatus.COMPLETED
        text = "".join(t for t in self._asking.texts if t != "...")
        return answer_done(self._stream, 1, "request 1", status, text)

    def cancel(self) -> None:
        self._asking.cancelled.set()


async def heard(chat: Chat, history: list[Exchange], visitor: str = "v") -> list[str | Exchange]:
    with chat.ask(visitor, 0, "cam", " Who? ", history) as answer:
        return [said async for said in answer]


def test_an_answer_comes_in_parts_and_ends_as_an_exchange() -> None:
    async def ask() -> None:
        *parts, exchange = await heard(Chat(ByHand("a", " cat"), now=iter(range(99)).__next__), [])
        assert parts == ["a", "a cat"]
        assert isinstance(exchange, Exchange)
        assert (exchange.stream, exchange.answer) == ("cam", "a cat")
        assert (exchange.until_s, exchange.num_frames, exchange.total_ms) == (0.36, 10, 1000.0)

    asyncio.run(ask())


def test_a_visitors_own_turns_about_that_stream_are_continued() -> None:
    """The last four that were answered; nothing of other streams, and nothing that was cut."""
    history = [ASKED.model_copy(update={"question": f"{n}?"}) for n in range(6)]
    history.insert(5, ASKED.model_copy(update={"stream": "door"}))
    history.insert(6, ASKED.model_copy(update={"status": AnswerStatus.CANCELLED}))

    async def ask() -> None:
        asking = ByHand("yes")
        await heard(Chat(asking), history)
        assert asking.turns == [(f"{n}?", "a cat") for n in (2, 3, 4, 5)]

    asyncio.run(ask())


def test_one_question_at_a_time_and_stop_ends_it() -> None:
    async def ask() -> None:
        chat = Chat(ByHand("a", "..."))
        first = asyncio.create_task(heard(chat, []))
        await asyncio.sleep(0)
        with pytest.raises(QuestionRefusedError, match="One question at a time"):
            await heard(chat, [])
        chat.stop("someone else")
        assert not first.done()
        chat.stop("v")
        *_, exchange = await first
        assert isinstance(exchange, Exchange) and exchange.status is AnswerStatus.CANCELLED
        chat.stop("v")
        assert not chat._open

    asyncio.run(ask())


def test_a_visitor_who_leaves_cancels_the_question() -> None:
    async def ask() -> None:
        asking = ByHand("a", "...")
        chat = Chat(asking)
        with chat.ask("v", 0, "cam", "Who?", []) as answer:
            assert await anext(answer) == "a"
        assert asking.cancelled.is_set() and not chat._open

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (AskLaterError("queue_full", "64 questions are open", 1.0), "64 questions are open."),
        (UnknownStreamError("cam", []), "There is no stream"),
        (QuestionRefusedError("the stream was stopped"), "The stream was stopped."),
    ],
)
def test_what_is_refused_is_said_in_words(refusal: Exception, words: str) -> None:
    async def ask() -> None:
        chat = Chat(ByHand(refusal=refusal))
        with pytest.raises(QuestionRefusedError, match=words):
            await heard(chat, [])
        assert not chat._open

    asyncio.run(ask())


def test_an_empty_question_is_refused() -> None:
    async def ask() -> None:
        asked = Chat(ByHand()).ask("v", 0, "cam", "  \n", [])
        with pytest.raises(QuestionRefusedError), asked:
            pass

    asyncio.run(ask())


def test_text_is_shown_at_once_and_then_paced() -> None:
    """A hundred tokens a second are fifteen updates a second."""
    now_s = 0.0

    async def tokens() -> AsyncGenerator[str]:
        nonlocal now_s
        for _ in range(200):
            yield "x"
            now_s += 0.01

    async def count() -> None:
        said = [text async for text in paced(tokens(), 1 / 15, lambda: now_s)]
        assert said[0] == "x"
        assert 25 <= len(said) <= 31

    asyncio.run(count())


ENDLESS = ASKED.model_dump(mode="json") | {"answer": "x" * 10_000}
NEVER = ASKED.model_dump(mode="json") | {"until_s": float("inf")}


@pytest.mark.parametrize(
    "kept", [None, "x", 3, [{"stream": 1}], [[]], {"a": 1}, [ENDLESS], [NEVER]]
)
def test_what_a_browser_kept_is_not_believed(kept: Any) -> None:
    assert read_history(kept) == []


def test_history_comes_back_as_it_was_and_is_bounded() -> None:
    kept = [ASKED.model_dump(mode="json")] * (MAX_EXCHANGES + 5)
    assert read_history(kept) == [ASKED] * MAX_EXCHANGES
    for letter, least in (("x", 20), ("字", 7)):
        text = letter * 4000
        long = [ASKED.model_copy(update={"question": f"{n} {text}"}) for n in range(100)]
        kept = keep_history(long)
        assert len(json.dumps(kept, ensure_ascii=False).encode()) <= 1.1 * MAX_KEPT_BYTES
        assert read_history(kept) == long[-len(kept) :] and len(kept) > least


def test_a_chat_says_what_an_answer_is_about() -> None:
    question, answer = messages([ASKED])
    assert question == {"role": "user", "content": "Who?"}
    note = "— about 1877 frames, up to 1:15.0, first word after 12 ms"
    assert answer == {"role": "assistant", "content": f"a cat\n{note}"}
    cut = ASKED.model_copy(update={"status": AnswerStatus.FAILED, "reason": "the engine closed"})
    assert messages([cut])[1]["content"].endswith("failed: the engine closed")
    odd = ASKED.model_copy(update={"caution": "it has never met “law”"})
    assert messages([odd])[1]["content"].endswith("12 ms\n(it has never met “law”)")


def test_times_are_minutes_and_tenths() -> None:
    assert [clock(s) for s in (0.0, 9.96, 59.96, 3600.04)] == [
        "0:00.0",
        "0:10.0",
        "1:00.0",
        "60:00.0",
    ]


def test_what_nobody_goes_on_with_does_not_shut_its_visitor_out() -> None:
    """A handler that is never resumed cannot leave; its answer ends all the same."""

    async def ask() -> None:
        chat = Chat(ByHand("a"))
        left = chat.ask("v", 0, "cam", "Who?", [])
        left.__enter__()
        chat._open["v"].answer.done = await chat._open["v"].answer.end()
        assert len(await heard(chat, [])) == 2

    asyncio.run(ask())
