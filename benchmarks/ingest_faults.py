"""What can go wrong with a source, on real servers that are told to fail and to return."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from tests.rig.http_servers import MjpegServer
from tests.rig.proxy import FaultProxy
from tests.rig.rtsp import RtspServer

CORRUPT_S, CORRUPT_SHARE = 2.5, 0.01
OTHER_SIZE = (640, 480)
# What the RTSP camera has sent when it has said that it plays, and little more.
HANDSHAKE_BYTES = 1200
START_S = 10.0


@dataclass(frozen=True, slots=True)
class Staged:
    """A source whose servers run, and how a fault begins and ends.

    Attributes:
        end: None for what does not return.
        lasts_s: None until the fault is told, or with `until_lost` until it is given up.
        connecting: it is there from the beginning.
        size: of the pictures after it, where they are others.
    """

    uri: str
    begin: Callable[[], None] = lambda: None
    end: Callable[[], None] | None = lambda: None
    lasts_s: float | None = None
    until_lost: bool = False
    connecting: bool = False
    size: tuple[int, int] | None = None


def rtsp(port: int, login: str = "") -> str:
    return f"rtsp://{login}127.0.0.1:{port}/live"


def stall(stack: ExitStack) -> Staged:
    proxy = stack.enter_context(FaultProxy(stack.enter_context(RtspServer()).port))
    return Staged(rtsp(proxy.port), proxy.stall, proxy.pass_through)


def long_stall(stack: ExitStack) -> Staged:
    proxy = stack.enter_context(FaultProxy(stack.enter_context(RtspServer()).port))
    return Staged(rtsp(proxy.port), proxy.stall, proxy.pass_through, until_lost=True)


def reset(stack: ExitStack) -> Staged:
    proxy = stack.enter_context(FaultProxy(stack.enter_context(RtspServer()).port))
    return Staged(rtsp(proxy.port), proxy.reset, lasts_s=0.0)


def killed(stack: ExitStack) -> Staged:
    camera = stack.enter_context(RtspServer())
    return Staged(camera.url, camera.kill, camera.restart, until_lost=True)


def stopped(stack: ExitStack) -> Staged:
    camera = stack.enter_context(RtspServer())
    return Staged(camera.url, camera.stop, camera.cont, until_lost=True)


def silent_accept(stack: ExitStack) -> Staged:
    proxy = stack.enter_context(FaultProxy(stack.enter_context(RtspServer()).port))
    proxy.silent()
    return Staged(rtsp(proxy.port), end=proxy.pass_through, connecting=True)


def stall_during_open(stack: ExitStack) -> Staged:
    """The first answer comes, and nothing after it."""
    return stall_after(1, stack)


def stall_before_pictures(stack: ExitStack) -> Staged:
    """All is agreed on, and no picture comes."""
    return stall_after(HANDSHAKE_BYTES, stack)


def stall_after(num_bytes: int, stack: ExitStack) -> Staged:
    proxy = stack.enter_context(FaultProxy(stack.enter_context(RtspServer()).port))

    def begin() -> None:
        until_s = time.monotonic() + START_S
        while proxy.bytes_down < num_bytes and time.monotonic() < until_s:
            time.sleep(0.0005)
        proxy.stall()

    return Staged(rtsp(proxy.port), begin, proxy.pass_through, connecting=True)


def corrupt(stack: ExitStack) -> Staged:
    proxy = stack.enter_context(FaultProxy(stack.enter_context(RtspServer()).port))
    return Staged(
        rtsp(proxy.port),
        lambda: proxy.corrupt(seed=1, share=CORRUPT_SHARE),
        proxy.pass_through,
        lasts_s=CORRUPT_S,
    )


def other_size(stack: ExitStack) -> Staged:
    camera = stack.enter_context(RtspServer())
    return Staged(
        camera.url,
        camera.kill,
        lambda: camera.restart(OTHER_SIZE),
        until_lost=True,
        size=OTHER_SIZE,
    )


def unknown_host(stack: ExitStack) -> Staged:
    return Staged("rtsp://no-such-host.invalid/live", end=None, connecting=True)


def wrong_password(stack: ExitStack) -> Staged:
    """The server is replaced by one that takes the password."""
    cameras = [
        stack.enter_context(RtspServer(user="admin", password=password, digest=True))
        for password in ("another", "mine")
    ]
    proxy = stack.enter_context(FaultProxy(cameras[0].port))

    def end() -> None:
        proxy.upstream = cameras[1].port

    return Staged(rtsp(proxy.port, "admin:mine@"), end=end, connecting=True)


def not_found(stack: ExitStack) -> Staged:
    server = stack.enter_context(MjpegServer())
    server.status(404)
    return Staged(server.url, end=lambda: server.status(200), connecting=True)


STAGES: dict[str, Callable[[ExitStack], Staged]] = {
    "stall": stall,
    "long stall": long_stall,
    "TCP reset": reset,
    "server killed": killed,
    "server stopped": stopped,
    "silent accept": silent_accept,
    "stall during open": stall_during_open,
    "stall before pictures": stall_before_pictures,
    "corrupt bytes": corrupt,
    "another size": other_size,
    "DNS failure": unknown_host,
    "wrong password": wrong_password,
    "404": not_found,
}
