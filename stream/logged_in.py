"""What a login let in ends with it: websockets are closed, and what is still being sent stops."""

import asyncio
import contextlib
from collections.abc import Coroutine

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from websockets.frames import CloseCode


async def run_until(
    end: Coroutine[None, None, None], app: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    """Run an application for one request; from `end` on its client is told no more.

    A response that says how long it is may end, and so may what has not begun.
    """
    endless = False

    async def noting(message: Message) -> None:
        nonlocal endless
        if message["type"] == "http.response.start":
            endless = "content-length" not in Headers(raw=list(message["headers"]))
        await send(message)

    running = asyncio.ensure_future(app(scope, receive, noting))
    ending = asyncio.ensure_future(end)
    try:
        await asyncio.wait((running, ending), return_when=asyncio.FIRST_COMPLETED)
        if not running.done() and scope["type"] == "websocket":
            scope["state"]["line"].hang_up(CloseCode.POLICY_VIOLATION, "logged out")
        elif not running.done() and endless:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            return await send({"type": "http.response.body", "body": b""})
        await running
    finally:
        for task in (running, ending):
            task.cancel()
        await asyncio.gather(running, ending, return_exceptions=True)
