"""How people really type a question: greetings, no capitals, small words left out.

And how little of a question its sense hangs on: with some words lost, and others heard for what was
said, the rest still tells what is asked. So no single word of a wording is learned by heart.
"""

import functools
import random
import re
from collections.abc import Iterable

from training.questions_draft import NUMBER_NAMES
from training.questions_wordings import WORDINGS

OPENINGS = (
    "Hello, ", "Hi, ", "Hey, ", "OK, ", "So, ", "Now, ", "Please, ", "Quick question: ",
    "And now: ", "Another question: ", "Tell me: ", "Please tell me: ", "I wonder: ",
)  # fmt: skip
ENDINGS = (", please?", " please", "??", " ?", "!", "...")
# What somebody in a hurry leaves out; the sense is the same.
SPARED = frozenset({"a", "an", "the", "is", "are", "do", "does", "you", "can", "me", "it", "of"})

# How many questions come over a bad line, and how many of their words are lost or misheard there;
# those of fewer words would lose their sense with one of them.
BAD_LINE, SAFE_WORDS = 0.25, 6
LOST, MISHEARD = 0.1, 0.05
_WORD = re.compile(r"[^\W_]+")


def with_manners(question: str, rng: random.Random) -> str:
    """The same question, most often as it is."""
    chance = rng.random()
    if chance < 0.52:
        return question
    if chance < 0.6:
        return _hurried(question)
    if chance < 0.75:
        return _lowered(question).rstrip("?.")
    if chance < 0.82:
        return question.rstrip("?.")
    if chance < 0.94:
        return rng.choice(OPENINGS) + _lowered(question)
    return question.rstrip("?.") + rng.choice(ENDINGS)


def _lowered(question: str) -> str:
    return question if question.startswith("I ") else question[0].lower() + question[1:]


def _hurried(question: str) -> str:
    words = _lowered(question).rstrip("?.").split()
    return " ".join(word for word in words if word not in SPARED)


def over_a_bad_line(question: str, names: Iterable[str], rng: random.Random) -> str:
    """The same question, now and then with words lost or misheard; names and numbers never are."""
    words = question.split()
    if rng.random() >= BAD_LINE or len(words) < SAFE_WORDS:
        return question
    kept = {word for name in names for word in _WORD.findall(name)}.union(NUMBER_NAMES)
    heard: list[str] = []
    for word in words:
        chance = 1.0 if any(w in kept or w.isdigit() for w in _WORD.findall(word)) else rng.random()
        if chance < LOST:
            continue
        heard.append(rng.choice(_vocabulary()) if chance < LOST + MISHEARD else word)
    return " ".join(heard) or question


@functools.cache
def _vocabulary() -> list[str]:
    """The words of all wordings, each as often as it occurs."""
    patterns = (pattern for patterns, _ in WORDINGS.values() for pattern in patterns)
    return [word for pattern in patterns for word in _WORD.findall(re.sub(r"{\w+}", " ", pattern))]
