"""A question: what is asked, by whom, and how its answer is to be made."""

import math
import re
from dataclasses import dataclass, field

from stream.dialogues import Turn

MAX_QUESTION_CHARS = 4096
MAX_ANSWER_TOKENS = 2048
AT_END = math.inf


class QuestionRefusedError(ValueError):
    """A question that was not accepted; one sentence says why."""


class TooManyQuestionsError(QuestionRefusedError):
    """There is no room just now; it may be asked again."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen.

    Attributes:
        max_tokens: the longest answer.
        temperature: 0 takes the likeliest token always.
        top_p: draw among the likeliest tokens that together have this probability.
        seed: the same seed draws the same answer.
    """

    max_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.max_tokens <= MAX_ANSWER_TOKENS:
            raise QuestionRefusedError(
                f"an answer may have 1 to {MAX_ANSWER_TOKENS} tokens, not {self.max_tokens}"
            )
        if not 0.0 <= self.temperature <= 2.0:
            raise QuestionRefusedError(f"temperature must be 0 to 2, not {self.temperature}")
        if not 0.0 < self.top_p <= 1.0:
            raise QuestionRefusedError(f"top_p must be above 0 and at most 1, not {self.top_p}")


@dataclass(frozen=True, slots=True)
class Question:
    """An accepted question.

    Attributes:
        asker: whose dialogue it belongs to; no other asker sees it.
        asked_s: when, on the monotonic clock.
        deadline_s: when its answer is cut, on the same clock; None for never.
        turns: what was said before, oldest first, if the asker keeps that; None where it is kept
            for the asker, who then need not say it again.
    """

    id: int
    stream: str
    asker: str
    text: str
    asked_s: float
    deadline_s: float | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    turns: tuple[Turn, ...] | None = None


def is_unicode(text: str) -> bool:
    """Whether it has no half characters, as from bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_question(text: str) -> str:
    """The question without surrounding space; QuestionRefusedError if it cannot be asked."""
    text = text.strip()
    if not is_unicode(text):
        raise QuestionRefusedError("the question is not valid Unicode text")
    if not text:
        raise QuestionRefusedError("the question is empty")
    if len(text) > MAX_QUESTION_CHARS:
        raise QuestionRefusedError(
            f"the question has {len(text)} characters, the limit is {MAX_QUESTION_CHARS}"
        )
    return text


def parse_timed(text: str) -> tuple[float, str]:
    """Split '12.5s: What happened?' or 'end: What happened?' into its moment and the question.

    Returns:
        The moment in seconds of the stream (0 if none is given, AT_END for the end), and the
        question, checked.

    Raises:
        QuestionRefusedError: the question cannot be asked.
    """
    timed = re.match(r"\s*(?:(\d+(?:\.\d+)?)\s*s|(end))\s*:", text)
    if timed is None:
        return 0.0, check_question(text)
    at_s = AT_END if timed[2] else float(timed[1])
    return at_s, check_question(text[timed.end() :])
