"""How each question may be put, read from wordings.toml: for training, and held out for the exam.

{a} is a thing with its article, {the} and {other} are things one can point at (`the cat`, `the
word`), {n} is a number of seconds. A train wording is a pattern: of the alternatives in brackets,
which may be empty and have brackets of their own, one is said.

    expand("[Please |]tell me where {the} is[| now| right now].", rng)
"""

import functools
import random
import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

_FILE = Path(__file__).with_name("wordings.toml")
_INNERMOST = re.compile(r"\[[^\[\]]*\]")


def expand(pattern: str, rng: random.Random) -> str:
    """One sentence of a pattern."""
    before, choices, after = _split(pattern)
    if not choices:
        return before
    return before + expand(rng.choice(choices), rng) + expand(after, rng)


def sentences(pattern: str) -> Iterator[str]:
    """All sentences of a pattern."""
    before, choices, after = _split(pattern)
    if not choices:
        yield before
    for choice in choices:
        for middle in sentences(choice):
            for end in sentences(after):
                yield before + middle + end


@functools.cache
def _split(pattern: str) -> tuple[str, tuple[str, ...], str]:
    """What stands before the first bracket, its alternatives, and what stands after it."""
    depth, cuts = 0, []
    for i, character in enumerate(pattern):
        depth += (character == "[") - (character == "]")
        if (depth == 1 and character in "[|") or (depth == 0 and character == "]"):
            cuts.append(i)
        if depth == 0 and character == "]":
            choices = tuple(pattern[a + 1 : b] for a, b in pairwise(cuts))
            return pattern[: cuts[0]], choices, pattern[i + 1 :]
    return pattern, (), ""


def _check(pattern: str) -> None:
    """Raise ValueError if brackets do not match or an alternative stands outside of them."""
    rest, found = pattern, 1
    while found:
        rest, found = _INNERMOST.subn("", rest)
    if set(rest) & set("[|]"):
        raise ValueError(f"brackets do not match in the wording {pattern!r}")


def read_wordings(text: str) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """The wordings of each family: patterns to train, plain sentences held out.

    Raises:
        ValueError: brackets that do not match, or any in a held-out wording.
    """
    families = tomllib.loads(text)
    for own in families.values():
        for pattern in own["train"]:
            _check(pattern)
        for sentence in own["heldout"]:
            if set(sentence) & set("[|]"):
                raise ValueError(f"brackets in the held-out wording {sentence!r}")
    return {name: (tuple(own["train"]), tuple(own["heldout"])) for name, own in families.items()}


WORDINGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = read_wordings(
    _FILE.read_text("utf-8")
)
