"""Reads a question from the terminal while a live display is being redrawn.

The terminal is put in cbreak mode and the text typed so far is kept here, for the display to draw.
"""

import codecs
import os
import re
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable
from types import TracebackType

_ERASE = "\x7f\x08"
_ERASE_LINE = "\x15"
# Arrow and function keys send these; a lone Escape too has nothing to say here.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)


class LineEditor:
    """Calls `on_line` with each typed line; a context manager that restores the terminal."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._fd = sys.stdin.fileno()
        self._stopped = threading.Event()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
        self._thread = threading.Thread(target=self._read, name="line editor", daemon=True)
        self.text = ""

    def __enter__(self) -> "LineEditor":
        self._saved = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join()
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)

    def type(self, characters: str) -> None:
        """Take what was typed: text, erasing, or the end of a line."""
        for character in _ESCAPES.sub("", characters):
            if character in "\r\n":
                line, self.text = self.text.strip(), ""
                if line:
                    self._on_line(line)
            elif character in _ERASE:
                self.text = self.text[:-1]
            elif character == _ERASE_LINE:
                self.text = ""
            elif character.isprintable():
                self.text += character

    def _read(self) -> None:
        while not self._stopped.is_set():
            ready, _, _ = select.select([self._fd], [], [], 0.1)
            if ready:
                typed = os.read(self._fd, 1024)
                if not typed:
                    return
                self.type(self._decoder.decode(typed))
