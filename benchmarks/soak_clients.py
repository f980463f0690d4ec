"""Clients that come and go at random, each in one of ten ways.

    python -m benchmarks.soak_clients URL --seconds 1800

What they counted is the last line, as JSON: `missing` are accepted questions whose end was never
heard by a client that stayed or came back, `twice` are ends that were heard more than once.
"""

import argparse
import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import cv2
import numpy as np
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from benchmarks.neighbours_clients import dial, flood, stuck
from stream.client import Answer, Client, RefusedError
from stream.ingest import INGEST_PATH
from stream.pusher import Pusher
from stream.talk import QUERY_PATH

CROWD = 8
PAUSE_S = 0.5
TOO_LONG_S = 90.0
QUESTIONS = ("What do you see?", "Is there a cat?", "What came first?", "Wie heißt du? 🎥")
KNOCKS = (
    b"",
    b"GET",
    b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n",
    b"\x16\x03\x01\x02\x00" + bytes(200),
    b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n",
    b"GET /" + b"x" * 100_000,
)
PAGES = ("/metrics", "/v1/streams", "/v1/streams/cam/frame.jpg", "/readyz", "/nothing")


class Visits:
    """The ways of a client; each call is one visit from its coming to its going."""

    def __init__(self, url: str, seed: int) -> None:
        self._url = url
        self._random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        noise = np.random.default_rng(seed).integers(0, 256, (224, 224, 3), dtype=np.uint8)
        self._picture = cv2.imencode(".jpg", noise)[1].tobytes()

    async def one(self) -> None:
        """Come in one of the ways, and count what became of it."""
        ways: list[Callable[[], Awaitable[None]]] = [
            *(self.asks, self.cancels, self.comes_back, self.leaves, self.floods, self.is_stuck),
            *(self.watches, self.pushes, self.knocks, self.reads_pages),
        ]
        way = self._random.choice(ways)
        self.counts[f"visits: {way.__name__}"] += 1
        try:
            async with asyncio.timeout(TOO_LONG_S):
                await way()
        except RefusedError as error:
            self.counts[f"refused: {error.code}"] += 1
        except (ConnectionClosed, InvalidHandshake, OSError) as error:
            self.counts[f"{way.__name__} broke off: {type(error).__name__}"] += 1

    async def asks(self) -> None:
        """A few questions, each to its end."""
        async with Client(self._url) as client:
            for _ in range(self._random.randint(1, 3)):
                answer = await client.ask(self._random.choice(QUESTIONS), stream="cam")
                await self._sees_the_end(answer)

    async def cancels(self) -> None:
        async with Client(self._url) as client:
            answer = await client.ask("Go on for ever?", stream="cam", max_tokens=2048)
            await asyncio.sleep(self._random.random() / 5)
            await answer.cancel()
            await self._sees_the_end(answer)

    async def comes_back(self) -> None:
        """The line breaks in the middle of answers; their ends are told to the next one."""
        async with dial(self._url) as socket:
            token = json.loads(await socket.recv())["resume_token"]
            accepted = await self._ask_two(socket)
            socket.transport.abort()
        self.counts["accepted"] += len(accepted)
        await asyncio.sleep(self._random.random() * 3)
        async with dial(self._url) as socket:
            await socket.send(json.dumps({"type": "session.update", "resume_token": token}))
            heard: set[str] = set()
            while not accepted <= heard:
                message = json.loads(await socket.recv())
                if message["type"] == "answer.done":
                    self.counts["twice"] += message["id"] in heard
                    heard.add(message["id"])
        self.counts["ended"] += len(accepted)

    async def leaves(self) -> None:
        """Never comes back for its answers."""
        async with dial(self._url) as socket:
            await self._ask_two(socket)
            socket.transport.abort()

    async def floods(self) -> None:
        await self._for_a_while(flood(self._url, self.counts))

    async def is_stuck(self) -> None:
        await self._for_a_while(stuck(self._url, self.counts))

    async def watches(self) -> None:
        async with Client(self._url) as client:
            left = self._random.randint(1, 8)
            async for _ in client.watch("cam", "state", "stats", stats_interval_ms=200):
                left -= 1
                if not left:
                    break

    async def pushes(self) -> None:
        """Pictures, and now and then what is none."""
        async with Pusher(self._url.replace(QUERY_PATH, f"{INGEST_PATH}robot")) as pusher:
            for _ in range(self._random.randint(1, 30)):
                await pusher.push(self._picture if self._random.random() < 0.9 else b"none")
                self.counts["pushed"] += 1
                await asyncio.sleep(0.1)

    async def knocks(self) -> None:
        """Something that is no handshake, or half of one."""
        await self._speak(self._random.choice(KNOCKS), self._random.random() * 3)

    async def reads_pages(self) -> None:
        for path in PAGES:
            page = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
            await self._speak(page.encode(), None)

    async def _sees_the_end(self, answer: Answer) -> None:
        """Hear an accepted question to its end; number 0 says that there will be none."""
        self.counts["accepted"] += 1
        await answer.text()
        self.counts["ended"] += answer.done is not None and answer.done.number > 0

    async def _ask_two(self, socket: ClientConnection) -> set[str]:
        """Ask two questions at once; those that were accepted when the first text comes."""
        for id in ("first", "second"):
            create = {"type": "query.create", "id": id, "text": "What do you see?", "stream": "cam"}
            await socket.send(json.dumps(create))
        accepted: set[str] = set()
        while True:
            message = json.loads(await socket.recv())
            match message["type"]:
                case "query.accepted":
                    accepted.add(message["id"])
                case "answer.delta" | "answer.done" | "error":
                    return accepted

    async def _for_a_while(self, doing: Awaitable[None]) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(doing, self._random.uniform(1.0, 6.0))

    async def _speak(self, said: bytes, wait_s: float | None) -> None:
        """Say something over bare TCP; wait for the end of the answer, or so long."""
        where = urlsplit(self._url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.write(said)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reader.read(-1), wait_s)
        writer.close()


async def crowd(url: str, seconds: float, seed: int) -> Counter[str]:
    visits = Visits(url, seed)
    until_s = asyncio.get_running_loop().time() + seconds
    pauses = random.Random(seed)

    async def again_and_again() -> None:
        while asyncio.get_running_loop().time() < until_s:
            await visits.one()
            await asyncio.sleep(pauses.expovariate(1 / PAUSE_S))

    async with asyncio.TaskGroup() as group:
        for _ in range(CROWD):
            group.create_task(again_and_again())
    counts = visits.counts
    counts["missing"] = counts["accepted"] - counts["ended"]
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Clients that come and go.")
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print(json.dumps(asyncio.run(crowd(args.url, args.seconds, args.seed)), sort_keys=True))
