"""What waits for a slow client: little, in order, and never without the ends of answers."""

import asyncio
import weakref

from stream.events import AnswerStatus
from stream.outbox import Outbox
from stream.protocol import SERVER_MESSAGES, AnswerDeltaMessage, AnyServerMessage, Pong, Stats
from stream.protocol_replies import answer_done
from tests.protocol_streams import answer_done as ended


def stats(stream: str, fps: float) -> Stats:
    return Stats(stream=stream, fps=fps, due=1, read=1, processed=1, dropped={})


def taken(outbox: Outbox) -> list[AnyServerMessage]:
    """All that waits, in its order."""

    async def take() -> list[AnyServerMessage]:
        texts = [await outbox.pop() for _ in range(len(outbox))]
        return [SERVER_MESSAGES.validate_json(text) for text in texts]

    return asyncio.run(take())


def test_text_of_one_answer_is_joined_and_only_the_newest_statistics_wait() -> None:
    outbox = Outbox()
    for n in range(5):
        outbox.push(AnswerDeltaMessage(id="a", seq=2 * n, delta="ab"))
        outbox.push(AnswerDeltaMessage(id="b", seq=n, delta="x"))
        outbox.push(stats("cam", float(n)))
    outbox.push(answer_done("a", 1, ended("cam", 1, "me", AnswerStatus.COMPLETED, "ab" * 5)))
    waiting = taken(outbox)
    assert waiting[:3] == [
        AnswerDeltaMessage(id="a", seq=0, delta="ab" * 5),
        AnswerDeltaMessage(id="b", seq=0, delta="xxxxx"),
        stats("cam", 4.0),
    ]
    assert waiting[3].type == "answer.done" and len(waiting) == 4


def test_text_that_was_taken_is_not_joined_again() -> None:
    outbox = Outbox()
    outbox.push(AnswerDeltaMessage(id="a", seq=0, delta="ab"))
    assert taken(outbox) == [AnswerDeltaMessage(id="a", seq=0, delta="ab")]
    outbox.push(AnswerDeltaMessage(id="a", seq=2, delta="c"))
    assert taken(outbox) == [AnswerDeltaMessage(id="a", seq=2, delta="c")]


def test_of_what_waits_only_the_text_is_kept() -> None:
    """Many slow clients would hold much more than that for long."""
    outbox, pong = Outbox(), Pong(t=1.0)
    outbox.push(pong)
    gone = weakref.ref(pong)
    del pong
    assert gone() is None
    assert taken(outbox) == [Pong(t=1.0)]


def test_statistics_go_first_and_then_it_overflows() -> None:
    outbox = Outbox(max_messages=4)
    for n in range(4):
        outbox.push(stats(f"cam{n}", 1.0))
    done = answer_done("a", 1, ended("cam", 1, "me", AnswerStatus.COMPLETED, "yes"))
    outbox.push(done)
    assert not outbox.overflowed and taken(outbox) == [done]
    for n in range(5):
        outbox.push(Pong(t=n))
    assert outbox.overflowed


def test_bytes_are_bounded_too() -> None:
    outbox = Outbox(max_bytes=1000)
    for n in range(200):
        outbox.push(AnswerDeltaMessage(id="a", seq=10 * n, delta="0123456789"))
    assert len(outbox) == 1 and outbox.overflowed
    taken(outbox)
    assert outbox._num_bytes == 0
