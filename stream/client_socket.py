"""What the talk with a client needs of its websocket, whichever library it is of."""

from collections.abc import AsyncIterator
from typing import Protocol


class Socket(Protocol):
    """All but `abort` may raise ConnectionClosed once the client is gone."""

    async def send(self, message: str | bytes, /) -> None: ...

    async def close(self, code: int, reason: str, /) -> None: ...

    def abort(self) -> None:
        """End it at once, whatever waits to be sent."""

    def __aiter__(self) -> AsyncIterator[str | bytes]: ...
