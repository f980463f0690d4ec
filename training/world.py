"""An endless stream of things to see, from a seed, one frame at a time.

    world = World(seed=7, fps=2.0, style=WorldStyle())
    scene = world.advance()            # what to draw
    qa = ask(world, random.Random(1))  # what one may ask at this moment

The stage keeps time in seconds; a frame only looks at it. So the frame rate changes how often the
same events are seen, and nothing else, and a world remembers only what its questions need.
"""

import math
import random

import numpy as np

from training.world_casting import Casting
from training.world_catalogue import NUM_CLUTTER
from training.world_director import Director
from training.world_history import History, Record
from training.world_scene import (
    CHANGES,
    CLUTTER,
    EMPTY_LAYER,
    EMPTY_TEXT,
    FIRST_PICTURE,
    NUMBER_SLOT,
    PAST_FIELDS,
    STREAM_FIELDS,
    UNKNOWN,
    WORD_SLOT,
    Scene,
)
from training.world_stage import REGIONS, Stage, region_of
from training.world_style import WorldStyle
from training.world_track import Track

__all__ = ["World", "WorldStyle"]

_MIN_FPS = 2.0
# sharp more often than not
_BLUR_LEVELS = (0, 0, 0, 1, 1, 2, 3)
_NO_CLASSES = (0.0,) * CLUTTER
_NO_PAST = (UNKNOWN,) * len(PAST_FIELDS)
# What has been there more often, or more things than this, is not counted.
MAX_TIMES, MAX_DISTINCT = 6, 12
# What can be asked of a thing that may be gone: its class; the classes of those that came before
# and after it, 0 for nothing; how often it has been there; where it is or was; whether it is there.
RECOLLECTED = ("class", "came_before", "came_after", "how_often", "last_at", "still_there")
# A row that tells nothing.
NOTHING_TOLD = (0.0, *(UNKNOWN,) * (len(RECOLLECTED) - 1))


class World:
    """A stream's present and past; how far one answer may be ahead of the other is its leeway."""

    def __init__(self, seed: int, fps: float, style: WorldStyle, leeway: int = 1) -> None:
        if fps < _MIN_FPS:
            raise ValueError(f"below {_MIN_FPS} frames per second events go unseen, got {fps}")
        self.seed, self.fps, self.style, self.leeway = seed, fps, style, leeway
        # whether what is remembered of it is unclear: nothing is said of the past then
        self.unclear = False
        self.now = 0.0
        self.stage = Stage(random.Random(seed))
        self.casting = Casting(self.stage.rng, style)
        self.director = Director(self.stage, self.casting, style)
        # which answer each yes-or-no family owes next, so that neither is the better guess
        self.wanted: dict[str, bool] = {}
        # ... or how far yes, or what stands for it, is ahead of no, from 0 to the leeway
        self.ahead: dict[str, int] = {}
        # whether this scene is before a photo and has clutter in it
        self.crowded = False
        self._num_frames = 0
        self._num_cuts = -1
        self.director.begin()

    @property
    def history(self) -> History:
        """What it remembers."""
        return self.stage.history

    @property
    def watched_s(self) -> float:
        """For how long one has watched, since the stream began or was forgotten, in seconds."""
        return self.now - self.history.began_s

    def forget(self) -> None:
        """Remember only what is there now, as one who has just begun to watch."""
        self.stage.forget(self.now)

    def tracks(self) -> list[Track]:
        """Everything nameable that is at least partly there now."""
        return self.stage.tracks()

    def pictures(self) -> list[Track]:
        """The tracks that are no text."""
        return self.stage.pictures()

    def advance(self) -> Scene:
        """Move on by one frame; the first is at time 0."""
        t = self.now = self._num_frames / self.fps
        self._num_frames += 1
        self.stage.run_until(t)
        if self.director.num_cuts != self._num_cuts:
            self._num_cuts = self.director.num_cuts
            self._set_scene()
        return Scene(np.array(self._values(t), np.float32))

    def _values(self, t: float) -> list[float]:
        slots = self.stage.slots
        values = list(self._clutter)
        for track in slots[FIRST_PICTURE:]:
            values += EMPTY_LAYER if track is None else track.layer(t)
        for slot in (WORD_SLOT, NUMBER_SLOT):
            track = slots[slot]
            values += EMPTY_TEXT if track is None else track.glyphs
        values += _NO_CLASSES
        values += [0.0 if track is None else track.class_id for track in slots[FIRST_PICTURE:]]
        values += _NO_CLASSES
        values += [
            0.0 if track is None else track.motion(t, self.fps) for track in slots[FIRST_PICTURE:]
        ]
        for track in slots[FIRST_PICTURE:WORD_SLOT]:
            values += _NO_PAST if track is None else self._past_of(track, t)
        values += self._past_of_stream()
        values += self._view
        shake, phase = self._shake, self._phase
        values.append(self._gain * (1 + 0.02 * math.sin(2.3 * t + phase)))
        values += self._grain
        values.append(shake * math.sin(5.1 * t + phase))
        values.append(shake * math.sin(6.7 * t + 2 * phase))
        return values

    def _past_of(self, track: Track, t: float) -> tuple[float, ...]:
        """What one must remember to know of a picture, in the order of PAST_FIELDS."""
        record = self.history.records.get(track.name)
        if record is None or t < track.t_shown or self.unclear:
            return _NO_PAST
        return self._class_of(record.before), self._class_of(record.follows), _times(record)

    def recollect(self, name: str) -> tuple[float, ...]:
        """Of one of the cast, which may never have come, in the order of RECOLLECTED."""
        track = next((t for t in self.pictures() if t.name == name), None)
        class_id, record = self._class_of(name), self.history.records.get(name)
        if track is not None and not track.t_shown <= self.now < track.t_hide:
            return (class_id, *NOTHING_TOLD[1:])
        if record is None:
            return class_id, UNKNOWN, UNKNOWN, 0.0, UNKNOWN, 0.0
        region = region_of(*track.place(self.now)) if track is not None else record.region
        # Of what has been there again it is never asked what came before or after it.
        before, after = (
            UNKNOWN if record.count > 1 else 0.0 if other is None else self._class_of(other)
            for other in (record.before, record.after)
        )
        there = float(track is not None)
        return class_id, before, after, _times(record), _place(region), there

    def _past_of_stream(self) -> tuple[float, ...]:
        """In the order of STREAM_FIELDS."""
        if self.unclear:
            return (UNKNOWN,) * len(STREAM_FIELDS)
        history = self.history
        count = history.num_pictures
        plain = count <= MAX_DISTINCT and not history.recoloured
        return (
            float(count) if plain else UNKNOWN,
            self._class_of(history.last_left),
            _place(history.left_from),
            *(self._happened(sort) for sort in ("enter", "leave", "cut")),
            UNKNOWN if any(k.grow_end > self.now for k in self.pictures()) else self._changed(),
            *map(self._class_of, history.newest_two),
        )

    def _happened(self, sort: str) -> float:
        event = self.history.lately(sort, self.now)
        return UNKNOWN if event is None else float(event is not False)

    def _changed(self) -> float:
        event = self.history.lately("change", self.now)
        if event is None or event is False:
            return UNKNOWN if event is None else 0.0
        how = event.text.split()[-1]
        return float(CHANGES.index(how if how in CHANGES else "colour"))

    def _class_of(self, name: str | None) -> float:
        return float(self.casting.class_of.get(name or "", UNKNOWN))

    def _set_scene(self) -> None:
        """Choose background, light and camera for what follows a cut."""
        rng = random.Random(f"{self.seed} {self._num_cuts}")
        uniform, style = rng.uniform, self.style
        catalogue = self.casting.catalogue
        photo = rng.random() < style.photo_share
        bright = uniform(0.45, 1.2)
        self._view = (
            float(rng.choice(catalogue.photos if photo else catalogue.painted)),
            uniform(-1.0, 1.0),
            uniform(-1.0, 1.0),
            uniform(1.0, 2.2),
            uniform(-0.5, 0.5),
            float(rng.choice(_BLUR_LEVELS)),
            *(bright * uniform(0.8, 1.2) for _ in range(3)),
        )
        self._gain = uniform(0.8, 1.12)
        softness = rng.choice((0.0, 0.0, uniform(0.2, 0.9)))
        self._grain = (softness, style.noise * rng.random() ** 2)
        self._shake = rng.choice((0.0, 0.0, uniform(0.0, 0.004)))
        self._phase = uniform(0.0, 6.28)
        self._clutter: list[float] = []
        num_clutter = rng.randint(0, style.clutter)
        self.crowded = photo and num_clutter > 0
        for i in range(CLUTTER):
            self._clutter += self._scrap(rng) if i < num_clutter else EMPTY_LAYER

    def _scrap(self, rng: random.Random) -> tuple[float, ...]:
        """Something that has no name, to be looked past."""
        uniform = rng.uniform
        cell = self.casting.catalogue.clutter_cell + rng.randrange(NUM_CLUTTER)
        tint = (uniform(0.1, 0.9), uniform(0.1, 0.9), uniform(0.1, 0.9))
        size, angle = uniform(0.15, 0.6), uniform(0.0, 6.28)
        return (float(cell), rng.random(), rng.random(), size, angle, *tint, uniform(0.3, 0.9))


def _times(record: Record) -> float:
    return float(record.count) if record.count <= MAX_TIMES else UNKNOWN


def _place(region: str | None) -> float:
    return float(REGIONS.index(region)) if region in REGIONS else UNKNOWN
