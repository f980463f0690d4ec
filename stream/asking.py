"""Questions without a session, asked and heard one by one on one event loop.

For callers that bring all there is to know with every question, as HTTP requests do: each question
is an asker of its own, and nothing is remembered of it.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from stream.dialogues import Turn
from stream.events import AnswerDelta, AnswerDone, Event
from stream.protocol import ErrorCode
from stream.question import SamplingParams, TooManyQuestionsError
from stream.registry import StreamRegistry
from stream.token_bucket import TokenBucket

_ASKER = "request "
_BUSY_S = 1.0


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """What may be asked with one token at most, or by all together where none is needed."""

    open_questions: int = 16
    questions_per_s: float = 4.0
    question_burst: int = 16


class AskLaterError(Exception):
    """A question that may be asked again after `retry_after_s`; `code` says why not now."""

    def __init__(self, code: ErrorCode, sentence: str, retry_after_s: float) -> None:
        super().__init__(sentence)
        self.code = code
        self.retry_after_s = retry_after_s


class OpenAnswer:
    """An accepted question: its text as it comes, once, and then how it ended."""

    def __init__(self, stream: str, caller: int, cancel: Callable[[], None]) -> None:
        self.stream, self.caller = stream, caller
        self.done: AnswerDone | None = None
        self._cancel = cancel
        self._ended = asyncio.Event()
        # Bounded by the longest answer.
        self._heard: asyncio.Queue[str | None] = asyncio.Queue()

    def hear(self, event: AnswerDelta | AnswerDone) -> None:
        """Something happened to it."""
        if isinstance(event, AnswerDelta):
            self._heard.put_nowait(event.text)
        else:
            self.done = event
            self._heard.put_nowait(None)
            self._ended.set()

    async def texts(self) -> AsyncIterator[str]:
        """More text each time, until it has ended."""
        while (text := await self._heard.get()) is not None:
            yield text

    async def end(self) -> AnswerDone:
        """Wait for how it ended."""
        await self._ended.wait()
        assert self.done is not None
        return self.done

    def cancel(self) -> None:
        """Nobody waits for it any more; nothing happens if it has ended."""
        if self.done is None:
            self._cancel()


class Asking:
    """Asks the streams of a registry; all methods but `subscribe` run on its loop."""

    def __init__(
        self,
        registry: StreamRegistry,
        limits: CallerLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry, self._clock = registry, clock
        self._limits = limits or CallerLimits()
        self._open: dict[tuple[str, int], OpenAnswer] = {}
        self._buckets: dict[int, TokenBucket] = {}
        self._numbers = itertools.count(1)
        self.draining = False

    @property
    def num_open(self) -> int:
        """Questions that have been accepted and have not ended."""
        return len(self._open)

    def subscribe(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        """Listen to all streams from now on; returns what ends it."""

        def listener(event: Event) -> None:
            if isinstance(event, AnswerDelta | AnswerDone) and event.asker.startswith(_ASKER):
                with contextlib.suppress(RuntimeError):  # the loop may have closed just now
                    loop.call_soon_threadsafe(self.happened, event)

        return self._registry.subscribe(listener)

    def happened(self, event: AnswerDelta | AnswerDone) -> None:
        """Tell whom it concerns."""
        key = (event.stream, event.question_id)
        answer = self._open.get(key)
        if answer is not None:
            answer.hear(event)
            if isinstance(event, AnswerDone):
                del self._open[key]

    def ask(
        self,
        caller: int,
        stream: str,
        text: str,
        turns: Sequence[Turn],
        sampling: SamplingParams,
    ) -> OpenAnswer:
        """Ask a question, for a caller of this number.

        Raises:
            AskLaterError: too many questions are open, the caller asks too fast, or all ends.
            UnknownStreamError: there is no such stream.
            QuestionRefusedError: the question cannot be asked, or the stream was stopped.
        """
        bucket = self._check_limits(caller)
        session = self._registry.get(stream)
        try:
            number = session.ask(
                text, asker=f"{_ASKER}{next(self._numbers)}", sampling=sampling, turns=turns
            )
        except TooManyQuestionsError as error:
            raise AskLaterError("queue_full", str(error), _BUSY_S) from None
        bucket.take()
        answer = OpenAnswer(stream, caller, lambda: session.cancel(number))
        # What happened to it already is told on this loop, so not before we return to it.
        self._open[stream, number] = answer
        return answer

    def drain(self) -> None:
        """Accept no more questions."""
        self.draining = True

    def cancel_all(self) -> None:
        """End what is open."""
        for answer in self._open.values():
            answer.cancel()

    def _check_limits(self, caller: int) -> TokenBucket:
        limits = self._limits
        if self.draining:
            raise AskLaterError("draining", "the server is about to end", _BUSY_S)
        if sum(answer.caller == caller for answer in self._open.values()) >= limits.open_questions:
            why = f"{limits.open_questions} of your questions are open; wait for an answer"
            raise AskLaterError("queue_full", why, _BUSY_S)
        now_s = self._clock()
        new = TokenBucket(limits.questions_per_s, limits.question_burst, now_s)
        bucket = self._buckets.setdefault(caller, new)
        if (wait_s := bucket.wait_s(now_s)) > 0.0:
            raise AskLaterError("rate_limited", "you ask too fast", wait_s)
        return bucket
