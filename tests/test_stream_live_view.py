"""The live picture: encoded once for all who look, never an old one, nothing kept unseen."""

import asyncio
import io
import json
import struct
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from sources.frame import VideoFrame
from sources.pushed import PushedSource
from stream import live_view
from stream.live_view import CREDIT, MAX_SIDE, LivePicture
from stream.pusher import Pusher
from tests.app_sockets import INGEST, at, close_code, opening
from tests.http_serving import PUSHED, ServedHttp, serving_http
from tests.stream_helpers import PATIENCE_S
from tests.test_stream_app import fetch
from tests.test_stream_server import jpeg, run, wait_until

HEADER = struct.Struct(">Qdd")
LIVE = f"/v1/live/{PUSHED}"


@pytest.fixture
def served() -> Iterator[ServedHttp]:
    """With a stream that shows what the test pushes."""
    with serving_http(pushed=PushedSource("robot"), both=True) as served:
        yield served


async def received(websocket: Any) -> tuple[int, float, Image.Image]:
    """The number of the frame, its age in ms, and the picture."""
    message = await asyncio.wait_for(websocket.recv(), PATIENCE_S)
    seq, _, age_ms = HEADER.unpack(message[: HEADER.size])
    return seq, age_ms, Image.open(io.BytesIO(message[HEADER.size :]))


def test_who_looks_sees_every_new_picture_once(served: ServedHttp) -> None:
    async def look() -> None:
        async with Pusher(at(served, INGEST)) as pusher, opening(served, LIVE) as looker:
            for number in range(6):
                await pusher.push(jpeg(number))
                seq, age_ms, picture = await received(looker)
                await looker.send("drawn")
                assert seq == number and picture.size == (56, 56)
                assert 0.0 <= age_ms < 1e3 * PATIENCE_S
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(looker.recv(), 0.2)

    run(look())


def test_who_draws_slowly_misses_pictures_and_sees_no_old_one(served: ServedHttp) -> None:
    """Without credit nothing comes; the next picture is then the newest."""

    async def look() -> None:
        async with Pusher(at(served, INGEST)) as pusher, opening(served, LIVE) as looker:
            for number in range(8):
                await pusher.push(jpeg(number))
                if number < CREDIT:
                    assert (await received(looker))[0] == number
                await asyncio.to_thread(wait_until, lambda n=number: newest(served) == n)
            await looker.send("drawn")
            assert (await received(looker))[0] == 7
            await looker.send("drawn")
            for _ in range(10):
                await looker.send("more than there is")  # gives no more credit than there was
            await pusher.push(jpeg(8))
            assert (await received(looker))[0] == 8

    run(look())


def newest(served: ServedHttp) -> int | None:
    frame = served.registry.snapshot(PUSHED)
    return None if frame is None else frame.seq


def test_a_picture_is_encoded_once_for_all_and_let_go_when_nobody_looks(
    served: ServedHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    lock = threading.Lock()

    def counted(frame: VideoFrame) -> LivePicture:
        with lock:
            encoded.append(frame.seq)
        return real(frame)

    real = live_view._encode
    monkeypatch.setattr(live_view, "_encode", counted)
    live = served.talk.live

    async def look() -> None:
        async with Pusher(at(served, INGEST)) as pusher:
            lookers = [opening(served, LIVE) for _ in range(4)]
            sockets = [await looker for looker in lookers]
            for number in range(5):
                await pusher.push(jpeg(number))
                assert {(await received(socket))[0] for socket in sockets} == {number}
                for socket in sockets:
                    await socket.send("drawn")
            assert live.num_lookers(PUSHED) == 4
            for socket in sockets:
                await socket.close()

    run(look())
    assert encoded == [0, 1, 2, 3, 4]
    wait_until(lambda: live.num_lookers(PUSHED) == 0)
    assert not live._made and not live._awaited


def test_the_other_server_shows_the_same(served: ServedHttp) -> None:
    async def look() -> None:
        url = served.thread.urls[1].replace("/v1/stream", LIVE)
        looking = connect(url, subprotocols=[Subprotocol("ivl.v1")])
        async with Pusher(at(served, INGEST)) as pusher, looking as looker:
            await pusher.push(jpeg(3))
            assert (await received(looker))[0] == 0

    run(look())


def test_there_is_nothing_to_see_of_no_stream(served: ServedHttp) -> None:
    async def look() -> None:
        async with opening(served, "/v1/live/nowhere") as looker:
            refusal = json.loads(await asyncio.wait_for(looker.recv(), PATIENCE_S))
            assert refusal["error"]["code"] == "not_found" and refusal["fatal"]
            assert await close_code(looker) == 1008

    run(look())
    assert fetch(served, "/v1/streams/nowhere/live.mjpg")[0] == 404


def test_a_stream_that_is_closed_is_seen_to_be(served: ServedHttp) -> None:
    """Although no frame comes any more."""

    async def look() -> None:
        async with opening(served, "/v1/live/cam") as looker:
            await received(looker)
            await asyncio.to_thread(served.registry.close, "cam", "it is over", PATIENCE_S)
            await looker.send("drawn")
            assert await close_code(looker) == 1008

    run(look())


def test_mjpeg_shows_the_same_pictures(served: ServedHttp) -> None:
    async def look() -> None:
        async with Pusher(at(served, INGEST)) as pusher:
            await pusher.push(jpeg(0))
            await asyncio.to_thread(wait_until, lambda: newest(served) == 0)
            reader, writer = await asyncio.open_connection(*served.address)
            path = f"/v1/streams/{PUSHED}/live.mjpg"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            for _ in range(2):
                async with asyncio.timeout(PATIENCE_S):
                    await reader.readuntil(b"Content-Type: image/jpeg\r\nContent-Length: ")
                    length = int(await reader.readline())
                    await reader.readline()
                    part = await reader.readexactly(length)
                assert Image.open(io.BytesIO(part)).size == (56, 56)
                await pusher.push(jpeg(1))
            writer.close()

    run(look())
    wait_until(lambda: served.talk.live.num_lookers(PUSHED) == 0)


def test_large_pictures_are_scaled_down() -> None:
    frame = VideoFrame(np.zeros((720, 1281, 3), np.uint8), 0, 0.0, 0.0, 0.0)
    picture = Image.open(io.BytesIO(live_view._encode(frame).jpeg))
    assert picture.size == (MAX_SIDE, 360)
