"""Who plays in a world: a cast of pictures, a dozen words, and the tracks made of them.

A cast keeps each name to one picture and no two names that may be said of one thing, so that what
was seen before can be asked about. One shape of some casts is a chameleon: it is the only one of
its shape, goes by that alone, and may change its colour.
"""

import dataclasses
import random

from training.render_variants import LOOKS
from training.world_catalogue import (
    COLOURS,
    RGB,
    SHAPES,
    WORDS,
    Kind,
    load_catalogue,
    load_index,
    names_like,
)
from training.world_history import History
from training.world_scene import EMPTY_TEXT, MAX_GLYPHS, NUMBER_SLOT, WORD_SLOT
from training.world_style import WorldStyle
from training.world_track import Track

_NUM_WORDS = 12
_CHARACTERS: str = load_index()["glyphs"]["characters"]


class Casting:
    """Chooses who and what appears, and how it looks."""

    def __init__(self, rng: random.Random, style: WorldStyle) -> None:
        self._rng, self._dye, self._looks = rng, style.dye, style.looks
        self.catalogue = load_catalogue(style.split)
        self.cast = self._choose_cast(style.cast)
        self.words = rng.sample(WORDS, _NUM_WORDS)
        # the class of each name; a chameleon's is not always the same
        self.class_of = {kind.name: kind.class_id for kind in self.cast if kind.name not in SHAPES}
        self._like_cast = frozenset().union(*(names_like(kind.name) for kind in self.cast))

    def _choose_cast(self, size: int) -> list[Kind]:
        rng, catalogue = self._rng, self.catalogue
        num_shapes = size * 3 // 8
        cast: list[Kind] = []
        taken: set[str] = set()
        while len(cast) < size - num_shapes:
            kind = rng.choice(rng.choice(catalogue.objects))
            if kind.name not in taken:
                cast.append(kind)
                taken |= names_like(kind.name)
        shapes = rng.sample(catalogue.shapes, num_shapes)
        if rng.random() < 0.6:
            chameleon = shapes[0]
            shapes = [kind for kind in shapes if kind.shape != chameleon.shape]
            shapes.append(dataclasses.replace(chameleon, name=chameleon.shape or ""))
        return cast + shapes

    def stranger(self, rng: random.Random) -> Kind:
        """Someone of the cast, or an object that could not be taken for anyone of it."""
        kind = rng.choice(rng.choice(self.catalogue.objects))
        return rng.choice(self.cast) if kind.name in self._like_cast else kind

    def absent(self, history: History, t: float) -> Kind | None:
        """Someone of the cast who is not there, more often one who never was."""
        rng = self._rng
        for _ in range(4):
            kind = rng.choice(self.cast)
            if kind.name not in history.records:
                return kind
            if history.may_come(kind.name, t) and rng.random() < 0.6:
                return kind
        return None

    def picture(self, kind: Kind, slot: int, largest: float, t: float) -> Track:
        """A track that shows a picture, its place yet to be found."""
        rng = self._rng
        track = Track(kind.name, slot, rng.uniform(0.18, largest), 0.5, 0.5, t)
        if self._looks and kind.shape is None and rng.random() < self._looks:
            kind = self.catalogue.in_look(kind, rng.randrange(len(LOOKS)))
        track.kind, track.class_id = kind, kind.class_id
        track.tint = jitter(kind.tint, rng.uniform(-0.04, 0.04))
        if self._dye and kind.shape is None:
            r, g, b = (c * rng.uniform(1 - self._dye, 1 + self._dye / 2) for c in track.tint)
            track.tint = (r, g, b)
        track.rotation = rng.uniform(-0.2, 0.2)
        return track

    def text(self, slot: int, history: History, t: float) -> Track | None:
        """A track that shows a new word or number, its place yet to be found."""
        rng, catalogue = self._rng, self.catalogue
        text = self._number(history) if slot == NUMBER_SLOT else self._word(history, t)
        if text is None:
            return None
        font = rng.randrange(len(catalogue.advances))
        glyphs = [_CHARACTERS.index(character) for character in text]
        ratio = sum(catalogue.advances[font][glyph] for glyph in glyphs)
        sort = "word" if slot == WORD_SLOT else "number"
        size = min(rng.uniform(0.13, 0.24), 0.85 / ratio)
        track = Track(f"the {sort} {text.lower()}", slot, size, 0.5, 0.5, t)
        track.is_text = True
        track.rotation = rng.uniform(-0.08, 0.08)
        track.half_width = 0.5 * ratio * size + 0.02
        track.half_height = 0.5 * size + 0.08 * track.half_width
        self._dress(track, [float(font * len(_CHARACTERS) + glyph) for glyph in glyphs])
        return track

    def _dress(self, track: Track, glyphs: list[float]) -> None:
        rng, catalogue = self._rng, self.catalogue
        colour = rng.choice(list(COLOURS))
        is_word = track.slot == WORD_SLOT
        word = track.name.removeprefix("the word ")
        track.class_id = catalogue.word_class(word) if is_word else catalogue.number_class
        track.kind = Kind(track.name, 0, track.class_id, 1.0, COLOURS[colour], None, colour)
        track.tint = jitter(COLOURS[colour], rng.uniform(-0.04, 0.04))
        plate = 1.0 if rng.random() < 0.4 else 0.0
        track.glyphs = (*glyphs, *EMPTY_TEXT[: MAX_GLYPHS - len(glyphs)], plate)

    def _number(self, history: History) -> str | None:
        number = self._rng.randrange(10 ** self._rng.choice((1, 2, 2, 2, 3)))
        return str(number) if history.number.text != f"the number {number}" else None

    def _word(self, history: History, t: float) -> str | None:
        word = self._rng.choice(self.words)
        return word if history.may_come(f"the word {word.lower()}", t) else None


def jitter(tint: RGB, by: float) -> RGB:
    """A little lighter or darker."""
    r, g, b = (min(max(channel + by, 0.0), 1.0) for channel in tint)
    return r, g, b
