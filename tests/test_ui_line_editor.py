"""Typing a question below a live display, and the terminal as it was afterwards."""

import os
import sys
import termios
import threading
from collections.abc import Iterator

import pytest

from tests.stream_helpers import PATIENCE_S
from ui.line_editor import LineEditor


class Typing:
    """An editor on a terminal of its own, whose other end the test holds."""

    def __init__(self, master: int, slave: int) -> None:
        self.master, self.slave = master, slave
        self.lines: list[str] = []
        self.got_line = threading.Event()
        self.editor = LineEditor(self._line)

    def _line(self, line: str) -> None:
        self.lines.append(line)
        self.got_line.set()

    def modes(self) -> int:
        flags: int = termios.tcgetattr(self.slave)[3]
        return flags & (termios.ICANON | termios.ECHO)


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Typing]:
    master, slave = os.openpty()
    with open(slave, encoding="utf-8", closefd=False) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield Typing(master, slave)
    os.close(master)
    os.close(slave)


def test_line_is_handed_over_when_it_ends(typing: Typing) -> None:
    """Text is collected until Return; surrounding space goes; an empty line asks nothing."""
    typing.editor.type("  what is")
    assert typing.lines == [] and typing.editor.text == "  what is"
    typing.editor.type(" it? \r")
    typing.editor.type("\n  \n")
    assert typing.lines == ["what is it?"] and typing.editor.text == ""


def test_erasing_takes_back_a_character_or_the_line(typing: Typing) -> None:
    """Both erase keys remove one character, Ctrl-U all; erasing nothing does nothing."""
    typing.editor.type("\x7fcäta\x7f\x08")
    assert typing.editor.text == "cä"
    typing.editor.type("\x7f\x7f\x7f\x7fdog\x15bird\n")
    assert typing.lines == ["bird"]


def test_several_lines_at_once_are_several_questions(typing: Typing) -> None:
    """Pasted lines are handed over one by one."""
    typing.editor.type("one\ntwo\nthr")
    assert typing.lines == ["one", "two"] and typing.editor.text == "thr"


@pytest.mark.parametrize(
    "keys", ["\x1b[A", "\x1b[1;5C", "\x1bOP", "\x1b", "\x1b[3~", "\x1b[200~", "\x04", "\x00"]
)
def test_keys_that_are_not_text_are_ignored(typing: Typing, keys: str) -> None:
    """Arrows, function keys and control characters leave the text alone, wherever they come."""
    typing.editor.type("ab")
    typing.editor.type(keys)
    assert typing.editor.text == "ab"
    typing.editor.type("c" + keys)
    assert typing.editor.text == "abc"


def test_text_after_an_arrow_key_is_kept(typing: Typing) -> None:
    """What was typed right after an arrow key, read in one piece with it, is text."""
    typing.editor.type("\x1b[Dhello\x1b[C there")
    assert typing.editor.text == "hello there"


def test_utf8_that_arrives_in_pieces_is_one_character(typing: Typing) -> None:
    """A character whose bytes come in two reads is put together again."""
    with typing.editor:
        for piece in (b"gr\xc3", b"\xbc\xc3\x9f?", b"\n"):
            os.write(typing.master, piece)
            if piece != b"\n":
                typing.got_line.wait(0.02)
        assert typing.got_line.wait(PATIENCE_S)
    assert typing.lines == ["grüß?"]


def test_terminal_is_as_it_was_afterwards(typing: Typing) -> None:
    """Inside, keys come one by one and unseen; outside, also after an error, as before."""
    before = typing.modes()
    assert before
    with pytest.raises(RuntimeError), typing.editor:
        assert typing.modes() == 0
        raise RuntimeError
    assert typing.modes() == before
