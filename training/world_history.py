"""What the world remembers of itself: just enough to answer for the past, however long.

One record for each name of the cast, the visible names of the last minute, and the last of each
sort of event. Names that came too close together to be put in order are AMBIGUOUS and never asked.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

AMBIGUOUS = "?"
# Two things that came closer together than this have no order.
ORDER_S = 0.8
SNAPSHOTS_S = 75.0
EVENTS_S = 8.0
# What is no older has just happened, and what is older than LONG_S no longer has.
JUST_S, LONG_S = 1.8, 5.0
# A thing that comes back sooner may pass for one that blinked.
MIN_AWAY_S = 1.6
# How long after a cut it is not plain what came and went.
ALONE_S = 2.5


@dataclass(slots=True)
class Record:
    """All appearances of one name."""

    is_text: bool
    count: int = 0
    first_in: float = 0.0
    first_gone: float | None = None
    last_in: float = 0.0
    # None while it is there
    last_gone: float | None = None
    # where it last was, "?" where that has no plain answer
    region: str = AMBIGUOUS
    # the names of the pictures that came before and after its first appearance, None for nothing
    before: str | None = None
    after: str | None = None
    after_at: float = 0.0
    # the picture that came before its latest appearance
    follows: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that can be asked about while it is fresh."""

    start: float
    end: float
    sort: str
    text: str


@dataclass(slots=True)
class LastText:
    """The last word or number shown, and when it went; None while it is there."""

    text: str | None = None
    gone_at: float | None = None


@dataclass(slots=True)
class History:
    """Everything that questions about the past need."""

    # since when one has watched
    began_s: float = 0.0
    records: dict[str, Record] = field(default_factory=dict)
    snapshots: deque[tuple[float, tuple[str, ...] | None]] = field(default_factory=deque)
    events: deque[Event] = field(default_factory=deque)
    word: LastText = field(default_factory=LastText)
    number: LastText = field(default_factory=LastText)
    first: str | None = None
    first_at: float = 0.0
    last_left: str | None = None
    last_left_at: float = -100.0
    # the region nearest to where that was
    left_from: str = AMBIGUOUS
    # a thing that changed its colour makes "how many different" a matter of taste
    recoloured: bool = False
    num_pictures: int = 0
    colour_before: str | None = None
    colour_changed_at: float = 0.0
    _newest: str | None = None
    _newest_shown: float = -100.0

    def may_come(self, name: str, t: float) -> bool:
        """Whether a thing has never been there, or has been away for long enough to come back."""
        record = self.records.get(name)
        return record is None or (
            record.last_gone is not None and t - record.last_gone >= MIN_AWAY_S
        )

    def appear(self, name: str, is_text: bool, t_in: float, t_shown: float) -> None:
        """A thing has fully come in."""
        record = self.records.get(name)
        if record is None:
            record = self.records[name] = Record(is_text, first_in=t_in, before=AMBIGUOUS)
            if not is_text:
                self.num_pictures += 1
                self._order(name, record, t_in)
        record.count += 1
        record.last_in, record.last_gone = t_in, None
        if not is_text:
            self._follow(name, t_in)
            self._newest, self._newest_shown = name, t_shown

    def _order(self, name: str, record: Record, t_in: float) -> None:
        """Put a picture that was never there before in its place after the newest one."""
        if self._newest is None:
            record.before = None
            self.first, self.first_at = name, t_in
        elif t_in - self._newest_shown >= ORDER_S:
            record.before = self._newest

    def _follow(self, name: str, t_in: float) -> None:
        """Tell a picture what it came after, and that one what came after it."""
        if self._newest is None:
            return
        apart = t_in - self._newest_shown >= ORDER_S
        self.records[name].follows = self._newest if apart else AMBIGUOUS
        newest = self.records[self._newest]
        if newest.after is None:
            newest.after, newest.after_at = (name if apart else AMBIGUOUS), t_in
        if not apart and self.first == self._newest and self.records[self.first].count == 1:
            self.first = AMBIGUOUS

    def vanish(
        self, name: str, t_hide: float, t_gone: float, region: str | None, nearest: str | None
    ) -> None:
        """A thing has fully gone, from a region where that is plain, else from near one."""
        record = self.records[name]
        record.last_gone = t_gone
        record.region = region or AMBIGUOUS
        if record.first_gone is None:
            record.first_gone = t_gone
        if not record.is_text:
            apart = t_hide - self.last_left_at >= ORDER_S
            self.last_left = name if apart else AMBIGUOUS
            self.left_from = nearest if apart and nearest else AMBIGUOUS
            self.last_left_at = t_gone

    @property
    def newest_two(self) -> tuple[str | None, str | None]:
        """The pictures that came last and before that; AMBIGUOUS if they have no order."""
        if self._newest is None:
            return None, None
        before = self.records[self._newest].follows
        return (AMBIGUOUS if before == AMBIGUOUS else self._newest), before

    def note(self, event: Event) -> None:
        """Remember an event for a few seconds."""
        self.events.append(event)
        while self.events[0].end < event.end - EVENTS_S:
            self.events.popleft()

    def lately(self, sort: str, t: float) -> Event | Literal[False] | None:
        """The event of a sort that has just happened; False if none has, None if unclear."""
        last = None
        for event in reversed(self.events):
            if event.sort == "cut" != sort and t - event.end < ALONE_S:
                return None
            if event.sort == sort and last is None:
                last = event
        if last is None or t - last.end > LONG_S:
            return False if t - self.began_s > LONG_S else None
        return last if t - last.end <= JUST_S and last.end - self.began_s > 1.0 else None

    def snap(self, t: float, names: tuple[str, ...] | None) -> None:
        """From t on these names are visible; None while something comes, goes or blinks."""
        if self.snapshots and self.snapshots[-1][0] == t:
            self.snapshots.pop()
        self.snapshots.append((t, names))
        while len(self.snapshots) > 1 and self.snapshots[1][0] < t - SNAPSHOTS_S:
            self.snapshots.popleft()

    def visible_during(self, start: float, end: float) -> tuple[str, ...] | None:
        """The names visible all the time from start to end, None if they changed."""
        for t, names in reversed(self.snapshots):
            if t <= start:
                return names
            if t < end:
                return None
        return None
