"""What waits to be sent to one client: bounded, whatever the client reads.

Of statistics and states only the newest of a stream waits, and text of one answer is joined, so
what a slow client has to read is little. If it is still too much, statistics go first; ends of
answers never do.
"""

import asyncio
from collections.abc import Hashable

from stream.protocol import AnswerDeltaMessage, ServerMessage, Stats, StreamState


class Outbox:
    """Filled and emptied on one event loop; `overflowed` once more waits than is allowed."""

    def __init__(self, max_messages: int = 256, max_bytes: int = 1 << 20) -> None:
        self._max_messages, self._max_bytes = max_messages, max_bytes
        # The message itself, four times as large as its text, only where more may be joined to it.
        self._waiting: dict[Hashable, tuple[AnswerDeltaMessage | None, str]] = {}
        self._num_bytes = 0
        self._serial = 0
        self._filled = asyncio.Event()
        self.overflowed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, message: ServerMessage) -> None:
        """Let a message wait; one that replaces another takes its place in the line."""
        key: Hashable
        match message:
            case Stats(stream=stream):
                key = ("stats", stream)
            case StreamState(stream=stream):
                key = ("state", stream)
            case AnswerDeltaMessage(id=id):
                key = ("delta", id)
                before, _ = self._waiting.get(key, (None, ""))
                if before is not None:
                    joined = before.delta + message.delta
                    message = before.model_copy(update={"delta": joined})
            case _:
                self._serial += 1
                key = self._serial
        self._put(key, message)
        if self._is_full():
            for stale in [key for key in self._waiting if _is_stats(key)]:
                self._take(stale)
            self.overflowed |= self._is_full()
        self._filled.set()

    async def pop(self) -> str:
        """Wait for a message, and take it, as JSON."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        return self._take(next(iter(self._waiting)))

    def _put(self, key: Hashable, message: ServerMessage) -> None:
        _, before = self._waiting.get(key, (None, ""))
        text = message.to_json()
        self._num_bytes += len(text) - len(before)
        self._waiting[key] = message if isinstance(message, AnswerDeltaMessage) else None, text

    def _take(self, key: Hashable) -> str:
        _, text = self._waiting.pop(key)
        self._num_bytes -= len(text)
        return text

    def _is_full(self) -> bool:
        return len(self._waiting) > self._max_messages or self._num_bytes > self._max_bytes


def _is_stats(key: Hashable) -> bool:
    return isinstance(key, tuple) and key[0] == "stats"
