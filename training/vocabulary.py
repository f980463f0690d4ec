"""The tokenizer of the small checkpoint, made from what the world says."""

import random
from collections.abc import Iterator
from pathlib import Path

from training.nano import train_tokenizer
from training.questions import FAMILIES, ask
from training.questions_wordings import WORDINGS
from training.world import World, WorldStyle
from training.world_catalogue import WORDS, load_catalogue, with_article

WORLDS = 40
FRAMES = 60
FPS = 2.0


def write_tokenizer(path: Path, seed: int = 0) -> None:
    """Train it on questions and answers of a few worlds and on every name there is."""
    train_tokenizer(texts(seed)).save(str(path))


def texts(seed: int) -> Iterator[str]:
    """Questions as a user's turn, answers as they are, names and numbers."""
    catalogue = load_catalogue("train")
    kinds = [kind for styles in catalogue.objects for kind in styles] + list(catalogue.shapes)
    for kind in kinds:
        colour = f"{kind.colour} " if kind.colour else ""
        yield from [with_article(f"{colour}{kind.name}"), f"the {kind.name}"] * 5
    for word in WORDS:
        yield from [f"the word {word.lower()}"] * 3
    yield from (f"the number {n}" for n in range(100))
    for wordings, _ in WORDINGS.values():
        yield from [f"user\n{wording}" for wording in wordings] * 3
    rng = random.Random(seed)
    for number in range(WORLDS):
        world = World(seed * 1000 + number, FPS, WorldStyle())
        for _ in range(FRAMES):
            world.advance()
            family = rng.choice([*FAMILIES["perception"], *FAMILIES["memory"]])
            qa = ask(world, rng, family, "train")
            if qa is not None:
                yield f"user\n{qa.question}"
                yield qa.answer
