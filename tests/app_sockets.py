"""Clients of the websockets of the HTTP application, for its tests."""

import asyncio
import contextlib
import socket
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Opcode

from tests.http_serving import PUSHED, ServedHttp
from tests.stream_helpers import PATIENCE_S
from tests.test_stream_server import run

STREAM, INGEST = "/v1/stream", f"/v1/ingest/{PUSHED}"
LIVE_CAM = "/v1/live/cam"


def at(served: ServedHttp, path: str = STREAM) -> str:
    """The address of a websocket."""
    return served.url.replace("http", "ws", 1).removesuffix("/v1") + path


def opening(served: ServedHttp, path: str = STREAM, token: str | None = None, **more: Any) -> Any:
    """A websocket to be opened."""
    headers = more.pop("headers", {})
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    options: dict[str, Any] = {"subprotocols": ["ivl.v1"], "additional_headers": headers, **more}
    return connect(at(served, path), **options)


def status_of(served: ServedHttp, path: str = STREAM, token: str | None = None, **more: Any) -> int:
    """The status of HTTP's that a handshake is answered with; 101 lets in."""

    async def knock() -> int:
        async with asyncio.timeout(PATIENCE_S):
            try:
                async with opening(served, path, token, **more) as websocket:
                    await websocket.recv()
            except InvalidStatus as refused:
                return refused.response.status_code
            return 101

    return asyncio.run(knock())


def closed_with(served: ServedHttp, sent: bytes, path: str = STREAM) -> int | None:
    """With what code a websocket is closed after bytes that are sent as they are."""
    code: int | None = None

    async def say() -> None:
        nonlocal code
        async with opening(served, path) as websocket:
            websocket.transport.write(sent)
            code = await close_code(websocket)

    run(say())
    return code


def head_of(opcode: Opcode, size: int) -> bytes:
    """The beginning of a frame: no more is needed to see that it will be too long."""
    return bytes([0x80 | opcode, 0xFF]) + size.to_bytes(8) + bytes(4)


async def close_code(websocket: ClientConnection) -> int | None:
    """Read on until a websocket is closed."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await websocket.recv()
    return websocket.close_code


def by_hand(
    served: ServedHttp, host: bytes, path: bytes = b"/v1/stream", version: bytes = b"1.1"
) -> bytes:
    """The status of a handshake that is written by hand."""
    with socket.create_connection(served.address, PATIENCE_S) as own:
        own.sendall(
            b"GET "
            + path
            + b" HTTP/"
            + version
            + b"\r\nHost: "
            + host
            + b"\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: ivl.v1\r\n\r\n"
        )
        return own.recv(1000).split()[1]
