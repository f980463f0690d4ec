"""A stream in the terminal: live status, answers as they come, a prompt, a summary at the end.

Three ways of showing the same events: a redrawn display with a prompt where there is a terminal,
plain lines where there is none, JSON lines on demand.
"""

import os
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
from stream.session import StreamSession
from ui.json_lines import event_line, report_line
from ui.line_editor import LineEditor
from ui.words import (
    answer_text,
    answers_table,
    frames_table,
    megabytes,
    printable,
    status_line,
    verdict,
)

POLL_S = 0.25
PLAIN_STATUS_EVERY_S = 5.0
MAX_SUMMARY_ANSWERS = 1000
# When nobody reads what is printed, frames are counted instead; answers are always kept.
MAX_UNSHOWN = 10_000
FRAME_EVENTS = (FrameAdmitted, FrameDone, FrameDropped)


class Terminal:
    """Shows one session until it ends or `stopped` is set."""

    def __init__(
        self,
        session: StreamSession,
        *,
        state_bytes: Callable[[], int],
        trained: bool,
        json_lines: bool,
        ask: Callable[[str], None],
    ) -> None:
        """Prepare to show a session; nothing is printed yet.

        Args:
            state_bytes: size of the model's state now.
            ask: asks a question that was typed; may raise QuestionRefusedError.
        """
        self._session = session
        self._state_bytes = state_bytes
        self._trained = trained
        self._json = json_lines
        self._ask = ask
        # Lines are broken for a reader's eyes only, never for a program.
        self._console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
        self._interactive = not json_lines and sys.stdin.isatty() and self._console.is_terminal
        self._answers: list[AnswerDone] = []
        self._under_way: dict[int, tuple[str, str]] = {}
        self._editor: LineEditor | None = None
        self._said_once = ""
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._not_shown = 0
        self._unread = threading.Event()  # whoever read our output has gone
        session.subscribe(self._on_event)

    def run(self, stopped: threading.Event) -> None:
        """Show what happens until the stream and its questions have ended, or `stopped` is set.

        With a prompt the stream's end is not the end: what was seen can still be asked about.
        """
        with ExitStack() as stack:
            if self._interactive:
                self._editor = stack.enter_context(LineEditor(self._typed))
            live = None
            if self._console.is_terminal and not self._json:
                live = Live(console=self._console, auto_refresh=False, transient=True)
                stack.enter_context(live)
            polls, next_poll_s = 0, time.monotonic() + POLL_S
            while not stopped.is_set() and not self._unread.is_set():
                self._show_events(timeout_s=POLL_S)
                if self._session.wait(0.0):
                    if not self._interactive:
                        return
                    self._say_once("The stream has ended: ask on, or press Ctrl-C for the summary.")
                if time.monotonic() >= next_poll_s:
                    next_poll_s = time.monotonic() + POLL_S
                    polls += 1
                    self._poll(polls)
                    if live is not None:
                        live.update(self._display(), refresh=True)

    def summary(self) -> None:
        """Print what is left to say, the verdict, latencies, every question, and memory."""
        self._show_events()
        report = self._session.report()
        memory = psutil.Process().memory_info().rss
        if self._json:
            line = report_line(
                "Summary",
                report,
                state_bytes=self._state_bytes(),
                resident_bytes=memory,
                verdict=verdict(report),
            )
            self._print_line(line)
            return
        self._console.print()
        self._console.print(frames_table(report))
        if self._answers:
            self._console.print(answers_table(self._answers))
        self._console.print(
            f"Memory: state {megabytes(self._state_bytes())}, process {megabytes(memory)}"
        )
        colour = {True: "bold green", False: "bold red", None: "bold"}[report.holds]
        self._console.print(verdict(report), style=colour)

    def _on_event(self, event: Event) -> None:
        """Keep an event for this terminal's own thread: printing may wait, watching may not."""
        if self._events.qsize() >= MAX_UNSHOWN and isinstance(event, FRAME_EVENTS):
            self._not_shown += 1
        else:
            self._events.put(event)

    def _show_events(self, timeout_s: float = 0.0) -> None:
        """Show all events there are, waiting for the first if there is none."""
        try:
            self._show(
                self._events.get(timeout=timeout_s) if timeout_s else self._events.get(False)
            )
            while True:
                self._show(self._events.get(False))
        except queue.Empty:
            return

    def _show(self, event: Event) -> None:
        if self._json:
            self._print_line(event_line(event))
        match event:
            case QuestionAccepted(question_id=number, question=question):
                self._under_way[number] = (question, "")
            case AnswerDelta(question_id=number, text=text):
                question, so_far = self._under_way.get(number, ("", ""))
                self._under_way[number] = (question, so_far + text)
            case AnswerDone(question_id=number):
                self._under_way.pop(number, None)
                self._answers = [*self._answers, event][-MAX_SUMMARY_ANSWERS:]
                self._say(answer_text(event, trained=self._trained))
            case SourceState(condition=condition, detail=detail):
                self._say(Text(f"source {condition}: {printable(detail)}", style="dim"))

    def _typed(self, line: str) -> None:
        try:
            self._ask(line)
        except QuestionRefusedError as error:
            self._say(Text(f"not asked: {error}", style="red"))

    def _say(self, text: Text) -> None:
        if self._json:
            return
        try:
            self._console.print(text)
        except SystemExit:  # how rich ends a program whose output nobody reads
            self._unread.set()

    def _print_line(self, line: str) -> None:
        """Print in one write, so that the lines of several threads never mix."""
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            # Whatever else is written, also at exit, shall find a place to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self._unread.set()

    def _say_once(self, sentence: str) -> None:
        if sentence != self._said_once:
            self._said_once = sentence
            self._say(Text(sentence, style="bold"))

    def _poll(self, polls: int) -> None:
        seconds = polls * POLL_S
        if self._json:
            if seconds % 1.0 == 0.0:
                report = self._session.report()
                self._print_line(report_line("StreamStats", report, **self._extra()))
        elif not self._console.is_terminal and seconds % PLAIN_STATUS_EVERY_S == 0.0:
            self._say(self._status())

    def _extra(self) -> dict[str, int]:
        return {
            "state_bytes": self._state_bytes(),
            "open_questions": self._session.open_questions,
            "events_not_shown": self._not_shown,
        }

    def _status(self) -> Text:
        session = self._session
        return status_line(
            session.report(),
            self._state_bytes(),
            session.open_questions,
            session.source_state,
            time.monotonic(),
        )

    def _display(self) -> RenderableType:
        lines: list[RenderableType] = []
        for question, answer in list(self._under_way.values()):
            line = Text(printable(question), style="bold")
            line.append("  " + printable(answer), style="default")
            lines.append(line)
        lines.append(self._status())
        if self._editor is not None:
            prompt = Text("ask> ", style="bold cyan")
            prompt.append(self._editor.text + "▏", style="default")
            lines.append(prompt)
        return Group(*lines)
