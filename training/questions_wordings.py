"""How each question may be put, read from wordings.toml: for training, and held out for the exam.

{a} is a thing with its article, {the} and {other} are things one can point at (`the cat`, `the
word`), {n} is a number of seconds; {A}, {The} and {N} stand for the same at the beginning.
"""

import tomllib
from pathlib import Path

_FILE = Path(__file__).with_name("wordings.toml")


def _read(text: str) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """The wordings of each family."""
    families = tomllib.loads(text)
    return {name: (tuple(own["train"]), tuple(own["heldout"])) for name, own in families.items()}


WORDINGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = _read(_FILE.read_text("utf-8"))
