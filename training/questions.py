"""Asks a world a question that has one right answer at this moment.

    qa = ask(world, random.Random(1))                        # any family that fits the moment
    qa = ask(world, rng, family="before", wording="heldout")  # or None if that cannot be asked now

A question is memory if its evidence is older than RECENT_S; `distance_s` is how old it is (for what
never was, the whole stream). Two answers are the same if they are equal after `normalise`.
"""

import random
import re
from dataclasses import dataclass
from typing import Literal

from training.questions_draft import NUMBER_NAMES
from training.questions_going_on import GOING_ON
from training.questions_past import PAST
from training.questions_present import PRESENT
from training.questions_wordings import WORDINGS, expand
from training.world import World

RECENT_S = 3.0
FAMILIES: dict[str, tuple[str, ...]] = {
    "perception": tuple(PRESENT | GOING_ON),
    "memory": tuple(PAST),
}

Wording = Literal["train", "heldout"]

# Reading and motion are the slowest to learn, so they come up more often.
_OFTEN = {"number": 4.0, "direction": 4.0, "word": 2.5, "visible": 2.0, "anything_moving": 1.5,
          "before": 2.0, "after": 2.0, "ago": 3.0, "there_ago": 2.0, "distinct": 1.5, "seen": 1.5,
          "just_entered": 2.0, "just_left": 2.0, "just_changed": 4.0, "faster": 2.0}  # fmt: skip
_ASKERS = PRESENT | GOING_ON | PAST
_NAMES = list(_ASKERS)
_WEIGHTS = [_OFTEN.get(name, 1.0) for name in _NAMES]
_TRIES = 6
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_FIGURES = {name: str(i) for i, name in enumerate(NUMBER_NAMES)}


@dataclass(frozen=True, slots=True)
class QA:
    """A question, its one right answer, and what sort of question it is.

    names: of the things it is about, without article: `cat`, `word`, `word stop`.
    """

    family: str
    memory: bool
    question: str
    answer: str
    distance_s: float
    yes_no: bool
    names: tuple[str, ...] = ()


def ask(
    world: World,
    rng: random.Random,
    family: str | None = None,
    wording: Wording = "train",
) -> QA | None:
    """Ask about the world's present moment; None if a few tries find nothing plain to ask."""
    if family is not None:
        return _ask(world, rng, family, wording)
    for name in rng.choices(_NAMES, _WEIGHTS, k=_TRIES):
        qa = _ask(world, rng, name, wording)
        if qa is not None:
            return qa
    return None


def _ask(world: World, rng: random.Random, family: str, wording: Wording) -> QA | None:
    draft = _ASKERS[family](world, rng)
    if draft is None:
        return None
    pattern = rng.choice(WORDINGS[family][wording == "heldout"])
    question = fill(expand(pattern, rng), draft.fields)
    distance_s = min(draft.distance_s, world.watched_s)
    memory = family in PAST and distance_s > RECENT_S
    names = tuple(said.partition(" ")[2] for gap, said in draft.fields.items() if gap != "n")
    return QA(family, memory, question, draft.answer, distance_s, draft.yes_no, names)


def fill(wording: str, fields: dict[str, str]) -> str:
    """Put the fields into a wording and begin it with a capital."""
    for name, value in fields.items():
        wording = wording.replace(f"{{{name}}}", value)
    return wording[0].upper() + wording[1:]


def normalise(answer: str) -> str:
    """Lower case; no articles, commas or final stop; number words up to twelve as figures."""
    text = _ARTICLES.sub(" ", answer.lower().strip().rstrip(".").replace(",", " "))
    return " ".join(_FIGURES.get(word, word) for word in text.split())
