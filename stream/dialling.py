"""How a client reaches a server of ivl.v1, and what it makes of what the server says."""

from collections.abc import AsyncIterator, Callable

from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection, connect, process_exception
from websockets.typing import Subprotocol

from stream.protocol import PROTOCOL, SERVER_MESSAGES, AnyServerMessage


def dial(
    url: str,
    token: str | None,
    judge: Callable[[Exception], Exception | None] = process_exception,
) -> connect:
    """What connects to a server of ivl.v1; `judge` gives None for an error worth another try."""
    return connect(
        url,
        subprotocols=[Subprotocol(PROTOCOL)],
        additional_headers={"Authorization": f"Bearer {token}"} if token else {},
        compression=None,
        process_exception=judge,
    )


async def known_messages(socket: ClientConnection) -> AsyncIterator[AnyServerMessage]:
    """What the server says, but for messages of a later version of the protocol."""
    async for data in socket:
        try:
            message = SERVER_MESSAGES.validate_json(data)
        except ValidationError:
            continue
        yield message
