"""What a client of ivl.v1 hears: the text of an answer as it is made, its end, and refusals."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from stream.protocol import AnswerDeltaMessage, AnswerDoneMessage, ErrorMessage, QueryCancel


class RefusedError(Exception):
    """The server refused something; `code` is one of the protocol's."""

    def __init__(self, message: ErrorMessage) -> None:
        super().__init__(message.error.message)
        self.code = message.error.code
        self.retry_after_ms = message.error.retry_after_ms


class Answer:
    """An accepted question: iterate over its text; `done` is there when that has ended."""

    def __init__(self, send: Callable[[QueryCancel], Awaitable[None]], id: str) -> None:
        self.id = id
        self.done: AnswerDoneMessage | None = None
        self._send = send
        self._heard = 0
        self._texts: asyncio.Queue[str | None] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[str]:
        while (text := await self._texts.get()) is not None:
            yield text
        self._texts.put_nowait(None)  # whoever else waits, or reads it again, comes to the end

    async def text(self) -> str:
        """Wait for the whole answer."""
        async for _ in self:
            pass
        assert self.done is not None
        return self.done.text

    async def cancel(self) -> None:
        """Ask for its end; it still ends by `done`."""
        await self._send(QueryCancel(type="query.cancel", id=self.id))

    def hear(self, message: AnswerDeltaMessage | AnswerDoneMessage) -> None:
        """Take more of it; what a lost connection swallowed comes with the end."""
        match message:
            case AnswerDeltaMessage(seq=seq, delta=delta) if seq == self._heard:
                self._heard += len(delta)
                self._texts.put_nowait(delta)
            case AnswerDoneMessage() if self.done is None:
                self.done = message
                if rest := message.text[self._heard :]:
                    self._texts.put_nowait(rest)
                self._texts.put_nowait(None)


def lost(id: str, why: str) -> AnswerDoneMessage:
    """The end of an answer that will never be heard."""
    return AnswerDoneMessage.model_validate(
        {
            "id": id,
            "number": 0,
            "stream": "",
            "status": "failed",
            "reason": why,
            "text": "",
            "tokens": 0,
            "frames": {"count": 0},
            "latency_ms": {"total": 0.0},
        }
    )
