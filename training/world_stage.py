"""The stage: who is on it, what happens next, and the rule that no two things ever overlap.

Every thing owns the box that its present move sweeps; a plan is carried out only if its box is free
of all others. So whatever is visible is visible whole. Times are those of events, never of frames.
"""

import heapq
import random
from collections.abc import Callable
from typing import Any

from training.world_history import Event, History
from training.world_scene import FIRST_PICTURE, LAYERS, NUMBER_SLOT, PICTURES, WORD_SLOT
from training.world_track import NEVER, Box, Track

_GAP = 0.015
_EDGE = 0.02
_FADE_S = 0.4


class Stage:
    """Tracks in their slots, events in their order, and the history they leave."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.slots: list[Track | None] = [None] * LAYERS
        self.history = History()
        # how many things are coming, going or blinking
        self.busy = 0
        self.busy_until = -NEVER
        self._agenda: list[tuple[float, int, Callable[[float, Any], None], Any]] = []
        self._num_planned = 0

    def at(self, t: float, do: Callable[[float, Any], None], what: Any = None) -> None:
        """Plan do(t, what)."""
        self._num_planned += 1
        heapq.heappush(self._agenda, (t, self._num_planned, do, what))

    def run_until(self, t: float) -> None:
        """Let everything planned up to t happen, in order."""
        agenda = self._agenda
        while agenda and agenda[0][0] <= t:
            when, _, do, what = heapq.heappop(agenda)
            do(when, what)

    def tracks(self) -> list[Track]:
        """Everything that has a name and is at least partly there."""
        return [track for track in self.slots if track is not None]

    def pictures(self) -> list[Track]:
        """All tracks but the texts."""
        return [track for track in self.slots[FIRST_PICTURE:WORD_SLOT] if track is not None]

    def free_picture_slot(self) -> int | None:
        """A slot no picture is in."""
        for slot in range(FIRST_PICTURE, FIRST_PICTURE + PICTURES):
            if self.slots[slot] is None:
                return slot
        return None

    def is_free(self, box: Box, t: float, *but: Track) -> bool:
        """Whether no other thing owns a part of the box from t on."""
        left, top, right, bottom = box
        for track in self.slots:
            if track is None or track in but:
                continue
            a, b, c, d = track.swept(t, max(t, track.move_end))
            if left < c + _GAP and a < right + _GAP and top < d + _GAP and b < bottom + _GAP:
                return False
        return True

    def find_place(self, track: Track, t: float) -> bool:
        """Put a thing at a free place, all inside the frame; False if a few tries find none."""
        random_ = self.rng.random
        a, b = track.half_width + _EDGE, track.half_height + _EDGE
        for _ in range(8):
            track.x0 = a + random_() * (1 - 2 * a)
            track.y0 = b + random_() * (1 - 2 * b)
            if self.is_free(track.swept(t, t), t):
                return True
        return False

    def enter(self, track: Track, t: float, how: str) -> None:
        """Bring a thing in at its place; a way in that is not free becomes a pop."""
        if how == "slide" and not self._slide_in(track, t):
            how = "pop"
        if how in ("fade", "grow"):
            track.t_shown = t + _FADE_S
        track.t_in, track.enters = t, how
        self.slots[track.slot] = track
        self._unsettle(t)
        if track.t_shown > t:
            self.at(track.t_shown, self._shown, track)
        else:
            self._shown(t, track)

    def _slide_in(self, track: Track, t: float) -> bool:
        dx, dy, distance = _way_out(track, *track.place(t))
        seconds = distance / self.rng.uniform(0.5, 0.9)
        x, y = track.x0, track.y0
        track.x0, track.y0 = x + dx * distance, y + dy * distance
        track.move(t, -dx * distance / seconds, -dy * distance / seconds, seconds)
        if not self.is_free(track.swept(t, track.move_end), t):
            track.x0, track.y0 = x, y
            track.move(t, 0.0, 0.0, 0.0)
            track.x0, track.y0 = x, y
            return False
        track.t_shown = track.move_end
        return True

    def forget(self, t: float) -> None:
        """Begin the history anew, as if what is there now had all come at t."""
        self.history = History(began_s=t)
        for track in self.tracks():
            if track.t_shown <= t:
                self._record(track, t, t)
        self._snap(t)

    def _shown(self, t: float, track: Track) -> None:
        self._record(track, track.t_in, t)
        self.history.note(Event(track.t_in, t, "enter", track.name))
        self._settle(t)

    def _record(self, track: Track, t_in: float, t: float) -> None:
        history = self.history
        if track.slot == NUMBER_SLOT:
            history.number.text, history.number.gone_at = track.name, None
        else:
            history.appear(track.name, track.is_text, t_in, t)
        if track.slot == WORD_SLOT:
            history.word.text, history.word.gone_at = track.name, None

    def leave(self, track: Track, t: float, how: str) -> None:
        """Take a thing away; a way out that is not free becomes a pop."""
        seconds = 0.0
        if how == "slide":
            dx, dy, distance = _way_out(track, *track.place(t))
            seconds = distance / self.rng.uniform(0.5, 0.9)
            x, y = track.place(t)
            a, b = track.half_width, track.half_height
            z, w = x + dx * distance, y + dy * distance
            way = (min(x, z) - a, min(y, w) - b, max(x, z) + a, max(y, w) + b)
            if self.is_free(way, t, track):
                track.move(t, dx * distance / seconds, dy * distance / seconds, seconds)
            else:
                how, seconds = "pop", 0.0
        elif how in ("fade", "grow"):
            seconds = _FADE_S
        track.leaves, track.t_hide, track.t_gone = how, t, t + seconds
        self._unsettle(t)
        if seconds > 0:
            self.at(track.t_gone, self._gone, track)
        else:
            self._gone(t, track)

    def _gone(self, t: float, track: Track) -> None:
        self.slots[track.slot] = None
        history = self.history
        if track.slot == NUMBER_SLOT:
            history.number.gone_at = t
        else:
            x, y = track.place(t)
            slid = track.leaves == "slide"
            region = None if slid or track.moved else region_of(x, y)
            history.vanish(track.name, track.t_hide, t, region, None if slid else _nearest(x, y))
        if track.slot == WORD_SLOT:
            history.word.gone_at = t
        history.note(Event(track.t_hide, t, "leave", track.name))
        self._settle(t)

    def blink(self, track: Track, t: float, seconds: float) -> None:
        """Let a thing go on and off for a while."""
        track.blink_start, track.blink_end = t, t + seconds
        self._unsettle(t)
        self.at(t + seconds, self._blinked, track)

    def _blinked(self, t: float, track: Track) -> None:
        self.history.note(Event(track.blink_start, t, "blink", track.name))
        self._settle(t)

    def _unsettle(self, t: float) -> None:
        self.busy += 1
        self._snap(t)

    def _settle(self, t: float) -> None:
        self.busy -= 1
        self.busy_until = t
        if self.busy == 0:
            self._snap(t)

    def _snap(self, t: float) -> None:
        names = None if self.busy else tuple(track.name for track in self.tracks())
        self.history.snap(t, names)


def _way_out(track: Track, x: float, y: float) -> tuple[float, float, float]:
    """The direction of the nearest edge and how far a thing must go to be all outside."""
    ways = (
        (x + track.half_width, -1.0, 0.0),
        (1 - x + track.half_width, 1.0, 0.0),
        (y + track.half_height, 0.0, -1.0),
        (1 - y + track.half_height, 0.0, 1.0),
    )
    distance, dx, dy = min(ways)
    return dx, dy, distance + _EDGE


def region_of(x: float, y: float) -> str | None:
    """Where in the frame a point is, in plain words; None near the border of two regions."""
    column, row = _third(x), _third(y)
    if column is None or row is None:
        return None
    return _REGIONS[row][column]


def _nearest(x: float, y: float) -> str:
    """The region of a point, near a border, too."""
    column, row = (0 if v < 0.36 else 2 if v > 0.64 else 1 for v in (x, y))
    return _REGIONS[row][column]


def _third(v: float) -> int | None:
    if v < 0.32:
        return 0
    if v > 0.68:
        return 2
    return 1 if 0.40 < v < 0.60 else None


_REGIONS = (
    ("at the top left", "at the top", "at the top right"),
    ("on the left", "in the centre", "on the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)
REGIONS = tuple(region for row in _REGIONS for region in row)
