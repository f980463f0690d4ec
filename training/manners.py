"""How people really type a question: greetings, no capitals, no question mark."""

import random

OPENINGS = (
    "Hello, ", "Hi, ", "Hey, ", "OK, ", "So, ", "Now, ", "Please, ", "Quick question: ",
    "And now: ", "Another question: ", "Tell me: ", "Please tell me: ", "I wonder: ",
)  # fmt: skip
ENDINGS = (", please?", " please", "??", " ?", "!", "...")


def with_manners(question: str, rng: random.Random) -> str:
    """The same question, most often as it is."""
    chance = rng.random()
    if chance < 0.6:
        return question
    if chance < 0.75:
        return _lowered(question).rstrip("?.")
    if chance < 0.82:
        return question.rstrip("?.")
    if chance < 0.94:
        return rng.choice(OPENINGS) + _lowered(question)
    return question.rstrip("?.") + rng.choice(ENDINGS)


def _lowered(question: str) -> str:
    return question if question.startswith("I ") else question[0].lower() + question[1:]
