"""What questions about the present and about the past share: drafts, names, and keeping balance."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from training.world import World
from training.world_catalogue import SHAPES, with_article
from training.world_track import Track

NUMBER_NAMES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve",
)  # fmt: skip
NOTHING, NOTHING_YET, NOT_SEEN = "nothing", "nothing yet", "I have not seen one"
CALM_S = 0.25
# How often a stream owes yes first, where yes is the rarer.
_YES_FIRST = {
    "anything_moving": 0.3, "blinking": 0.9, "did_cut": 0.9, "did_enter": 0.5, "did_leave": 0.65,
    "just_changed": 0.9, "just_entered": 0.6, "just_left": 0.7,
}  # fmt: skip


@dataclass(slots=True)
class Draft:
    """An answer, how old its evidence is, and what fills the gaps of the wording."""

    answer: str
    distance_s: float = 0.0
    yes_no: bool = False
    fields: dict[str, str] = field(default_factory=dict)


Asker = Callable[[World, random.Random], Draft | None]


def is_calm(world: World) -> bool:
    """Nothing is half there, and nothing was a moment ago."""
    return world.stage.busy == 0 and world.now - world.stage.busy_until >= CALM_S


def is_chameleon(name: str) -> bool:
    """The thing that changes its colour is called by its shape alone."""
    return name in SHAPES


def describe(track: Track) -> str:
    """A track as an answer: `a cat`, `a red circle`, `the word stop`."""
    if is_chameleon(track.name) and track.kind is not None:
        return with_article(f"{track.kind.colour} {track.name}")
    return say(track.name)


def say(name: str) -> str:
    """A name as an answer; texts come with their article."""
    return name if name.startswith("the ") else with_article(name)


def point_at(track: Track) -> str:
    """A track as the subject of a question: `the cat`, `the word`."""
    return " ".join(track.name.split()[:2]) if track.is_text else f"the {track.name}"


def bare(text: str | None) -> str:
    """`the word stop` -> `stop`"""
    return "" if text is None else text.split()[-1]


def owes(world: World, rng: random.Random, family: str, yes: bool) -> bool:
    """Whether this stream owes this answer: it gives each one as often, within its leeway.

    A rare answer would otherwise be a poor guess, and a frequent one would teach nothing else.
    """
    yes_first = rng.random() < _YES_FIRST.get(family, 0.5)
    ahead = world.ahead.setdefault(family, 0 if yes_first else world.leeway)
    owed = ahead < world.leeway if yes else ahead > 0
    if owed:
        world.ahead[family] += 1 if yes else -1
    return owed


def wants(world: World, rng: random.Random, family: str) -> bool:
    """Which answer this stream owes, for families that can choose what to ask about."""
    return world.wanted.setdefault(family, rng.random() < 0.5)


def paid(world: World, family: str) -> None:
    """The answer it owed has been given."""
    world.wanted[family] = not world.wanted[family]


def yes_or_no(yes: bool) -> str:
    """The plain answer."""
    return "yes" if yes else "no"
