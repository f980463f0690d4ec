"""Clients that nobody wants: 100 idle ones, one that floods, and one that never reads.

    python -m benchmarks.neighbours_clients URL

Says `ready`, waits for a line of input, connects all of them, and lets go of them when the input
ends. What the flooder got rid of and what befell all is the last line, as JSON.
"""

import asyncio
import contextlib
import itertools
import json
import socket
import sys
from collections import Counter
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

IDLE = 100
RECEIVE_BUFFER = 4096
FLOOD = (
    '{"type": "ping", "t": 1.0}',
    '{"type": "query.create", "id": "same", "text": "What do you see?"}',
    '{"type": "query.create", "id": "NEW", "text": "What do you see?"}',
    '{"type": "query.cancel", "id": "none"}',
    '{"type": "stream.subscribe", "stream": "cam", "channels": ["stats"]}',
    '{"type": "stream.subscribe", "stream": "nowhere", "channels": ["stats"]}',
    '{"type": "zap"}',
    '{"type": "ping", "t": "' + "x" * 10_000 + '"}',
    "{" * 1000,
)
SUBSCRIBE = '{"type": "stream.subscribe", "stream": "cam", "channels": ["state", "stats"]}'


def dial(url: str, own: socket.socket | None = None) -> connect:
    return connect(url, subprotocols=[Subprotocol("ivl.v1")], compression=None, sock=own)


async def idle(url: str, counts: Counter[str]) -> None:
    """Reads states and the statistics of every second, and says nothing more."""
    async with dial(url) as client:
        await client.send(SUBSCRIBE)
        async for _ in client:
            counts["read by idle"] += 1


async def flood(url: str, counts: Counter[str]) -> None:
    """Sends as fast as it is let, and reads what comes."""
    async with dial(url) as client:
        reading = asyncio.create_task(_read(client, counts))
        try:
            for message in itertools.cycle(FLOOD):
                await client.send(message.replace("NEW", str(counts["sent by the flooder"])))
                counts["sent by the flooder"] += 1
        finally:
            reading.cancel()


async def _read(client: ClientConnection, counts: Counter[str]) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in client:
            counts["answers to the flooder"] += '"answer.done"' in str(message)


async def stuck(url: str, counts: Counter[str]) -> None:
    """Wants everything and reads nothing; its buffers are small, so that this shows soon."""
    where = urlsplit(url)
    own = socket.socket()
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    own.connect((where.hostname or "", where.port or 0))
    client = await dial(url, own)
    client.transport.pause_reading()
    try:
        await client.send(SUBSCRIBE.replace("}", ', "stats_interval_ms": 200}'))
        while True:
            await client.send('{"type": "query.cancel", "id": "' + "x" * 64 + '"}')
            counts["sent by the stuck one"] += 1
    finally:
        client.transport.abort()


async def again_and_again(url: str, counts: Counter[str]) -> None:
    """The stuck one comes back whenever it has been let go."""
    while True:
        with contextlib.suppress(ConnectionClosed, OSError):
            await stuck(url, counts)
        counts["let go"] += 1
        await asyncio.sleep(0.1)


async def main(url: str) -> None:
    counts: Counter[str] = Counter()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    async with asyncio.TaskGroup() as group:
        everyone = [group.create_task(idle(url, counts)) for _ in range(IDLE)]
        everyone.append(group.create_task(flood(url, counts)))
        everyone.append(group.create_task(again_and_again(url, counts)))
        await asyncio.to_thread(sys.stdin.read)
        counts["there at the end"] = sum(not task.done() for task in everyone)
        for task in everyone:
            task.cancel()
    print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
