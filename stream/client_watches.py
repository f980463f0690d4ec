"""Who watches which stream through one client, what they want of it, and what they are told."""

import asyncio
from dataclasses import dataclass, field

from stream.client_heard import RefusedError
from stream.protocol import Channel, ErrorMessage, GoingAway, Stats, StreamState, StreamSubscribe

Watched = StreamState | Stats | GoingAway
_Told = Watched | RefusedError | None
_MOST_WAITING = 256


@dataclass(frozen=True, slots=True, eq=False)
class Watch:
    """One who watches a stream: what is wanted, and what waits to be taken; None ends it."""

    wanted: StreamSubscribe
    told: asyncio.Queue[_Told] = field(default_factory=lambda: asyncio.Queue(_MOST_WAITING))

    def wants(self, message: Watched) -> bool:
        if isinstance(message, GoingAway):
            return True
        channel = "state" if isinstance(message, StreamState) else "stats"
        return message.stream == self.wanted.stream and channel in self.wanted.channels

    def tell(self, item: _Told) -> None:
        """Let an item wait, in the place of the oldest if need be."""
        if self.told.full():
            self.told.get_nowait()
        self.told.put_nowait(item)


class Watches:
    """All who watch through one client."""

    def __init__(self) -> None:
        self._watches: list[Watch] = []

    @property
    def streams(self) -> set[str]:
        """Those that anybody watches."""
        return {watch.wanted.stream for watch in self._watches}

    def add(self, wanted: StreamSubscribe) -> Watch:
        """One more, to be told what is wanted until `remove`."""
        watch = Watch(wanted)
        self._watches.append(watch)
        return watch

    def remove(self, watch: Watch) -> None:
        self._watches.remove(watch)

    def subscription(self, stream: str) -> StreamSubscribe:
        """What all who watch a stream want of it, as often as any: only the last word is kept."""
        wanted = [watch.wanted for watch in self._watches if watch.wanted.stream == stream]
        stats = [one.stats_interval_ms for one in wanted if "stats" in one.channels]
        channels: tuple[Channel, ...] = ("stats",) if stats else ()
        if any("state" in one.channels for one in wanted):
            channels = ("state", *channels)
        return wanted[0].model_copy(
            update={"channels": channels, "stats_interval_ms": min(stats, default=1000)}
        )

    def tell(self, message: Watched) -> None:
        """Tell those who want it."""
        for watch in self._watches:
            if watch.wants(message):
                watch.tell(message)

    def refuse(self, stream: str, message: ErrorMessage) -> None:
        """The server refused what is wanted of a stream."""
        for watch in self._watches:
            if watch.wanted.stream == stream:
                watch.tell(RefusedError(message))

    def end(self) -> None:
        """Nothing will come any more."""
        for watch in self._watches:
            watch.tell(None)
