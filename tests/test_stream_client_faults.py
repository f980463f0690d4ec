"""Clients whose server vanishes, forgets them or refuses them; most talk to a server by script."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from stream.client import Client, RefusedError, Watched
from stream.protocol import Ping, Stats, StreamState
from stream.pusher import Pusher
from tests.stream_helpers import PATIENCE_S
from tests.test_stream_server import Served, run, serving

LIMITS = {"open_queries": 4, "queries_per_s": 1.0, "query_burst": 5}
LIMITS |= {"message_bytes": 65536, "resume_s": 120.0}
CREATED = {"type": "session.created", "server_version": "0", "model": "mini", "trained": False}
CREATED |= {"limits": LIMITS, "streams": []}
DONE = {"type": "answer.done", "stream": "cam", "status": "completed", "reason": "", "tokens": 1}
DONE |= {"frames": {"count": 1}, "latency_ms": {"total": 1.0}}
NO_SESSION = {"code": "not_found", "message": "none to resume", "param": "resume_token"}

Script = Callable[["Line"], Awaitable[None]]


class Line:
    """A server's side of one connection."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket

    async def say(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self.socket.recv())
        return message

    async def created(self, name: str) -> None:
        await self.say(**CREATED, session=name, resume_token=f"token {name}")

    async def answer(self, id: str, number: int, text: str = "Yes.") -> None:
        await self.say(**DONE, id=id, number=number, text=text)


async def first_of(watched: AsyncIterator[Watched]) -> Watched:
    return await anext(watched)


def scripted(scripts: list[Script], test: Callable[[str], Awaitable[None]]) -> None:
    """Run a test against a server that follows one script a connection, then lets nobody in."""
    left = list(scripts)
    failures: list[BaseException] = []

    async def handle(socket: ServerConnection) -> None:
        try:
            await left.pop(0)(Line(socket))
        except AssertionError as error:
            failures.append(error)

    def admit(socket: ServerConnection, _: Request) -> Response | None:
        return None if left else socket.respond(401, "no more\n")

    async def both() -> None:
        async with serve(
            handle,
            "127.0.0.1",
            0,
            process_request=admit,
            subprotocols=[Subprotocol("ivl.v1")],
            close_timeout=0.1,
        ) as at:
            port = next(iter(at.sockets)).getsockname()[1]
            await test(f"ws://127.0.0.1:{port}/v1/stream")

    run(both())
    assert not failures


def test_a_server_that_began_anew_numbers_its_answers_anew() -> None:
    """Its second connection must not be asked for answers above a number of the first server."""

    async def first(line: Line) -> None:
        await line.created("a")
        await line.answer((await line.hear())["id"], 7)
        line.socket.transport.abort()

    async def restarted(line: Line) -> None:
        await line.created("b")
        assert (await line.hear())["after"] == 7
        await line.say(type="error", error=NO_SESSION)
        id = (await line.hear())["id"]
        await line.say(type="query.accepted", id=id, stream="cam", open_queries=1)
        line.socket.transport.abort()

    async def resumed(line: Line) -> None:
        await line.created("c")
        update = await line.hear()
        assert (update["resume_token"], update["after"]) == ("token b", 0)
        await line.say(type="session.updated", session="c", resume_token="token b", resumed=True)
        await line.answer("q2", 1, "No.")
        await line.hear()

    async def test(url: str) -> None:
        async with Client(url) as client:
            assert await (await client.ask("One?")).text() == "Yes."
            assert await (await client.ask("Two?")).text() == "No."

    scripted([first, restarted, resumed], test)


def test_a_question_that_was_not_accepted_yet_survives_a_restart() -> None:
    async def first(line: Line) -> None:
        await line.created("a")
        await line.hear()
        line.socket.transport.abort()

    async def restarted(line: Line) -> None:
        await line.created("b")
        await line.hear()
        await line.say(type="error", error=NO_SESSION)
        await line.answer((await line.hear())["id"], 1)
        await line.hear()

    async def test(url: str) -> None:
        async with Client(url) as client:
            answer = await client.ask("What?")
            assert await answer.text() == "Yes."

    scripted([first, restarted], test)


def test_a_resuming_that_broke_off_is_tried_again_with_the_same_token() -> None:
    async def first(line: Line) -> None:
        await line.created("a")
        id = (await line.hear())["id"]
        await line.say(type="query.accepted", id=id, stream="cam", open_queries=1)
        line.socket.transport.abort()

    async def breaks_off(line: Line) -> None:
        await line.created("b")
        await line.hear()
        line.socket.transport.abort()

    async def resumed(line: Line) -> None:
        await line.created("c")
        assert (await line.hear())["resume_token"] == "token a"
        await line.say(type="session.updated", session="c", resume_token="token a", resumed=True)
        await line.answer("q1", 1)
        await line.hear()

    async def test(url: str) -> None:
        async with Client(url) as client:
            assert await (await client.ask("What?")).text() == "Yes."

    scripted([first, breaks_off, resumed], test)


def test_nobody_waits_for_a_server_that_will_not_have_them_back() -> None:
    """What is refused for good, such as a token that was taken away, ends all that waits."""

    async def first(line: Line) -> None:
        await line.created("a")
        id = (await line.hear())["id"]
        await line.say(type="query.accepted", id=id, stream="cam", open_queries=1)
        await line.hear()
        line.socket.transport.abort()

    async def test(url: str) -> None:
        async with Client(url) as client:
            answer = await client.ask("One?")
            watching = asyncio.create_task(first_of(client.watch("cam")))
            await answer.text()
            assert answer.done is not None and answer.done.status == "failed"
            for waits in (client.ask("Two?"), watching):
                with pytest.raises(ConnectionError):
                    await waits

    scripted([first], test)


def test_who_is_let_in_and_sent_away_at_once_does_not_try_for_ever() -> None:
    """Who has never had a session learns why, if that is said."""
    gone = {"code": "not_found", "message": "No stream of this name."}

    async def refuses(line: Line) -> None:
        await line.say(type="error", error=gone, fatal=True)

    async def closes(line: Line) -> None:
        pass

    async def test(url: str) -> None:
        with pytest.raises(RefusedError, match="No stream of this name"):
            await Client(url).__aenter__()
        with pytest.raises(ConnectionError, match="before a session began"):
            await Client(url).__aenter__()

    scripted([refuses, closes, closes], test)


def test_who_had_a_session_and_is_sent_away_at_once_takes_a_breath() -> None:
    """Else it would knock hundreds of times a second."""
    knocks: list[float] = []

    async def first(line: Line) -> None:
        await line.created("first")

    async def closes(line: Line) -> None:
        knocks.append(asyncio.get_running_loop().time())

    async def test(url: str) -> None:
        async with Client(url) as client:
            with pytest.raises(ConnectionError):
                while True:
                    await client.send(Ping(type="ping"))

    scripted([first, closes, closes], test)
    assert knocks[1] - knocks[0] > 0.3


def test_who_no_longer_waits_for_acceptance_wants_no_answer() -> None:
    cancelled: list[str] = []

    async def slow(line: Line) -> None:
        await line.created("a")
        id = (await line.hear())["id"]
        await asyncio.sleep(0.2)
        await line.say(type="query.accepted", id=id, stream="cam", open_queries=1)
        cancel = await line.hear()
        cancelled.append(cancel["type"] + " " + cancel["id"])
        await line.hear()

    async def test(url: str) -> None:
        async with Client(url) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.ask("What?")
            while not cancelled:
                await asyncio.sleep(0.01)
            assert not client._answers

    scripted([slow], test)
    assert cancelled == ["query.cancel q1"]


def test_two_streams_are_watched_at_once_and_none_takes_the_others_news() -> None:
    async def watch(served: Served) -> None:
        async with Client(served.url) as client:

            async def told_of(stream: str) -> set[str]:
                told: set[str] = set()
                watched = client.watch(stream, "stats", stats_interval_ms=200)
                for _ in range(4):
                    told.add((await anext(watched)).stream)  # type: ignore[union-attr]
                await watched.aclose()  # type: ignore[attr-defined]
                return told

            assert await asyncio.gather(told_of("cam"), told_of("door")) == [{"cam"}, {"door"}]
            assert not client._watches.streams

    with serving() as served:
        run(watch(served))


def test_two_who_watch_one_stream_are_each_told_what_they_want() -> None:
    """The server keeps one subscription a stream: the later one shall not end the earlier."""

    async def watch(served: Served) -> None:
        async with Client(served.url) as client, asyncio.timeout(PATIENCE_S):
            stats = client.watch("cam", "stats", stats_interval_ms=200)
            assert isinstance(await anext(stats), Stats)
            states = client.watch("cam", "state")
            assert isinstance(await anext(states), StreamState)
            for _ in range(4):
                assert isinstance(await anext(stats), Stats)

    with serving() as served:
        run(watch(served))


def test_to_watch_what_is_not_there_is_refused() -> None:
    """And goes on for those who watch another stream."""

    async def watch(served: Served) -> None:
        async with Client(served.url) as client, asyncio.timeout(PATIENCE_S):
            states = client.watch("cam", "state")
            assert isinstance(await anext(states), StreamState)
            with pytest.raises(RefusedError, match="nowhere") as refused:
                await anext(client.watch("nowhere"))
            assert refused.value.code == "not_found"
            assert client._watches.streams == {"cam"}

    with serving() as served:
        run(watch(served))


def test_an_answer_can_be_read_again_when_it_has_ended() -> None:
    async def ask(served: Served) -> None:
        async with Client(served.url) as client:
            answer = await client.ask("What?", stream="cam", max_tokens=4)
            heard = "".join([text async for text in answer])
            assert await answer.text() == heard == await answer.text()

    with serving() as served:
        run(ask(served))


def test_who_waits_for_credit_learns_that_the_connection_broke() -> None:
    async def takes_nothing(line: Line) -> None:
        await line.say(type="ingest.ready", stream="robot", credit=1)
        await line.say(type="of.a.later.version")
        await line.socket.recv()
        await asyncio.sleep(0.1)
        line.socket.transport.abort()

    async def test(url: str) -> None:
        async with Pusher(url) as pusher:
            await pusher.push(b"1")
            async with asyncio.timeout(PATIENCE_S / 2):
                pushes = (pusher.push(b"2"), pusher.push(b"3"), pusher.push(b"4"))
                ends = await asyncio.gather(*pushes, return_exceptions=True)
            assert all(isinstance(end, ConnectionClosed) for end in ends)

    scripted([takes_nothing], test)


def test_a_pusher_that_is_refused_leaves_no_connection_behind() -> None:
    closed: list[bool] = []

    async def refuses(line: Line) -> None:
        error = {"code": "forbidden", "message": "another pushes"}
        await line.say(type="error", error=error, fatal=True)
        await line.socket.wait_closed()
        closed.append(True)

    async def test(url: str) -> None:
        with pytest.raises(RefusedError):
            async with Pusher(url):
                pass
        while not closed:
            await asyncio.sleep(0.01)

    scripted([refuses], test)


def test_a_pusher_passes_over_what_it_does_not_know_and_says_if_nothing_else_came() -> None:
    async def speaks_of_the_future(line: Line) -> None:
        await line.say(type="of.a.later.version")
        await line.say(type="ingest.ready", stream="robot", credit=1)
        await line.socket.wait_closed()

    async def says_nothing_else(line: Line) -> None:
        await line.say(type="of.a.later.version")
        await line.socket.close()

    async def test(url: str) -> None:
        async with Pusher(url):
            pass
        with pytest.raises(ConnectionError, match="before it took a picture"):
            async with Pusher(url):
                pass

    scripted([speaks_of_the_future, says_nothing_else], test)


def test_who_gives_up_connecting_leaves_no_connection_behind() -> None:
    left: list[bool] = []

    async def says_nothing(line: Line) -> None:
        await line.socket.wait_closed()
        left.append(True)

    async def test(url: str) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), Client(url):
                pass
        while not left:
            await asyncio.sleep(0.01)

    scripted([says_nothing], test)
