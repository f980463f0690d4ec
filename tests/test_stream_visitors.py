"""Streams that visitors bring: who may, at what rate, for how long, and who knows of them."""

import asyncio
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from sources.errors import SourceError
from sources.frame import VideoSource
from sources.open import open_source
from sources.policy import ClientPolicy
from stream import visitors
from stream.capacity import rate_left
from stream.monitor import Monitor
from stream.pusher import Pusher
from stream.visitors import Grant, NoRoomError
from tests.app_sockets import at, opening
from tests.clips import write_clip
from tests.http_serving import ServedHttp, serving_http
from tests.stream_helpers import PATIENCE_S
from tests.test_stream_server import jpeg, run, wait_until
from tests.test_ui_words import report


def on_loop(served: ServedHttp, call: Coroutine[Any, Any, Any]) -> Any:
    """As the application would have it."""
    return asyncio.run_coroutine_threadsafe(call, served.thread.loop).result(PATIENCE_S)


def test_a_camera_is_a_stream_that_only_its_visitor_knows() -> None:
    with serving_http(places=1) as served:
        grant: Grant = on_loop(served, served.visitors.camera())
        assert grant.fps == visitors.TARGET_FPS
        assert served.registry.names == ["cam"]
        assert [s.name for s in served.registry.overview()] == ["cam"]

        async def push_and_look() -> None:
            async with (
                Pusher(at(served, f"/v1/ingest/{grant.name}")) as pusher,
                opening(served, f"/v1/live/{grant.name}") as looker,
            ):
                await pusher.push(jpeg(0))
                assert isinstance(await asyncio.wait_for(looker.recv(), PATIENCE_S), bytes)

        run(push_and_look())
        with pytest.raises(NoRoomError, match="The one place"):
            on_loop(served, served.visitors.camera())
        on_loop(served, served.visitors.close(grant.name))
        assert on_loop(served, served.visitors.camera()).name != grant.name


def test_what_nobody_looks_at_is_closed_and_its_place_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(visitors, "GRACE_S", 1.0)
    monkeypatch.setattr(visitors, "_LOOK_S", 0.05)
    with serving_http(places=1) as served:
        first = on_loop(served, served.visitors.camera())

        async def look() -> None:
            async with opening(served, f"/v1/live/{first.name}"):
                await asyncio.sleep(1.5)  # longer than it would live unseen
                assert served.visitors._open

        run(look())
        wait_until(lambda: not served.visitors._open)
        wait_until(lambda: first.name not in served.registry._entries)
        assert on_loop(served, served.visitors.camera())


def test_a_clip_is_played_once_and_can_be_asked_about(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", range(5))
    with serving_http(places=1) as served:
        grant = on_loop(served, served.visitors.clip(clip))
        session = served.registry.get(grant.name)
        assert session.wait(PATIENCE_S) and session.report().processed == 5


@pytest.mark.parametrize(
    "content", [b"#EXTM3U\n/etc/passwd\n", b"", b"x" * 64, b"RIFF....WEBPVP8 "]
)
def test_what_is_no_clip_is_not_opened(tmp_path: Path, content: bytes) -> None:
    """A list of files would have us read those, whatever it is called."""
    file = tmp_path / "clip.mp4"
    file.write_bytes(content)
    with serving_http(places=1) as served:
        with pytest.raises(SourceError, match="no video"):
            on_loop(served, served.visitors.clip(file))
        assert not served.visitors._open and not file.exists()


def test_a_broken_clip_takes_no_place(tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    file.write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 100)
    with serving_http(places=1) as served:
        with pytest.raises(SourceError):
            on_loop(served, served.visitors.clip(file))
        assert on_loop(served, served.visitors.camera())


def test_only_addresses_that_the_operator_allows_are_watched() -> None:
    with serving_http(places=1) as served, pytest.raises(SourceError, match="may not name"):
        on_loop(served, served.visitors.address("rtsp://camera/live"))
    policy = ClientPolicy(("rtsp",), ("camera.example",))
    with serving_http(places=1, policy=policy) as served:
        with pytest.raises(SourceError, match="ask the operator"):
            on_loop(served, served.visitors.address("rtsp://169.254.169.254/"))
        with pytest.raises(SourceError, match="not an address"):
            on_loop(served, served.visitors.address("file:///etc/passwd"))


def test_without_places_there_is_no_room() -> None:
    with serving_http() as served, pytest.raises(NoRoomError, match="operator"):
        on_loop(served, served.visitors.camera())


def test_the_rate_is_what_the_device_has_left() -> None:
    """By the steps' times where they were measured, else by what streams take just now."""
    assert rate_left({}, [], 25.0) == 25.0
    assert rate_left({}, [Monitor(25.0).report()], 25.0) == 25.0
    busy = report(recent_fps=25.0, stage_s={"vision": (0.010, 0.0), "decoder": (0.010, 0.0)})
    silent = report(recent_fps=0.0, stage_s={})
    assert rate_left({}, [busy], 25.0) == pytest.approx((0.9 - 0.5) / 0.020)
    # What sends nothing just now may begin to.
    assert rate_left({}, [busy, silent], 25.0) == rate_left({}, [busy, busy], 25.0) == 0.0
    steps = {1: 0.010, 2: 0.018}
    assert rate_left(steps, [busy, silent], 25.0) == 25.0
    assert rate_left(steps, [busy] * 4, 25.0) == 0.0


def test_a_device_without_time_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving_http(places=1) as served:
        monkeypatch.setattr(served.registry, "rate_left", lambda fps: 4.9)
        with pytest.raises(NoRoomError, match="no time left"):
            on_loop(served, served.visitors.camera())


def test_what_opens_slowly_is_looked_after_once_it_is_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It neither loses its place meanwhile nor keeps it when it fails."""
    monkeypatch.setattr(visitors, "GRACE_S", 0.6)
    monkeypatch.setattr(visitors, "_LOOK_S", 0.05)
    opened: list[VideoSource] = []

    def slowly(uri: str) -> VideoSource:
        time.sleep(1.0)
        opened.append(open_source(uri))
        return opened[0]

    monkeypatch.setattr(visitors, "open_source", slowly)
    with serving_http(places=1) as served:
        grant = on_loop(served, served.visitors.clip(write_clip(tmp_path / "a.mp4")))
        assert grant.name in served.registry._entries
        wait_until(lambda: grant.name not in served.registry._entries)
        wait_until(lambda: not (tmp_path / "a.mp4").exists())
        assert not served.visitors._open
        broken = tmp_path / "b.mp4"
        broken.write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 100)
        with pytest.raises(SourceError, match="cannot be read") as failed:
            on_loop(served, served.visitors.clip(broken))
        assert str(tmp_path) not in str(failed.value)
        wait_until(lambda: not broken.exists())
        assert not served.visitors._open


def test_a_clip_is_deleted_though_the_program_ends_while_it_is_closed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The end of an event loop cancels what looks after it a second time."""
    clip = write_clip(tmp_path / "a.mp4")
    with serving_http(places=1) as served:
        grant = on_loop(served, served.visitors.clip(clip))
        close = served.registry.close

        def slowly(name: str, reason: str, within_s: float) -> bool:
            time.sleep(0.5)
            return close(name, reason, within_s)

        monkeypatch.setattr(served.registry, "close", slowly)

        async def end_twice() -> None:
            looking = served.visitors._open[grant.name]
            looking.cancel()
            await asyncio.sleep(0.1)
            looking.cancel()
            await asyncio.wait([looking])
            assert not clip.exists()

        on_loop(served, end_twice())


def test_what_is_on_its_way_takes_a_place() -> None:
    with serving_http(places=1) as served:

        async def come() -> None:
            with served.visitors.coming():
                with pytest.raises(NoRoomError, match="The one place"):
                    await served.visitors.camera()
                with pytest.raises(NoRoomError), served.visitors.coming():
                    pass
            await served.visitors.camera()

        on_loop(served, come())


def test_what_has_ended_keeps_its_place_for_a_while_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """However long someone looks at its last picture; its file goes at once."""
    monkeypatch.setattr(visitors, "KEPT_S", 0.2)
    monkeypatch.setattr(visitors, "_LOOK_S", 0.05)
    clip = write_clip(tmp_path / "a.mp4", range(5))
    with serving_http(places=1) as served:
        grant = on_loop(served, served.visitors.clip(clip))

        async def look() -> None:
            async with opening(served, f"/v1/live/{grant.name}") as looker:
                with pytest.raises(ConnectionClosed):
                    while True:
                        await looker.recv()
                        await looker.send("drawn")
                assert looker.close_code == 1008

        run(look())
        assert not clip.exists() and not served.visitors._open
