"""Streams that visitors bring: their camera, a clip, or an address if the operator allows it.

Such a stream is not listed: it has a name that cannot be guessed, and is watched for as long as
someone looks at it. There are as many as the operator has made room for, each at the rate that the
device has left.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sources.errors import SourceError
from sources.frame import VideoSource
from sources.open import open_client_source, open_source
from sources.policy import ClientPolicy
from sources.pushed import PushedSource
from stream.ingest import TakesPictures
from stream.live_view import LiveView
from stream.registry import StreamRegistry
from stream.session import StreamConfig

VISITORS_PATH = "/v1/visitors/"
TARGET_FPS = 25.0
# Less than this is not worth watching.
LEAST_FPS = 5.0
# Streams outlive a connection that is lost for a moment.
GRACE_S = 15.0
# What a clip has shown can still be asked about.
KEPT_S = 120.0
_LOOK_S, _TRY_S = 0.5, 0.05
_END_WITHIN_S = 5.0
# What each kind of file begins with, at which byte. Nothing else is opened: a list of other files,
# say, would have us read those.
_CLIPS = ((4, b"ftyp"), (0, b"\x1aE\xdf\xa3"), (8, b"AVI "))


class NoRoomError(Exception):
    """A visitor's stream that was not opened; one sentence says why."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A stream that a visitor may watch: its name, and at how many frames a second."""

    name: str
    fps: float


class Visitors:
    """Opens and closes them; all methods run on one event loop."""

    def __init__(
        self,
        registry: StreamRegistry,
        live: LiveView,
        pushed: dict[str, TakesPictures],
        most: int,
        policy: ClientPolicy,
    ) -> None:
        """There are none yet.

        Args:
            pushed: where cameras are entered, for those who take their pictures.
            most: how many there may be at once.
            policy: which addresses may be asked for.
        """
        self._registry, self._live, self._pushed = registry, live, pushed
        self.places, self.policy = most, policy
        # What looks after each; it ends when the stream is closed.
        self._open: dict[str, asyncio.Task[None]] = {}
        self._num_coming = 0

    async def camera(self) -> Grant:
        """A stream of pictures that are pushed to its name; raises NoRoomError."""
        source = PushedSource("a visitor's camera")
        grant = await self._watch(lambda: source)
        self._pushed[grant.name] = source
        return grant

    async def clip(self, file: Path) -> Grant:
        """A video file, played once as a camera would send it; it is deleted in the end.

        Raises:
            NoRoomError, SourceError: then it is deleted at once.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(file.unlink, missing_ok=True)
            with file.open("rb") as opened:
                head = opened.read(16)
            if not any(head[at:].startswith(magic) for at, magic in _CLIPS):
                raise SourceError(
                    "This is no video that is taken: give MP4, MOV, WebM, MKV or AVI."
                )
            try:
                return await self._watch(lambda: open_source(str(file)), stack.pop_all().close)
            except SourceError:
                # What it says names where the file was put.
                raise SourceError("This clip cannot be read as a video.") from None

    async def address(self, url: str) -> Grant:
        """A network source, if the policy allows it; raises NoRoomError, SourceError."""
        return await self._watch(lambda: open_client_source(url, self.policy))

    def check_room(self) -> float:
        """At how many frames a second one more could be watched; raises NoRoomError."""
        if not self.places:
            raise NoRoomError("The operator has made no room for visitors' sources.")
        if len(self._open) + self._num_coming >= self.places:
            if self.places == 1:
                raise NoRoomError("The one place for visitors' sources is taken; try again later.")
            raise NoRoomError(f"All {self.places} places for visitors' sources are taken.")
        fps = round(self._registry.rate_left(TARGET_FPS), 1)
        if fps < LEAST_FPS:
            raise NoRoomError("This machine has no time left for one more stream.")
        return fps

    @contextlib.contextmanager
    def coming(self) -> Iterator[None]:
        """Something is on its way, and takes a place until it is here; raises NoRoomError."""
        self.check_room()
        self._num_coming += 1
        try:
            yield
        finally:
            self._num_coming -= 1

    async def close(self, name: str) -> None:
        """End one; nothing happens if there is none of this name."""
        task = self._open.get(name)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def close_all(self) -> None:
        """End all of them."""
        await asyncio.gather(*(self.close(name) for name in list(self._open)))

    async def _watch(
        self, open: Callable[[], VideoSource], let_go: Callable[[], None] = lambda: None
    ) -> Grant:
        """Open a source and watch it; `let_go` is called once it is read no more, maybe again."""
        try:
            fps = self.check_room()
        except NoRoomError:
            let_go()
            raise
        name, begun = f"visitor-{secrets.token_urlsafe(12)}", asyncio.Event()
        looking = asyncio.create_task(self._look_after(name, begun, let_go))
        self._open[name] = looking
        try:
            source = await _opened(open)
            try:
                self._registry.open(name, source, StreamConfig(fps=fps), listed=False)
                await self._start(name)
            except ValueError:
                source.close()
                raise NoRoomError("There is no room for one more stream just now.") from None
        except BaseException:
            looking.cancel()
            raise
        begun.set()
        return Grant(name, fps)

    async def _start(self, name: str) -> None:
        """Begin to watch; what was closed a moment ago may still have its place."""
        for _ in range(round(_END_WITHIN_S / _TRY_S)):
            try:
                return self._registry.start(name)
            except ValueError:
                await asyncio.sleep(_TRY_S)
        self._registry.start(name)

    async def _look_after(
        self, name: str, begun: asyncio.Event, let_go: Callable[[], None]
    ) -> None:
        """Close a stream once nobody has looked for a while or its source has ended for long.

        So it is, too, when this is cancelled.
        """
        unseen_s = over_s = 0.0
        try:
            await begun.wait()
            session = self._registry.get(name)
            while unseen_s < GRACE_S and over_s < KEPT_S:
                await asyncio.sleep(_LOOK_S)
                unseen_s = 0.0 if self._live.num_lookers(name) else unseen_s + _LOOK_S
                if session.source_state is not None and session.source_state.over:
                    over_s += _LOOK_S
                    let_go()
        finally:
            self._open.pop(name, None)
            self._pushed.pop(name, None)
            try:
                with contextlib.suppress(LookupError):
                    why = "nobody looked at it any more"
                    await asyncio.to_thread(self._registry.close, name, why, _END_WITHIN_S)
            finally:
                let_go()  # also if the program ends meanwhile


async def _opened(open: Callable[[], VideoSource]) -> VideoSource:
    """A source, opened on a thread; if nobody waits for it any more it is closed."""

    def close(opening: asyncio.Future[VideoSource]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            opening.result().close()

    opening = asyncio.ensure_future(asyncio.to_thread(open))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(close)
        raise
