"""The dialogue of one visitor of the page: questions, answers as they come, and what they saw.

It is kept by the visitor's browser and comes back with every question, so it is checked like
everything that comes from there.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from stream.asking import Asking, AskLaterError, OpenAnswer
from stream.dialogues import MAX_TURNS, Turn
from stream.events import AnswerDone, AnswerStatus
from stream.question import MAX_QUESTION_CHARS, QuestionRefusedError, SamplingParams, check_question
from stream.registry import UnknownStreamError

MAX_EXCHANGES = 100
# What a browser keeps of them comes back with every question.
MAX_KEPT_BYTES = 100_000
MAX_ANSWER_CHARS, MAX_REASON_CHARS = 4096, 300
# All that is shown is sent and drawn again for every update.
MAX_SHOWN = 20
# A browser has better things to do than to draw every token.
UPDATES_S = 15.0


class Exchange(BaseModel):
    """A question and what came of it; the times are seconds of the stream's own clock."""

    model_config = ConfigDict(allow_inf_nan=False)

    stream: Annotated[str, Field(max_length=64)]
    question: Annotated[str, Field(max_length=MAX_QUESTION_CHARS)]
    answer: Annotated[str, Field(max_length=MAX_ANSWER_CHARS)]
    status: AnswerStatus
    reason: Annotated[str, Field(max_length=MAX_REASON_CHARS)] = ""
    until_s: float | None = None
    last_frame: int | None = None
    num_frames: int = 0
    first_token_ms: float | None = None
    total_ms: float = 0.0
    caution: Annotated[str, Field(max_length=MAX_REASON_CHARS)] = ""
    asked_at: float = 0.0

    @property
    def note(self) -> str:
        """What the answer is about, how long it took, and what it may be worth."""
        parts = []
        if self.until_s is not None:
            parts.append(f"about {self.num_frames} frames, up to {clock(self.until_s)}")
        if self.first_token_ms is not None:
            parts.append(f"first word after {self.first_token_ms:.0f} ms")
        if self.status is not AnswerStatus.COMPLETED:
            parts.append(f"{self.status}: {self.reason}" if self.reason else str(self.status))
        note = f"— {', '.join(parts)}" if parts else ""
        return f"{note}\n({self.caution})".strip() if self.caution else note


EXCHANGES: TypeAdapter[list[Exchange]] = TypeAdapter(list[Exchange])


def read_history(kept: Any) -> list[Exchange]:
    """The last exchanges that a browser kept; none if it is no such list."""
    try:
        return EXCHANGES.validate_python(kept)[-MAX_EXCHANGES:]
    except ValidationError:
        return []


def keep_history(history: list[Exchange]) -> list[dict[str, Any]]:
    """The last exchanges, as many as a browser is given to keep."""
    kept: list[dict[str, Any]] = []
    left = MAX_KEPT_BYTES
    for exchange in reversed(history[-MAX_EXCHANGES:]):
        left -= len(exchange.model_dump_json().encode())
        if left < 0:
            break
        kept.insert(0, exchange.model_dump(mode="json"))
    return kept


def clock(seconds: float) -> str:
    """'1:02.3'"""
    minutes, rest = divmod(round(max(0.0, seconds), 1), 60)
    return f"{minutes:.0f}:{rest:04.1f}"


def messages(history: Sequence[Exchange]) -> list[dict[str, str]]:
    """The last of them, as a chat shows them."""
    shown = []
    for exchange in history[-MAX_SHOWN:]:
        said = "\n".join(part for part in (exchange.answer, exchange.note) if part)
        shown += turn(exchange.question, said)
    return shown


def turn(question: str, answer: str) -> list[dict[str, str]]:
    """A question and an answer as a chat shows them.

    Even one that renders no Markdown takes text for HTML: what people and models say is escaped.
    """
    return [
        {"role": "user", "content": escape(question, quote=False)},
        {"role": "assistant", "content": escape(answer, quote=False)},
    ]


@dataclass(frozen=True, slots=True)
class _Open:
    """An answer under way, and the dialogue that it continues."""

    answer: OpenAnswer
    history: list[Exchange]


@dataclass(slots=True)
class Chat:
    """Asks for visitors, one question at a time for each.

    Attributes:
        caution: what is to be said of an answer to a question, if anything.
    """

    asking: Asking
    caution: Callable[[str], str] = lambda question: ""
    now: Callable[[], float] = time.monotonic
    _open: dict[str, _Open] = field(default_factory=dict)

    @contextmanager
    def ask(
        self, visitor: str, caller: int, stream: str, text: str, history: list[Exchange]
    ) -> Iterator[AsyncIterator[str | Exchange]]:
        """What is said so far, UPDATES_S times a second at most, and at last the exchange.

        Whoever leaves before that cancels the question.

        Raises:
            QuestionRefusedError: it was not asked; one sentence says why.
        """
        # A handler that nobody goes on with keeps what it asked.
        self._open = {who: one for who, one in self._open.items() if one.answer.done is None}
        if visitor in self._open:
            raise QuestionRefusedError("One question at a time: stop the answer, or wait for it.")
        open = _Open(self._ask(caller, stream, text, history), history)
        self._open[visitor] = open
        try:
            yield self._follow(open.answer)
        finally:
            if self._open.get(visitor) is open:
                del self._open[visitor]
            open.answer.cancel()

    async def _follow(self, answer: OpenAnswer) -> AsyncGenerator[str | Exchange]:
        async for said in paced(answer.texts(), 1 / UPDATES_S, self.now):
            yield said
        done = await answer.end()
        yield exchange_of(done, self.caution(done.question))

    def stop(self, visitor: str) -> None:
        """End the visitor's answer; nothing happens if there is none."""
        if visitor in self._open:
            self._open[visitor].answer.cancel()

    def forget(self, visitor: str) -> None:
        """Let an answer that is under way have nothing before it."""
        if visitor in self._open:
            self._open[visitor].history.clear()

    def _ask(self, caller: int, stream: str, text: str, history: list[Exchange]) -> OpenAnswer:
        turns: list[Turn] = [
            (one.question, one.answer)
            for one in history
            if one.stream == stream and one.status is AnswerStatus.COMPLETED
        ]
        try:
            question = check_question(text)
            return self.asking.ask(caller, stream, question, turns[-MAX_TURNS:], SamplingParams())
        except AskLaterError as error:
            raise QuestionRefusedError(_sentence(error)) from None
        except (UnknownStreamError, QuestionRefusedError) as error:
            raise QuestionRefusedError(_sentence(error)) from None


async def paced(
    texts: AsyncIterator[str], period_s: float, now: Callable[[], float]
) -> AsyncGenerator[str]:
    """All text so far, at once and then once a period at most."""
    said, due_s = "", now()
    async for text in texts:
        said += text
        if now() >= due_s:
            yield said
            due_s = now() + period_s


def exchange_of(done: AnswerDone, caution: str) -> Exchange:
    first_s = done.time_to_first_token_s
    return Exchange(
        stream=done.stream,
        question=done.question,
        answer=done.answer[:MAX_ANSWER_CHARS],
        status=done.status,
        reason=done.reason[:MAX_REASON_CHARS],
        until_s=done.last_pts_s,
        last_frame=done.last_seq,
        num_frames=done.num_frames,
        first_token_ms=None if first_s is None else 1e3 * first_s,
        total_ms=1e3 * done.total_s,
        caution=caution[:MAX_REASON_CHARS],
        asked_at=time.time(),
    )


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
