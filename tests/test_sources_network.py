"""Network sources against real servers: lost in every way, found again, nothing left behind."""

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from sources import capture
from sources.capture_errors import CaptureError
from sources.frame import VideoFrame
from sources.live import LiveSource, Patience
from sources.open import open_source
from sources.status import FramesLost, LossReason, SourceCondition, SourceStatus
from tests.rig.barcode import read_number
from tests.rig.belongings import belongings
from tests.rig.http_servers import HlsServer, MjpegServer
from tests.rig.proxy import FaultProxy
from tests.rig.rtsp import RtspServer, missing_rtsp
from tests.stream_helpers import PATIENCE_S

needs_rtsp = pytest.mark.skipif(missing_rtsp() is not None, reason=str(missing_rtsp()))
HASTY = Patience(connect=8.0, stall=0.7, grace=0.3, backoff=0.2, backoff_most=0.5)
# Several times what HASTY asks for, for machines that are busy, and less than all other limits.
SOON_S = 5.0
CANARY = "hunter2"
ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """No test leaves a thread, a child process, a socket or a pipe."""
    before = belongings()
    yield
    assert [now - then for now, then in zip(belongings(), before, strict=True)] == [set()] * 3


class Watcher:
    """Reads a source and keeps what it said."""

    def __init__(self, url: str, patience: Patience = HASTY) -> None:
        capture = {"kind": "network", "url": url}
        self.source = LiveSource("cam", capture, patience=patience)
        self.statuses: list[SourceStatus] = []
        self.numbers: list[int | None] = []
        self.frames: list[VideoFrame] = []
        self.lost: dict[LossReason, int] = {}

    def until(self, done: Callable[[], bool]) -> float:
        """Read until something is so; how long it took."""
        began_s = time.monotonic()
        while not done():
            assert time.monotonic() - began_s < PATIENCE_S, self.statuses
            item = self.source.read()
            match item:
                case VideoFrame():
                    self.frames.append(item)
                    self.numbers.append(read_number(item.image))
                case SourceStatus():
                    self.statuses.append(item)
                case FramesLost(count, reason):
                    self.lost[reason] = self.lost.get(reason, 0) + count
                case None:
                    break
        return time.monotonic() - began_s

    def until_frames(self, count: int) -> float:
        return self.until(lambda: len(self.frames) >= count)

    def until_condition(self, condition: SourceCondition) -> float:
        seen = len(self.statuses)
        return self.until(lambda: condition in [s.condition for s in self.statuses[seen:]])

    def is_lost_at_once(self) -> bool:
        """Read until it is lost; whether it was known as such, not taken for a stall."""
        seen = len(self.statuses)
        taken_s = self.until_condition(SourceCondition.RECONNECTING)
        said = [s.condition for s in self.statuses[seen:]]
        return taken_s < SOON_S and said == [SourceCondition.RECONNECTING]

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, *error: object) -> None:
        self.source.close()


def test_mjpeg_is_watched_in_order_and_every_frame_is_accounted_for() -> None:
    with MjpegServer() as server, Watcher(server.url) as watcher:
        watcher.until_frames(60)
        assert [s.condition for s in watcher.statuses] == [
            SourceCondition.CONNECTING,
            SourceCondition.LIVE,
        ]
        numbers = [n for n in watcher.numbers if n is not None]
        assert len(numbers) == 60 and numbers == sorted(set(numbers))
        assert [f.seq for f in watcher.frames] == sorted({f.seq for f in watcher.frames})
        missing = watcher.frames[-1].seq + 1 - len(watcher.frames)
        assert missing == watcher.lost.get(LossReason.OVERRUN, 0)
        assert all(f.pts_s == f.arrived_s - watcher.frames[0].arrived_s for f in watcher.frames)


def test_a_server_that_hangs_up_is_a_loss_and_is_found_again() -> None:
    """Even a clean end is a loss; the frames after it are of a new epoch."""
    with MjpegServer() as server, Watcher(server.url) as watcher:
        watcher.until_frames(5)
        server.drop()
        assert watcher.is_lost_at_once()
        assert watcher.until_condition(SourceCondition.LIVE) < 2 * SOON_S
        watcher.until_frames(len(watcher.frames) + 5)
        assert [f.epoch for f in watcher.frames] == sorted(f.epoch for f in watcher.frames)
        assert watcher.frames[-1].epoch == 1
        assert (watcher.statuses[-1].gap_s or 0.0) > 0.1


def test_a_stall_is_told_from_a_loss() -> None:
    with MjpegServer() as server, Watcher(server.url) as watcher:
        watcher.until_frames(5)
        server.stall()
        assert watcher.until_condition(SourceCondition.STALLED) < SOON_S
        assert watcher.until_condition(SourceCondition.RECONNECTING) < SOON_S
        server.resume()
        assert watcher.until_condition(SourceCondition.LIVE) < 2 * SOON_S


@pytest.mark.parametrize(
    ("code", "says"), [(404, "no such stream"), (401, "access was denied"), (503, "failed")]
)
def test_a_server_that_refuses_is_tried_again_until_it_gives(code: int, says: str) -> None:
    with MjpegServer() as server, Watcher(server.url) as watcher:
        server.status(code)
        watcher.until_condition(SourceCondition.RECONNECTING)
        assert says in watcher.statuses[-1].detail
        server.status(200)
        watcher.until_condition(SourceCondition.LIVE)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "no..host", f"{'a' * 64}.invalid"])
def test_an_unknown_host_is_named_as_such(host: str) -> None:
    """Also one whose name cannot be asked for."""
    with Watcher(f"http://{host}/live") as watcher:
        watcher.until_condition(SourceCondition.RECONNECTING)
        assert "there is no such host" in watcher.statuses[-1].detail


def test_closing_returns_at_once_though_the_network_is_silent() -> None:
    with MjpegServer() as server, Watcher(server.url, Patience()) as watcher:
        watcher.until_frames(3)
        server.stall()
        items: list[object] = []
        thread = Thread(target=lambda: items.append(watcher.source.read()))
        while not items:  # what was still under way
            thread.start()
            thread.join(0.3)
            if thread.is_alive():
                break
            items.clear()
            thread = Thread(target=lambda: items.append(watcher.source.read()))
        began_s = time.monotonic()
        watcher.source.close()
        thread.join(PATIENCE_S)
        assert items == [None] and time.monotonic() - began_s < SOON_S


def test_hls_is_played_at_its_own_pace() -> None:
    """A segment comes at once, its pictures one after the other."""
    with HlsServer() as server, Watcher(server.url) as watcher:
        watcher.until_frames(40)
        arrivals = [f.arrived_s for f in watcher.frames]
        assert 40 / 25 * 0.75 < arrivals[-1] - arrivals[0] < SOON_S
        numbers = [n for n in watcher.numbers if n is not None]
        assert len(numbers) == 40 and numbers == list(range(numbers[0], numbers[0] + 40))


def test_a_film_on_a_server_is_played_and_ends() -> None:
    """What has a length is no live source: its end is an end."""
    handler = partial(QuietHandler, directory=str(ROOT / "assets"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}/city.mp4"
            with Watcher(url) as watcher:
                taken_s = watcher.until(
                    lambda: watcher.statuses[-1:] and watcher.statuses[-1].condition == "ended"
                )
        finally:
            server.shutdown()
            thread.join()
    length_s = len(watcher.frames) / 25
    assert 150 < len(watcher.frames) < 260 and length_s * 0.8 < taken_s


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def test_the_address_is_in_no_command_line_and_a_killed_decoder_is_replaced() -> None:
    """The process that decodes is told over a pipe; its death is a loss like any other."""
    with MjpegServer() as server:
        url = server.url.replace("http://", f"http://admin:{CANARY}@") + f"?token={CANARY}"
        with Watcher(url) as watcher:
            watcher.until_frames(3)
            feed = watcher.source._feed
            assert feed is not None
            pid = feed._process.pid  # type: ignore[attr-defined]
            for name in ("cmdline", "environ"):
                assert CANARY.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
            os.kill(pid, signal.SIGKILL)
            watcher.until_condition(SourceCondition.RECONNECTING)
            assert "crashed" in watcher.statuses[-1].detail
            watcher.until_condition(SourceCondition.LIVE)
            assert CANARY not in repr(watcher.statuses)


def test_the_decoder_ends_with_the_program_that_started_it() -> None:
    """Also when that is killed and can clean up nothing."""
    with MjpegServer() as server:
        code = (
            "import sys; from sources.live import LiveSource\n"
            f"s = LiveSource('cam', {{'kind': 'network', 'url': '{server.url}'}})\n"
            "[s.read() for _ in range(5)]; print(s._feed._process.pid, flush=True)\n"
            "sys.stdin.read()"
        )
        program = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert program.stdout is not None and program.stdin is not None
        pid = int(program.stdout.readline())
        program.kill()
        program.wait()
        program.stdout.close()
        program.stdin.close()
        until_s = time.monotonic() + PATIENCE_S
        while _alive(pid) and time.monotonic() < until_s:
            time.sleep(0.02)
        assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@needs_rtsp
def test_an_rtsp_camera_is_watched_and_its_silence_noticed() -> None:
    """A stall, a reset, a camera frozen and one that was killed and comes back larger."""
    with (
        RtspServer() as camera,
        FaultProxy(camera.port) as proxy,
        Watcher(f"rtsp://127.0.0.1:{proxy.port}/live") as watcher,
    ):
        watcher.until_frames(20)
        assert None not in watcher.numbers

        proxy.stall()
        assert watcher.until_condition(SourceCondition.STALLED) < SOON_S
        proxy.pass_through()
        watcher.until_condition(SourceCondition.LIVE)

        proxy.reset()
        assert watcher.is_lost_at_once()
        assert watcher.until_condition(SourceCondition.LIVE) < 2 * SOON_S

        camera.stop()
        watcher.until_condition(SourceCondition.STALLED)
        camera.cont()
        watcher.until_condition(SourceCondition.LIVE)

        camera.kill()
        watcher.until_condition(SourceCondition.RECONNECTING)
        camera.restart(size=(640, 360))
        watcher.until_condition(SourceCondition.LIVE)
        watcher.until_frames(len(watcher.frames) + 3)
        assert watcher.frames[-1].image.shape == (360, 640, 3)
        assert watcher.source.info.width == 640
        epochs = [f.epoch for f in watcher.frames]
        assert epochs == sorted(epochs) and epochs[-1] >= 3


@needs_rtsp
def test_a_camera_that_accepts_and_is_silent_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever FFmpeg calls it, which depends on what it was doing."""
    monkeypatch.setattr(capture, "OPEN_TIMEOUT_S", 0.5)
    with RtspServer() as camera, FaultProxy(camera.port) as proxy:
        proxy.silent()
        url = f"rtsp://127.0.0.1:{proxy.port}/live"
        with pytest.raises(CaptureError) as error:
            next(capture.capture_network({"url": url, "max_pixels": 1 << 20}, time.monotonic))
        assert error.value.code == "silent"


@needs_rtsp
def test_a_camera_that_accepts_and_is_silent_is_given_up() -> None:
    with RtspServer() as camera, FaultProxy(camera.port) as proxy:
        proxy.silent()
        patience = replace(HASTY, connect=3.0)
        with Watcher(f"rtsp://127.0.0.1:{proxy.port}/live", patience) as watcher:
            taken_s = watcher.until_condition(SourceCondition.RECONNECTING)
            assert patience.connect - 0.5 < taken_s < capture.OPEN_TIMEOUT_S
            proxy.pass_through()
            watcher.until_condition(SourceCondition.LIVE)


@needs_rtsp
def test_corrupt_bytes_cost_pictures_and_not_the_stream() -> None:
    with (
        RtspServer() as camera,
        FaultProxy(camera.port) as proxy,
        Watcher(f"rtsp://127.0.0.1:{proxy.port}/live") as watcher,
    ):
        watcher.until_frames(10)
        proxy.corrupt(seed=1, share=0.02)
        watcher.until(lambda: watcher.lost.get(LossReason.CORRUPT, 0) > 5)
        proxy.pass_through()
        watcher.until(lambda: watcher.numbers[-10:].count(None) == 0)
        assert all(reason != LossReason.RECONNECT for reason in watcher.lost)


@needs_rtsp
def test_a_wrong_password_is_said_and_shown_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    with RtspServer(user="admin", password="right", digest=True) as camera:
        source = open_source(f"rtsp://admin:{CANARY}@127.0.0.1:{camera.port}/live")
        items = [source.read() for _ in range(2)]
        source.close()
        assert isinstance(items[1], SourceStatus) and "access was denied" in items[1].detail
        output = capfd.readouterr()
        assert CANARY not in repr(items) + repr(source.info) + output.out + output.err
        with Watcher(f"rtsp://admin:right@127.0.0.1:{camera.port}/live") as watcher:
            watcher.until_frames(3)


@needs_rtsp
def test_who_reads_slowly_sees_the_present() -> None:
    """One picture in 0.4 s from 25 a second: the others are counted as lost, none grows old."""
    with RtspServer() as camera, Watcher(f"rtsp://127.0.0.1:{camera.port}/live") as watcher:
        watcher.until_frames(5)
        ages_s = []
        for _ in range(10):
            time.sleep(0.4)
            watcher.until_frames(len(watcher.frames) + 1)
            ages_s.append(time.monotonic() - watcher.frames[-1].arrived_s)
        assert statistics.median(ages_s) < 0.2 and max(ages_s) < 1.0
        first, last = watcher.frames[0], watcher.frames[-1]
        skipped = last.seq - first.seq + 1 - len(watcher.frames)
        # On a busy machine some come so late that they are not even decoded.
        stale = watcher.lost.get(LossReason.STALE, 0)
        assert skipped == watcher.lost[LossReason.OVERRUN] > 60 - stale
        sent = (watcher.numbers[-1] or 0) - (watcher.numbers[0] or 0)
        assert last.seq - first.seq + stale == sent


@needs_rtsp
def test_a_capture_that_is_ended_ends_by_itself() -> None:
    """So that a camera is told goodbye; only what hangs is killed."""
    with RtspServer() as camera:
        for _ in range(3):
            with Watcher(f"rtsp://127.0.0.1:{camera.port}/live") as watcher:
                watcher.until_frames(5)
                feed = watcher.source._feed
                assert feed is not None
            assert feed._process.returncode == 0  # type: ignore[attr-defined]
