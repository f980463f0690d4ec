"""Questions about what goes on: what moves and how, what just came, left or changed.

Each returns a draft, or None where the answer would not be plain: a move that has hardly begun, two
events in a row, something that happened neither just now nor long ago.
"""

import random

from training.questions_draft import (
    NOTHING,
    Asker,
    Draft,
    describe,
    is_calm,
    is_chameleon,
    owes,
    point_at,
    yes_or_no,
)
from training.questions_present import anyone_of, two_of, which_of
from training.world import World
from training.world_catalogue import with_article
from training.world_history import ALONE_S, JUST_S, LONG_S
from training.world_track import BLINK_PERIOD_S


def _direction(world: World, rng: random.Random) -> Draft | None:
    movers = [track for track in world.tracks() if track.is_moving(world.now, world.fps)]
    if movers and rng.random() < 0.8:
        mover = rng.choice(movers)
        heading = mover.heading()
        answer = heading if heading in ("up", "down") else f"to the {heading}"
        return Draft(answer, fields={"the": point_at(mover)})
    track = anyone_of(world, rng)
    # Most things are at rest: ask about few of them, or "not moving" becomes the best guess.
    if track is None or not track.is_still(world.now, world.fps) or rng.random() < 0.94:
        return None
    return Draft("it is not moving", fields={"the": point_at(track)})


def _anything_moving(world: World, rng: random.Random) -> Draft | None:
    tracks = world.tracks()
    yes = any(track.is_moving(world.now, world.fps) for track in tracks)
    still = is_calm(world) and all(track.is_still(world.now, world.fps) for track in tracks)
    if not still and not yes:
        return None
    if still and (not tracks or world.watched_s < 1.5 or _recent(world, "", 1.5)):
        return None
    if not owes(world, rng, "anything_moving", yes):
        return None
    return Draft(yes_or_no(yes), yes_no=True)


def _blinking(world: World, rng: random.Random) -> Draft | None:
    tracks = world.tracks()
    # Slower than this, blinking cannot be told from coming and going.
    if world.fps < 5 or not tracks:
        return None
    began_s = world.history.began_s
    starts = [max(k.blink_start, began_s) for k in tracks if world.now < k.blink_end - 0.1]
    yes = any(start + 1.5 <= world.now for start in starts)
    if not yes and not (is_calm(world) and world.now - max(world.stage.busy_until, began_s) > 3.0):
        return None
    if not owes(world, rng, "blinking", yes):
        return None
    return Draft(yes_or_no(yes), BLINK_PERIOD_S, yes_no=True)


def _faster(world: World, rng: random.Random) -> Draft | None:
    pair = two_of(world, rng)
    if pair is None:
        return None
    speeds = []
    for track in pair:
        if not track.is_moving(world.now, world.fps) and not track.is_still(world.now, world.fps):
            return None
        speeds.append(track.speed() if track.is_moving(world.now, world.fps) else 0.0)
    if max(speeds) < 0.12 or max(speeds) < 1.8 * min(speeds):
        return None
    return which_of(*pair, speeds[0] > speeds[1])


def _recent(world: World, sort: str, seconds: float) -> list[str]:
    """What events of a sort ("" for any) ended in the last seconds."""
    since = world.now - seconds
    return [
        event.text
        for event in world.history.events
        if event.end > since and sort in ("", event.sort)
    ]


def _fresh(world: World, sort: str) -> tuple[str, float] | None:
    """The only event of a sort there was lately and its age, ("", ...) if there was none.

    None if that is unclear. Coming in and leaving at a cut is part of the cut, so it is left out.
    """
    if world.stage.busy or _recent(world, "cut", ALONE_S) or _recent(world, "blink", ALONE_S):
        return None
    lately = [e for e in world.history.events if e.sort == sort and e.end > world.now - LONG_S]
    if not lately:
        return ("", LONG_S) if world.watched_s > LONG_S + 0.5 else None
    event = lately[-1]
    alone = len(lately) == 1 or lately[-2].end < event.start - ALONE_S
    age = world.now - event.end
    first_scene = event.end - world.history.began_s < 1.0
    return (event.text, age) if alone and 0.2 <= age <= JUST_S and not first_scene else None


def _just(world: World, rng: random.Random, family: str, sort: str) -> Draft | None:
    fresh = _fresh(world, sort)
    if fresh is None:
        return None
    text, age = fresh
    answer = text if sort == "change" else _describe_now(world, text)
    if answer is None or not owes(world, rng, family, text != ""):
        return None
    return Draft(answer or NOTHING, age)


def _describe_now(world: World, name: str) -> str | None:
    if name == "" or name.startswith("the "):
        return name
    if is_chameleon(name):
        return next((describe(k) for k in world.pictures() if k.name == name), None)
    return with_article(name)


def _just_entered(world: World, rng: random.Random) -> Draft | None:
    return _just(world, rng, "just_entered", "enter")


def _just_left(world: World, rng: random.Random) -> Draft | None:
    return _just(world, rng, "just_left", "leave")


def _just_changed(world: World, rng: random.Random) -> Draft | None:
    events = world.history.events
    change = next((e for e in reversed(events) if e.sort == "change"), None)
    since = world.now - LONG_S if change is None else change.start - 0.5
    disturbed = any(e.sort in ("enter", "leave") and e.end > since for e in events)
    growing = any(world.now < track.grow_end for track in world.pictures())
    return None if disturbed or growing else _just(world, rng, "just_changed", "change")


def _did(world: World, rng: random.Random, family: str, sort: str) -> Draft | None:
    fresh = _fresh(world, sort)
    if fresh is None or not owes(world, rng, family, fresh[0] != ""):
        return None
    return Draft(yes_or_no(fresh[0] != ""), fresh[1], yes_no=True)


def _did_enter(world: World, rng: random.Random) -> Draft | None:
    return _did(world, rng, "did_enter", "enter")


def _did_leave(world: World, rng: random.Random) -> Draft | None:
    return _did(world, rng, "did_leave", "leave")


def _did_cut(world: World, rng: random.Random) -> Draft | None:
    cuts = [event.end for event in world.history.events if event.sort == "cut"]
    age = world.now - cuts[-1] if cuts else world.watched_s
    yes = bool(cuts) and 0.0 <= age <= JUST_S
    if not yes and age < LONG_S:
        return None
    if not owes(world, rng, "did_cut", yes):
        return None
    return Draft(yes_or_no(yes), age if yes else LONG_S, yes_no=True)


GOING_ON: dict[str, Asker] = {
    "direction": _direction,
    "anything_moving": _anything_moving,
    "blinking": _blinking,
    "faster": _faster,
    "just_entered": _just_entered,
    "just_left": _just_left,
    "just_changed": _just_changed,
    "did_enter": _did_enter,
    "did_leave": _did_leave,
    "did_cut": _did_cut,
}
