"""What can be asked, and when."""

import math

import pytest

from stream.question import (
    AT_END,
    MAX_QUESTION_CHARS,
    QuestionRefusedError,
    SamplingParams,
    check_question,
    parse_timed,
)


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_empty_question_is_refused(text: str) -> None:
    """Space alone is no question."""
    with pytest.raises(QuestionRefusedError, match="empty"):
        check_question(text)


def test_question_is_limited_in_length() -> None:
    """The limit itself is allowed, one character more is not; surrounding space does not count."""
    assert len(check_question(" " + "x" * MAX_QUESTION_CHARS + " ")) == MAX_QUESTION_CHARS
    with pytest.raises(QuestionRefusedError, match="4097 characters"):
        check_question("x" * (MAX_QUESTION_CHARS + 1))


def test_text_that_is_not_unicode_is_refused() -> None:
    """Bytes of a command line that are not UTF-8 reach us as lone surrogates: no question."""
    with pytest.raises(QuestionRefusedError, match="not valid"):
        check_question(b"what \xff?".decode("utf-8", "surrogateescape"))


@pytest.mark.parametrize(
    ("text", "at_s", "question"),
    [
        ("What?", 0.0, "What?"),
        ("5s: What?", 5.0, "What?"),
        (" 12.5 s :What? ", 12.5, "What?"),
        ("end: What?", AT_END, "What?"),
        ("end of what?", 0.0, "end of what?"),
        ("5 things: name them", 0.0, "5 things: name them"),
        ("-5s: What?", 0.0, "-5s: What?"),
        ("1s: 2s: What?", 1.0, "2s: What?"),
    ],
)
def test_moment_is_read_from_the_front(text: str, at_s: float, question: str) -> None:
    """'12.5s:' and 'end:' say when; anything else is part of the question."""
    assert parse_timed(text) == (at_s, question)


@pytest.mark.parametrize("text", ["5s:", "end:  ", ""])
def test_moment_without_a_question_is_refused(text: str) -> None:
    """A moment alone asks nothing."""
    with pytest.raises(QuestionRefusedError, match="empty"):
        parse_timed(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"max_tokens": 2049},
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"temperature": math.nan},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": math.nan},
    ],
)
def test_sampling_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    """A parameter out of its range is refused with one sentence that names the range."""
    with pytest.raises(QuestionRefusedError, match="not "):
        SamplingParams(**wrong)  # type: ignore[arg-type]
