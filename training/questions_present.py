"""Questions about what is there now: what, how many, which colour, where, how large, what it says.

Each returns a draft, or None where the answer would not be plain: something half there, two things
of nearly one size, a place between left and centre.
"""

import itertools
import random

from training.questions_draft import (
    NOTHING,
    NUMBER_NAMES,
    Asker,
    Draft,
    describe,
    is_calm,
    is_chameleon,
    paid,
    point_at,
    wants,
    yes_or_no,
)
from training.world import World
from training.world_catalogue import with_article
from training.world_scene import NUMBER_SLOT, WORD_SLOT
from training.world_stage import region_of
from training.world_track import Track


def _visible(world: World, rng: random.Random) -> Draft | None:
    if not is_calm(world):
        return None
    placed = sorted((track.place(world.now)[0], i, track) for i, track in enumerate(world.tracks()))
    if len(placed) > 3:
        return None
    for (x, _, _), (z, _, _) in itertools.pairwise(placed):
        if z - x < 0.1:
            return None
    names = [describe(track) for _, _, track in placed]
    if not names:
        return Draft(NOTHING)
    return Draft(" and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names))


def _is_there(world: World, rng: random.Random) -> Draft | None:
    yes = wants(world, rng, "is_there")
    here = world.pictures()
    if yes:
        ready = [track for track in here if track.settled(world.now, 0.25)]
        if not ready:
            return None
        a = describe(rng.choice(ready))
    else:
        name = _absent(world, rng)
        if name is None or (not here and rng.random() < 0.7):
            return None
        a = with_article(name)
    paid(world, "is_there")
    return Draft(yes_or_no(yes), yes_no=True, fields={"a": a})


def _absent(world: World, rng: random.Random) -> str | None:
    """The name of a picture that is not there now, seen before or not."""
    casting = world.casting
    kind = casting.stranger(rng) if rng.random() < 0.4 else rng.choice(casting.cast)
    here = {track.name for track in world.pictures()}
    return None if is_chameleon(kind.name) or {kind.name, kind.shape} & here else kind.name


def _count(world: World, rng: random.Random) -> Draft | None:
    here = world.pictures()
    if not is_calm(world) or len(here) != len(world.tracks()):
        return None
    return Draft(NUMBER_NAMES[len(here)])


def _colour(world: World, rng: random.Random) -> Draft | None:
    track = anyone_of(world, rng)
    if track is None or track.kind is None or track.kind.colour is None:
        return None
    if world.now - track.changed_at < 0.3:
        return None
    shape = track.kind.shape
    if shape is None:
        return Draft(track.kind.colour, fields={"the": point_at(track)})
    same = [k for k in world.pictures() if k.kind is not None and k.kind.shape == shape]
    return Draft(track.kind.colour, fields={"the": f"the {shape}"}) if len(same) == 1 else None


def anyone_of(world: World, rng: random.Random) -> Track | None:
    """A picture or a text that is fully there."""
    ready = [track for track in world.tracks() if track.settled(world.now, 0.25)]
    return rng.choice(ready) if ready else None


def _where(world: World, rng: random.Random) -> Draft | None:
    track = anyone_of(world, rng)
    if track is None or track.move_start <= world.now < track.move_end:
        return None
    region = region_of(*track.place(world.now))
    return None if region is None else Draft(region, fields={"the": point_at(track)})


def two_of(world: World, rng: random.Random) -> tuple[Track, Track] | None:
    """Two pictures that are fully there."""
    ready = [track for track in world.pictures() if track.settled(world.now, 0.25)]
    if len(ready) < 2:
        return None
    a, b = rng.sample(ready, 2)
    return a, b


def which_of(a: Track, b: Track, first: bool) -> Draft:
    """A choice between two things."""
    the, other = point_at(a), point_at(b)
    return Draft(the if first else other, fields={"the": the, "other": other})


def _by_size(world: World, rng: random.Random, larger: bool) -> Draft | None:
    pair = two_of(world, rng)
    if pair is None or any(world.now < track.grow_end + 0.2 for track in pair):
        return None
    a, b = pair
    if a.kind is None or b.kind is None:
        return None
    by_side = a.size / b.size
    by_area = by_side * (a.kind.area / b.kind.area) ** 0.5
    if max(by_side, by_area) < 1 / 1.3:
        return which_of(a, b, not larger)
    return which_of(a, b, larger) if min(by_side, by_area) > 1.3 else None


def _larger(world: World, rng: random.Random) -> Draft | None:
    return _by_size(world, rng, larger=True)


def _smaller(world: World, rng: random.Random) -> Draft | None:
    return _by_size(world, rng, larger=False)


def _by_place(world: World, rng: random.Random, axis: int) -> Draft | None:
    pair = two_of(world, rng)
    if pair is None:
        return None
    a, b = (track.place(world.now)[axis] for track in pair)
    return None if abs(a - b) < 0.15 else which_of(*pair, a < b)


def _further_left(world: World, rng: random.Random) -> Draft | None:
    return _by_place(world, rng, 0)


def _higher(world: World, rng: random.Random) -> Draft | None:
    return _by_place(world, rng, 1)


def _beside(world: World, rng: random.Random, sign: float) -> Draft | None:
    if not is_calm(world) or not world.tracks():
        return None
    track = rng.choice(world.tracks())
    x = track.place(world.now)[0]
    there = []
    for other in world.tracks():
        distance = sign * (other.place(world.now)[0] - x)
        if other is not track and abs(distance) < 0.15:
            return None
        if distance > 0:
            there.append(other)
    if len(there) > 1 or (not there and rng.random() < 0.85):
        return None
    answer = describe(there[0]) if there else NOTHING
    return Draft(answer, fields={"the": point_at(track)})


def _left_of(world: World, rng: random.Random) -> Draft | None:
    return _beside(world, rng, -1.0)


def _right_of(world: World, rng: random.Random) -> Draft | None:
    return _beside(world, rng, 1.0)


def _text(world: World, rng: random.Random, slot: int) -> Draft | None:
    track = world.stage.slots[slot]
    if track is None:
        quiet = is_calm(world) and rng.random() < 0.05
        return Draft(NOTHING) if quiet else None
    return Draft(track.name.split()[-1]) if track.settled(world.now, 0.25) else None


def _word(world: World, rng: random.Random) -> Draft | None:
    return _text(world, rng, WORD_SLOT)


def _number(world: World, rng: random.Random) -> Draft | None:
    return _text(world, rng, NUMBER_SLOT)


PRESENT: dict[str, Asker] = {
    "visible": _visible,
    "is_there": _is_there,
    "count": _count,
    "colour": _colour,
    "where": _where,
    "larger": _larger,
    "smaller": _smaller,
    "further_left": _further_left,
    "higher": _higher,
    "left_of": _left_of,
    "right_of": _right_of,
    "word": _word,
    "number": _number,
}
