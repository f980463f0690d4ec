"""The tokenizer of the small checkpoint, made from what the world says, and the words it knows.

python -m training.vocabulary > assets/nano/words.txt
"""

import random
import re
from collections.abc import Iterator
from pathlib import Path

from training.manners import ENDINGS, OPENINGS, with_manners
from training.nano import train_tokenizer
from training.questions import FAMILIES, ask, fill
from training.questions_draft import NUMBER_NAMES
from training.questions_wordings import WORDINGS, expand
from training.world import World, WorldStyle
from training.world_catalogue import WORDS, load_catalogue, with_article

WORLDS = 40
FRAMES = 60
FPS = 2.0
# How often each name and each wording is said: a name is to be few tokens, whatever is asked of it.
NAMINGS, SAYINGS = 20, 3
FIELDS = {"a": "a cat", "the": "the cat", "other": "the dog", "n": "ten"}


def write_tokenizer(path: Path, seed: int = 0) -> None:
    """Train it on questions and answers of a few worlds and on every name there is."""
    train_tokenizer(texts(seed)).save(str(path))


def known_words() -> list[str]:
    """Every word that a question has been trained with, in small letters."""
    catalogue = load_catalogue("train")
    kinds = [kind for styles in catalogue.objects for kind in styles] + list(catalogue.shapes)
    said = [f"{kind.colour or ''} {kind.name}" for kind in kinds]
    said += [*WORDS, *OPENINGS, *ENDINGS, *NUMBER_NAMES]
    said += [pattern for patterns, _ in WORDINGS.values() for pattern in patterns]
    return sorted(set(re.findall(r"[a-z]+", re.sub(r"{\w+}", " ", " ".join(said)).lower())))


def texts(seed: int) -> Iterator[str]:
    """Questions as a user's turn, answers as they are, names and numbers."""
    catalogue = load_catalogue("train")
    kinds = [kind for styles in catalogue.objects for kind in styles] + list(catalogue.shapes)
    for kind in kinds:
        colour = f"{kind.colour} " if kind.colour else ""
        yield from [with_article(f"{colour}{kind.name}"), f"the {kind.name}"] * NAMINGS
    for word in WORDS:
        yield from [f"the word {word.lower()}"] * NAMINGS
    yield from (f"the number {n}" for n in range(100))
    rng = random.Random(seed)
    for patterns, _ in WORDINGS.values():
        for pattern in patterns:
            for _ in range(SAYINGS):
                yield f"user\n{with_manners(fill(expand(pattern, rng), FIELDS), rng)}"
    for number in range(WORLDS):
        world = World(seed * 1000 + number, FPS, WorldStyle())
        for _ in range(FRAMES):
            world.advance()
            family = rng.choice([*FAMILIES["perception"], *FAMILIES["memory"]])
            qa = ask(world, rng, family, "train")
            if qa is not None:
                yield f"user\n{qa.question}"
                yield qa.answer


if __name__ == "__main__":
    print("\n".join(known_words()))
