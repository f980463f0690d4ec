"""What happens when: at every tick the director picks one thing to do, and does it if it can.

All chance comes from one generator, drawn at events only, so a world is the same at every frame
rate. A tick that picks something impossible just lets time pass.
"""

import dataclasses

from training.world_casting import Casting, jitter
from training.world_catalogue import COLOURS, SHAPES, Kind
from training.world_history import Event
from training.world_scene import NUMBER_SLOT, WORD_SLOT
from training.world_stage import Stage
from training.world_style import WorldStyle
from training.world_track import BLINK_PERIOD_S, Track

# The opening scene is there before the first frame, so that one can ask about it at once.
OPENING_S = -1.0
_MIN_STAY_S = 1.6
_MIN_MOVE = 0.22
_WAYS = ("pop", "pop", "fade", "grow", "slide", "slide")
_AXES = ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0))


class Director:
    """Chooses what the cast does."""

    def __init__(self, stage: Stage, casting: Casting, style: WorldStyle) -> None:
        self.stage, self.casting, self.style = stage, casting, style
        self._rng = stage.rng
        # how often the scene was cut
        self.num_cuts = 0
        self._actions = (
            (self._enter, 2.2),
            (self._leave, 1.4),
            (self._move, 5.5 * style.motion_rate),
            (self._text, 2.2 * style.text_rate),
            (self._resize, 1.6 * style.change_rate),
            (self._recolour, 1.8 * style.change_rate),
            (self._blink, 0.6),
            (self._bump, 0.5 * style.motion_rate),
            (self._hide, 1.0),
            (self._cut, 0.7 * style.cut_rate),
        )
        self._methods = [action for action, _ in self._actions]
        # No two worlds are alike: what is rare in one is common in another.
        temper = style.temper
        self._weights = [w * self._rng.lognormvariate(0.0, temper) for _, w in self._actions]

    def begin(self) -> None:
        """Set the opening scene and start ticking."""
        rng = self._rng
        for _ in range(min(self.style.max_items, rng.choice((0, 1, 1, 1, 2, 3)))):
            self._enter(OPENING_S, how="pop")
        if rng.random() < 0.5 * self.style.text_rate:
            self._enter_text(OPENING_S, rng.choice((WORD_SLOT, NUMBER_SLOT)), replaces=True)
        for track in self.stage.pictures():
            if rng.random() < 0.3 * self.style.motion_rate:
                self._start_move(track, rng.uniform(OPENING_S, 0.0))
        self.stage.at(self.style.pace * rng.uniform(0.4, 1.4), self._tick)

    def _tick(self, t: float, _: None) -> None:
        rng = self._rng
        action = rng.choices(self._methods, self._weights)[0]
        if rng.random() < 0.7 and not self.stage.pictures():
            action = self._enter
        action(t)
        self.stage.at(t + self.style.pace * rng.uniform(0.4, 1.4), self._tick)

    def _enter(self, t: float, kind: Kind | None = None, how: str | None = None) -> bool:
        rng, stage = self._rng, self.stage
        slot = stage.free_picture_slot()
        present = stage.pictures()
        if slot is None or len(present) >= self.style.max_items:
            return False
        # One at a time, so that whatever came has a place in the order of coming.
        if any(track.t_shown > t for track in present):
            return False
        kind = kind or self.casting.absent(stage.history, t)
        if kind is None or any(track.name == kind.name for track in present):
            return False
        track = self.casting.picture(kind, slot, 0.40 if len(present) < 2 else 0.28, t)
        if not stage.find_place(track, t):
            return False
        stage.enter(track, t, how or rng.choice(_WAYS))
        return True

    def _someone(self, t: float, *, still: bool = False) -> Track | None:
        """A picture that has been there for a while and is not busy."""
        ready = [
            track
            for track in self.stage.pictures()
            if track.settled(t, 0.5) and (not still or t >= max(track.move_end, track.grow_end))
        ]
        return self._rng.choice(ready) if ready else None

    def _leave(self, t: float) -> bool:
        track = self._someone(t, still=True)
        if track is None or t - track.t_shown < _MIN_STAY_S:
            return False
        self.stage.leave(track, t, self._rng.choice(_WAYS))
        return True

    def _hide(self, t: float) -> bool:
        """Go and come back a little later."""
        track = self._someone(t, still=True)
        if track is None or track.kind is None or track.kind.name in SHAPES:
            return False
        if not self._leave_now(track, t):
            return False
        kind = track.kind
        self.stage.at(t + self._rng.uniform(2.5, 6.0), self._return, kind)
        return True

    def _leave_now(self, track: Track, t: float) -> bool:
        if t - track.t_shown < _MIN_STAY_S:
            return False
        self.stage.leave(track, t, self._rng.choice(("pop", "fade")))
        return True

    def _return(self, t: float, kind: Kind) -> None:
        if self.stage.history.may_come(kind.name, t):
            self._enter(t, kind)

    def _move(self, t: float) -> bool:
        track = self._someone(t, still=True)
        return track is not None and self._start_move(track, t)

    def _start_move(self, track: Track, t: float) -> bool:
        """Move along whichever axis there is room on."""
        headings = self._rng.sample(_AXES, len(_AXES))
        return any(self._head(track, t, dx, dy) for dx, dy in headings)

    def _head(self, track: Track, t: float, dx: float, dy: float) -> bool:
        """Move along an axis with a little drift, as far as there is room."""
        rng = self._rng
        x, y = track.place(t)
        a, b = track.half_width + 0.02, track.half_height + 0.02
        room = max((1 - a - x) if dx > 0 else (x - a), 0) if dx else 0.0
        room += max((1 - b - y) if dy > 0 else (y - b), 0) if dy else 0.0
        distance = min(room, rng.uniform(0.3, 0.65))
        drift = rng.uniform(-0.12, 0.12) * distance
        drift = min(max(y + drift, b), 1 - b) - y if dx else min(max(x + drift, a), 1 - a) - x
        if distance < _MIN_MOVE or abs(drift) > 0.2 * distance:
            return False
        seconds = distance / rng.uniform(0.08, 0.36)
        to_x = dx * distance + (drift if dy else 0.0)
        to_y = dy * distance + (drift if dx else 0.0)
        box = (
            min(x, x + to_x) - track.half_width,
            min(y, y + to_y) - track.half_height,
            max(x, x + to_x) + track.half_width,
            max(y, y + to_y) + track.half_height,
        )
        if not self.stage.is_free(box, t, track):
            return False
        track.moved = True
        track.move(t, to_x / seconds, to_y / seconds, seconds)
        if rng.random() < 0.5 * self.style.motion_rate:
            self.stage.at(t + seconds + rng.choice((0.0, 0.4)), self._move_on, track)
        return True

    def _move_on(self, t: float, track: Track) -> None:
        there = self.stage.slots[track.slot] is track and track.settled(t, 0.0)
        if there and t >= max(track.move_end, track.grow_end):
            self._start_move(track, t)

    def _bump(self, t: float) -> bool:
        """One runs up to another, stops as they touch, and pushes it away."""
        runner = self._someone(t, still=True)
        others = [k for k in self.stage.pictures() if k is not runner and k.settled(t, 0.5)]
        if runner is None or not others:
            return False
        other = self._rng.choice(others)
        (x, y), (z, w) = runner.place(t), other.place(t)
        if t < max(other.move_end, other.grow_end) or abs(y - w) > 0.1:
            return False
        gap = abs(z - x) - runner.half_width - other.half_width - 0.02
        sign = 1.0 if z > x else -1.0
        end = x + sign * gap
        box = (min(x, end) - runner.half_width, y - runner.half_height,
               max(x, end) + runner.half_width, y + runner.half_height)  # fmt: skip
        if gap < _MIN_MOVE or not self.stage.is_free(box, t, runner):
            return False
        seconds = gap / self._rng.uniform(0.2, 0.45)
        runner.moved = True
        runner.move(t, sign * gap / seconds, 0.0, seconds)
        runner.bump = other
        self.stage.at(t + seconds, self._push, runner)
        return True

    def _push(self, t: float, runner: Track) -> None:
        other, runner.bump = runner.bump, None
        there = self.stage.pictures()
        if runner not in there or other not in there or t < runner.move_end:
            return
        if other.settled(t, 0.5) and t >= max(other.move_end, other.grow_end):
            self._head(other, t, 1.0 if runner.vx > 0 else -1.0, 0.0)

    def _resize(self, t: float) -> bool:
        track = self._someone(t, still=True)
        if track is None:
            return False
        grows = track.size < 0.27
        factor = self._rng.uniform(1.5, 1.8) if grows else self._rng.uniform(0.55, 0.66)
        half = 0.6 * track.size * factor
        x, y = track.place(t)
        inside = half + 0.01 < min(x, y) and max(x, y) < 0.99 - half
        if not inside or not self.stage.is_free((x - half, y - half, x + half, y + half), t, track):
            return False
        track.was_size, track.size = track.size, track.size * factor
        track.grow_start, track.grow_end = t, t + 0.8
        track.half_width = track.half_height = max(half, track.half_width)
        self.stage.at(t + 0.8, self._resized, track)
        return True

    def _resized(self, t: float, track: Track) -> None:
        track.half_width = track.half_height = 0.6 * track.size
        track.changed_at = t
        how = "larger" if track.size > track.was_size else "smaller"
        self.stage.history.note(Event(t - 0.8, t, "change", f"the {track.name} got {how}"))

    def _recolour(self, t: float) -> bool:
        """The chameleon turns another colour."""
        ready = [k for k in self.stage.pictures() if k.name in SHAPES and k.settled(t, 0.5)]
        if not ready or ready[0].kind is None or t - ready[0].changed_at < _MIN_STAY_S:
            return False
        track, history = ready[0], self.stage.history
        before = ready[0].kind.colour
        after = self._rng.choice([colour for colour in COLOURS if colour != before])
        kind = self.casting.catalogue.shape_in(track.name, after)
        track.kind = dataclasses.replace(kind, name=track.name)
        track.class_id, track.tint = kind.class_id, jitter(kind.tint, 0.0)
        track.changed_at = t
        history.recoloured = True
        history.colour_before, history.colour_changed_at = before, t
        history.note(Event(t, t, "change", f"the {track.name} turned {after}"))
        return True

    def _blink(self, t: float) -> bool:
        track = self._someone(t, still=True)
        if track is None:
            return False
        self.stage.blink(track, t, 3 * BLINK_PERIOD_S)
        return True

    def _text(self, t: float) -> bool:
        """Show, take away or replace a word or a number."""
        rng, stage = self._rng, self.stage
        slot = rng.choice((WORD_SLOT, NUMBER_SLOT, NUMBER_SLOT))
        there = stage.slots[slot]
        if there is not None:
            if not there.settled(t, 0.0) or t - there.t_shown < _MIN_STAY_S:
                return False
            replace = rng.random() < 0.5
            stage.leave(there, t, "pop" if replace else rng.choice(("pop", "fade", "slide")))
            if not replace:
                return True
        return self._enter_text(t, slot, replaces=there is not None)

    def _enter_text(self, t: float, slot: int, *, replaces: bool) -> bool:
        rng, stage = self._rng, self.stage
        track = self.casting.text(slot, stage.history, t)
        if track is None or not stage.find_place(track, t):
            return False
        stage.enter(track, t, "pop" if replaces else rng.choice(("pop", "fade", "slide")))
        return True

    def _cut(self, t: float) -> bool:
        """A new background; half the time with a new set of things before it."""
        stage, rng = self.stage, self._rng
        if stage.busy or any(t - track.t_shown < _MIN_STAY_S for track in stage.tracks()):
            return False
        self.num_cuts += 1
        stage.history.note(Event(t, t, "cut", "the scene"))
        if rng.random() < 0.5:
            for track in stage.tracks():
                stage.leave(track, t, "pop")
            for _ in range(rng.choice((0, 1, 1, 2))):
                self._enter(t, how="pop")
        return True
