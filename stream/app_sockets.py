"""The websockets of the HTTP application: at /v1/stream, /v1/ingest/NAME and /v1/live/NAME."""

from collections.abc import AsyncIterator
from typing import Protocol

from fastapi import FastAPI, WebSocket
from fastapi.responses import Response
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosedError

from stream.api_errors import ApiError, code_of
from stream.ingest import INGEST_PATH, MAX_PICTURE_BYTES
from stream.live_view import LIVE_PATH
from stream.protocol import PROTOCOL
from stream.talk import QUERY_PATH, Talk, scope_of


class Line(Protocol):
    """What carries a websocket, beneath the application."""

    def allow(self, message_bytes: int) -> None: ...

    def hang_up(self, code: int, reason: str) -> None: ...

    def abort(self) -> None: ...


class AppSocket:
    """A websocket of the application as a talk needs it.

    It is ended by its line: the application could end it only once all has been sent, and there are
    clients that read nothing.
    """

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._line: Line = websocket.state.line

    async def send(self, message: str | bytes, /) -> None:
        """Send it once there is room for it; raises ConnectionClosed if the client is gone."""
        try:
            if isinstance(message, bytes):
                await self._websocket.send_bytes(message)
            else:
                await self._websocket.send_text(message)
        except WebSocketDisconnect:
            raise ConnectionClosedError(None, None) from None

    async def close(self, code: int, reason: str, /) -> None:
        """Say why and end it."""
        self._line.hang_up(code, reason)

    def abort(self) -> None:
        """End it at once, whatever waits to be sent."""
        self._line.abort()

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        """What the client sends, until it is gone."""
        while (message := await self._websocket.receive())["type"] == "websocket.receive":
            text: str | None = message.get("text")
            yield message["bytes"] if text is None else text


def add_sockets(app: FastAPI, talk: Talk) -> None:
    """Have clients of ivl.v1 talk with the app; its doors are locked elsewhere."""
    paths = (QUERY_PATH, INGEST_PATH + "{name:path}", LIVE_PATH + "{name:path}")

    async def come(websocket: WebSocket) -> None:
        await _let_talk(websocket, talk)

    async def no_socket() -> Response:
        response = ApiError(426, code_of(426), "a websocket is needed here").response()
        response.headers["Upgrade"] = "websocket"
        return response

    for path in paths:
        app.add_api_websocket_route(path, come)
        app.add_api_route(path, no_socket)


async def _let_talk(websocket: WebSocket, talk: Talk) -> None:
    """One client, from its coming to its going."""
    path = websocket.scope["path"]
    if PROTOCOL not in websocket.scope["subprotocols"]:
        refusal = ApiError(400, code_of(400), f"the subprotocol is {PROTOCOL}")
        return await websocket.send_denial_response(refusal.response())
    if not await talk.let_come():
        refusal = ApiError(503, code_of(503), "too many clients")
        return await websocket.send_denial_response(refusal.response())
    if scope_of(path) == "ingest":
        websocket.state.line.allow(MAX_PICTURE_BYTES)
    await websocket.accept(PROTOCOL)
    await talk.with_client(AppSocket(websocket), path)
