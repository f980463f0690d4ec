"""A question as it is written: to which stream, at which moment, and what.

What do you see?            the first stream, now
12s: What do you see?       the first stream, at its 12th second
@door 12s: What was it?     the stream named door
"""

import re
from typing import NamedTuple

from stream.question import QuestionRefusedError, parse_timed
from stream.registry import UnknownStreamError

_ADDRESSED = re.compile(r"\s*@([^\s@]+)(?:\s+(.*))?", re.DOTALL)


class AddressedQuestion(NamedTuple):
    """`at_s` is in seconds of the stream: 0 for now, AT_END for after its last frame."""

    stream: str
    at_s: float
    text: str


def parse_addressed(line: str, names: list[str]) -> AddressedQuestion:
    """Split '@door 12s: What was it?'; `names` are those of the streams, the first first.

    Where there is only one stream, what begins with an @ that is not its name is all question.

    Raises:
        UnknownStreamError: there is no stream of this name.
        QuestionRefusedError: the question cannot be asked.
    """
    addressed = _ADDRESSED.fullmatch(line)
    if addressed is not None and addressed[1] in names:
        return AddressedQuestion(addressed[1], *parse_timed(addressed[2] or ""))
    if addressed is not None and len(names) > 1:
        raise UnknownStreamError(addressed[1], names)
    at_s, text = parse_timed(line)
    if len(names) > 1 and (late := _ADDRESSED.match(text)):
        raise QuestionRefusedError(f"the stream comes before the time: @{late[1]} 12.5s: QUESTION")
    return AddressedQuestion(names[0], at_s, text)
