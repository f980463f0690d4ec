"""Streams in the terminal: live status, answers as they come, a prompt, a summary at the end.

Three ways of showing the same events: a redrawn display with a prompt where there is a terminal,
plain lines where there is none, JSON lines on demand.
"""

import json
import math
import queue
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import psutil
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from stream.events import (
    AnswerDelta,
    AnswerDone,
    Event,
    FrameAdmitted,
    FrameDone,
    FrameDropped,
    QuestionAccepted,
    SourceState,
)
from stream.question import QuestionRefusedError
from stream.registry import StreamRegistry, UnknownStreamError
from stream.verdict import verdict
from ui.json_lines import event_line, report_line
from ui.line_editor import LineEditor
from ui.standard_streams import drop_output
from ui.words import (
    answer_text,
    answers_table,
    frames_table,
    megabytes,
    printable,
    status_line,
    streams_line,
)

POLL_S = 0.25
PLAIN_STATUS_EVERY_S = 5.0
MAX_SUMMARY_ANSWERS = 1000
# When nobody reads what is printed, frames are counted instead; answers are always kept.
MAX_UNSHOWN = 10_000
FRAME_EVENTS = (FrameAdmitted, FrameDone, FrameDropped)


class Terminal:
    """Shows the streams until all have ended or `stopped` is set; one alone without its name."""

    def __init__(
        self,
        streams: StreamRegistry,
        *,
        state_bytes: Callable[[], int],
        trained: bool,
        json_lines: bool,
        ask: Callable[[str], None],
    ) -> None:
        """Prepare to show streams, of which there is one at least; nothing is printed yet.

        Args:
            state_bytes: size of the model's state now.
            ask: asks a question that was typed; may raise QuestionRefusedError or, where it was
                addressed, UnknownStreamError.
        """
        self._streams = streams
        self._state_bytes = state_bytes
        self._trained = trained
        self._json = json_lines
        self._ask = ask
        # Lines are broken for a reader's eyes only, never for a program.
        self._console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
        self._interactive = not json_lines and sys.stdin.isatty() and self._console.is_terminal
        self._answers: list[AnswerDone] = []
        self._under_way: dict[tuple[str, int], tuple[str, str]] = {}
        self._editor: LineEditor | None = None
        self._said_once = ""
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._not_shown = 0
        self._unread = threading.Event()  # whoever read our output has gone
        streams.subscribe(self._on_event)

    def run(self, stopped: threading.Event, *, serves: bool = False) -> None:
        """Show what happens until the streams and their questions have ended, or `stopped` is set.

        With a prompt the streams' end is not the end: what was seen can still be asked about. Nor
        is it where others are served, whoever reads what is printed: it goes on until `stopped`.
        """
        with ExitStack() as stack:
            if self._interactive:
                self._editor = stack.enter_context(LineEditor(self._typed))
            live = None
            if self._console.is_terminal and not self._json:
                live = Live(console=self._console, auto_refresh=False, transient=True)
                stack.enter_context(live)
            polls, next_poll_s = 0, time.monotonic() + POLL_S
            while not stopped.is_set() and (serves or not self._unread.is_set()):
                self._show_events(POLL_S, POLL_S)
                if self._streams.wait_all(0.0):
                    if not self._interactive:
                        if serves:
                            continue
                        return
                    ended = "All streams have" if self._several else "The stream has"
                    self._say_once(f"{ended} ended: ask on, or press Ctrl-C for the summary.")
                if time.monotonic() >= next_poll_s:
                    next_poll_s = time.monotonic() + POLL_S
                    polls += 1
                    self._poll(polls)
                    if live is not None:
                        live.update(self._display(), refresh=True)

    def summary(self) -> None:
        """Print what is left to say, the verdict, latencies, every question, and memory."""
        self._show_events(within_s=POLL_S)
        memory = psutil.Process().memory_info().rss
        if self._json:
            self._json_summary(memory)
            return
        streams, several = self._streams.overview(), self._several
        self._console.print()
        for stream in streams:
            self._console.print(frames_table(stream.report, stream.name if several else ""))
        if self._answers:
            self._console.print(answers_table(self._answers, several=several))
        self._console.print(
            f"Memory: state {megabytes(self._state_bytes())}, process {megabytes(memory)}"
        )
        for stream in streams:
            colour = {True: "bold green", False: "bold red", None: "bold"}[stream.report.holds]
            named = f"{stream.name}: " if several else ""
            self._console.print(named + verdict(stream.report), style=colour)

    def serving(self, url: str) -> None:
        """Say where clients may connect."""
        if self._json:
            self._print_line(json.dumps({"type": "Serving", "url": url}))
        else:
            self._say(Text(f"Clients are served at {url}", style="bold"))

    @property
    def _several(self) -> bool:
        """Whether streams must be told apart."""
        return len(self._streams.names) > 1

    def _names(self, stream: str) -> bool:
        """Whether to say which stream it is: there are several, or it is a visitor's."""
        return self._several or stream not in self._streams.names

    def _json_summary(self, resident_bytes: int) -> None:
        """One line a stream; the bytes are those of the whole process."""
        for stream in self._streams.overview():
            line = report_line(
                "Summary",
                stream.report,
                stream=stream.name,
                state_bytes=self._state_bytes(),
                resident_bytes=resident_bytes,
                verdict=verdict(stream.report),
            )
            self._print_line(line)

    def _on_event(self, event: Event) -> None:
        """Keep an event for this terminal's own thread: printing may wait, watching may not."""
        if self._events.qsize() >= MAX_UNSHOWN and isinstance(event, FRAME_EVENTS):
            self._not_shown += 1
        else:
            self._events.put(event)

    def _show_events(self, timeout_s: float = 0.0, within_s: float = math.inf) -> None:
        """Show all events there are, waiting for the first if there is none.

        After `within_s` frames are counted instead: whoever reads what is printed may be slower
        than events come.
        """
        until_s = time.monotonic() + timeout_s + within_s
        try:
            event = self._events.get(timeout=timeout_s) if timeout_s else self._events.get(False)
            while True:
                if isinstance(event, FRAME_EVENTS) and time.monotonic() >= until_s:
                    self._not_shown += 1
                else:
                    self._show(event)
                event = self._events.get(False)
        except queue.Empty:
            return

    def _show(self, event: Event) -> None:
        if self._json:
            self._print_line(event_line(event))
        match event:
            case QuestionAccepted(stream=stream, question_id=number, question=question):
                self._under_way[stream, number] = (question, "")
            case AnswerDelta(stream=stream, question_id=number, text=text):
                question, so_far = self._under_way.get((stream, number), ("", ""))
                self._under_way[stream, number] = (question, so_far + text)
            case AnswerDone(stream=stream, question_id=number):
                self._under_way.pop((stream, number), None)
                self._answers = [*self._answers, event][-MAX_SUMMARY_ANSWERS:]
                self._say(answer_text(event, trained=self._trained, several=self._names(stream)))
            case SourceState(stream=stream, condition=condition, detail=detail):
                named = f"{stream}: " if self._names(stream) else ""
                self._say(Text(f"{named}source {condition}: {printable(detail)}", style="dim"))

    def _typed(self, line: str) -> None:
        try:
            self._ask(line)
        except QuestionRefusedError as error:
            self._say(Text(f"not asked: {error}", style="red"))
        except UnknownStreamError as error:
            self._say(Text(f"not asked: {error}", style="red"))
            if self._editor is not None:
                self._editor.text = line  # only its beginning needs to be written anew

    def _say(self, text: Text) -> None:
        if self._json:
            return
        try:
            self._console.print(text)
        except SystemExit:  # how rich ends a program whose output nobody reads
            self._unread.set()
        except OSError:
            self._give_up()

    def _print_line(self, line: str) -> None:
        """Print in one write, so that the lines of several threads never mix."""
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        """Nobody reads what is printed, or there is no room for it on a disk."""
        drop_output()
        self._unread.set()

    def _say_once(self, sentence: str) -> None:
        if sentence != self._said_once:
            self._said_once = sentence
            self._say(Text(sentence, style="bold"))

    def _poll(self, polls: int) -> None:
        seconds = polls * POLL_S
        if self._json:
            if seconds % 1.0 == 0.0:
                for stream in self._streams.overview():
                    more = self._extra() | {"open_questions": stream.open_questions}
                    line = report_line("StreamStats", stream.report, stream=stream.name, **more)
                    self._print_line(line)
        elif not self._console.is_terminal and seconds % PLAIN_STATUS_EVERY_S == 0.0:
            self._say(self._status())

    def _extra(self) -> dict[str, int]:
        """What is the whole process's and not one stream's."""
        return {"state_bytes": self._state_bytes(), "events_not_shown": self._not_shown}

    def _status(self) -> Text:
        streams, state_bytes = self._streams.overview(), self._state_bytes()
        if len(streams) != 1:
            return streams_line(streams, state_bytes)
        (one,) = streams
        now_s = time.monotonic()
        return status_line(one.report, state_bytes, one.open_questions, one.state, now_s)

    def _display(self) -> RenderableType:
        lines: list[RenderableType] = []
        for (stream, _), (question, answer) in list(self._under_way.items()):
            named = f"{stream}  " if self._names(stream) else ""
            line = Text(named + printable(question), style="bold")
            line.append("  " + printable(answer), style="default")
            lines.append(line)
        lines.append(self._status())
        if self._editor is not None:
            prompt = Text(self._prompt(), style="bold cyan")
            prompt.append(self._editor.text + "▏", style="default")
            lines.append(prompt)
        return Group(*lines)

    def _prompt(self) -> str:
        """With several streams, that which is asked unless another is named."""
        names = self._streams.names
        return f"ask {names[0]}, or @NAME> " if len(names) > 1 else "ask> "
