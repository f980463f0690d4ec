"""How people really type a question: greetings, no capitals, small words left out."""

import random

OPENINGS = (
    "Hello, ", "Hi, ", "Hey, ", "OK, ", "So, ", "Now, ", "Please, ", "Quick question: ",
    "And now: ", "Another question: ", "Tell me: ", "Please tell me: ", "I wonder: ",
)  # fmt: skip
ENDINGS = (", please?", " please", "??", " ?", "!", "...")
# What somebody in a hurry leaves out; the sense is the same.
SPARED = frozenset({"a", "an", "the", "is", "are", "do", "does", "you", "can", "me", "it", "of"})


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
