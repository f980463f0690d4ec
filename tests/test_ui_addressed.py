"""To which stream a written question goes, and when."""

import pytest

from stream.question import AT_END, QuestionRefusedError
from stream.registry import UnknownStreamError
from ui.addressed import parse_addressed

TWO = ["door", "yard"]


@pytest.mark.parametrize(
    ("line", "stream", "at_s", "text"),
    [
        ("What?", "door", 0.0, "What?"),
        ("12s: What?", "door", 12.0, "What?"),
        ("@yard What?", "yard", 0.0, "What?"),
        ("  @yard   What is\tit?", "yard", 0.0, "What is\tit?"),
        ("@yard 2.5s: What?", "yard", 2.5, "What?"),
        ("@door end: What?", "door", AT_END, "What?"),
        ("@ what?", "door", 0.0, "@ what?"),
        ("Who is @yard?", "door", 0.0, "Who is @yard?"),
        ("@yard @door what?", "yard", 0.0, "@door what?"),
    ],
)
def test_of_several_streams_one_is_asked(line: str, stream: str, at_s: float, text: str) -> None:
    """The first, unless the line begins with another's name."""
    assert parse_addressed(line, TWO) == (stream, at_s, text)


@pytest.mark.parametrize(
    "line", ["@dor What?", "@dor 2s: What?", "@door: What?", "@YARD what?", "@x"]
)
def test_unknown_stream_is_one_sentence(line: str) -> None:
    """It says which there are; the question goes to none."""
    with pytest.raises(UnknownStreamError, match=r"^there is no stream '.+'; known: door, yard$"):
        parse_addressed(line, TWO)


@pytest.mark.parametrize("line", ["@yard", "@yard  ", "@yard 2s: ", "", "2s:"])
def test_question_without_words_is_refused(line: str) -> None:
    """Also where the stream is named."""
    with pytest.raises(QuestionRefusedError, match="empty"):
        parse_addressed(line, TWO)


def test_stream_comes_before_the_time() -> None:
    """The other order is told so, and not asked of the wrong stream."""
    with pytest.raises(QuestionRefusedError, match=r"comes before the time: @yard 12\.5s: QUEST"):
        parse_addressed("12s: @yard What?", TWO)


def test_one_stream_is_asked_whatever_is_written() -> None:
    """An @ is part of the question there, unless it is the stream's own name."""
    assert parse_addressed("@yard 2s: What?", ["door"]) == ("door", 0.0, "@yard 2s: What?")
    assert parse_addressed("2s: @yard What?", ["door"]) == ("door", 2.0, "@yard What?")
    assert parse_addressed("@door 2s: What?", ["door"]) == ("door", 2.0, "What?")
