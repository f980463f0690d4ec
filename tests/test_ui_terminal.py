"""What a run prints, as plain lines, as JSON and as a live display."""

import errno
import io
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rich.text import Text

from stream.engine import Engine, EngineConfig
from stream.events import (
    AnswerDelta,
    FrameDone,
    QuestionAccepted,
    SourceCondition,
    SourceState,
)
from stream.question import QuestionRefusedError, SamplingParams
from stream.registry import StreamRegistry
from stream.session import StreamConfig, StreamSession
from tests.stream_helpers import FRAME_TOKENS, PATIENCE_S, loaded, running, scripted
from ui.terminal import MAX_UNSHOWN, POLL_S, Terminal


def refuse(_: str) -> None:
    raise QuestionRefusedError("the question is empty")


def make(
    streams: StreamRegistry, json_lines: bool = False, ask: Callable[[str], None] = refuse
) -> Terminal:
    return Terminal(
        streams, state_bytes=lambda: 5_000_000, trained=False, json_lines=json_lines, ask=ask
    )


@pytest.fixture
def streams() -> Iterator[StreamRegistry]:
    engine = Engine(loaded(), EngineConfig(FRAME_TOKENS))
    with running(engine):
        streams = StreamRegistry(engine, 1)
        streams.open("stream", scripted(5), StreamConfig(fps=None))
        yield streams
        streams.stop_all("the test is over", PATIENCE_S)


@pytest.fixture
def session(streams: StreamRegistry) -> StreamSession:
    """The one stream that there is."""
    return streams.get("stream")


def silent(engine: Engine) -> StreamRegistry:
    """One stream that gives a frame and then nothing."""
    streams = StreamRegistry(engine, 1)
    streams.open("stream", scripted(1, holds=True), StreamConfig(fps=None))
    return streams


def watch(session: StreamSession, terminal: Terminal) -> int:
    number = session.ask("What is it?", sampling=SamplingParams(max_tokens=4))
    session.start()
    terminal.run(threading.Event())
    terminal.summary()
    return number


def test_plain_run_prints_answers_and_a_summary(
    session: StreamSession, streams: StreamRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a terminal: the source's states, each answer, tables, memory and the verdict."""
    watch(session, make(streams))
    printed = capsys.readouterr().out
    for part in (
        "source live: reading scripted",
        "What is it?",
        "(incomplete: cut at 4 tokens)",
        "source ended: the source has ended",
        "5 read, 5 processed, dropped: none",
        "Memory: state 5.0 MB",
        "No target rate:",
    ):
        assert part in printed
    assert "\x1b" not in printed


def test_json_run_prints_every_event_and_a_summary(
    session: StreamSession, streams: StreamRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every line is an object; each frame and question is there, and a summary is last."""
    number = watch(session, make(streams, json_lines=True))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = [line["type"] for line in lines]
    assert kinds.count("FrameDone") == 5
    assert kinds.count("AnswerDone") == 1 and kinds.count("QuestionAccepted") == 1
    assert {line["question_id"] for line in lines if "question_id" in line} == {number}
    assert kinds[-1] == "Summary" and lines[-1]["state_bytes"] == 5_000_000


def test_json_lines_of_several_threads_never_mix(
    session: StreamSession, streams: StreamRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line, with its end, is written in one piece."""
    written: list[str] = []

    class Recorder(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    terminal = make(streams, json_lines=True)
    monkeypatch.setattr(sys, "stdout", Recorder())
    watch(session, terminal)
    assert len(written) > 10
    assert all(text.count("\n") == 1 and text.endswith("\n") for text in written)


def test_run_ends_when_it_is_stopped() -> None:
    """A run over a silent stream returns once `stopped` is set."""
    engine = Engine(loaded(), EngineConfig(FRAME_TOKENS))
    streams = silent(engine)
    session = streams.get("stream")
    stopped = threading.Event()
    terminal = make(streams)
    thread = threading.Thread(target=terminal.run, args=(stopped,), daemon=True)
    with running(engine):
        session.start()
        thread.start()
        assert session.wait(0.05) is False and thread.is_alive()
        stopped.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        session.stop()


def test_live_display_shows_status_and_leaves_answers(
    session: StreamSession, streams: StreamRegistry, screen: io.StringIO
) -> None:
    """On a terminal the status is drawn while the stream runs, and answers stay above it."""
    terminal = make(streams)
    session.ask("What is it?", at_s=1e9)
    session.start()
    terminal.run(threading.Event())
    assert "What is it?" in screen.getvalue()
    assert "the stream ended at 0.2 s" in screen.getvalue()


def test_events_can_be_printed_while_the_display_is_made(
    screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making the display, which needs the session, does not keep a listener from printing."""
    engine = Engine(loaded(), EngineConfig(FRAME_TOKENS))
    streams = silent(engine)
    session = streams.get("stream")
    terminal = make(streams)
    displaying, printed = threading.Event(), threading.Event()
    in_time: list[bool] = []
    reports = itertools.count()
    report = session.report

    def slow_report() -> Any:
        if next(reports) == 1:  # the first may be made before there is a display
            displaying.set()
            in_time.append(printed.wait(PATIENCE_S / 5))
        return report()

    def print_event() -> None:
        displaying.wait(PATIENCE_S)
        terminal._say(Text("an answer"))
        printed.set()

    monkeypatch.setattr(session, "report", slow_report)
    stopped = threading.Event()
    printer = threading.Thread(target=print_event, daemon=True)
    runner = threading.Thread(target=terminal.run, args=(stopped,), daemon=True)
    printer.start()
    runner.start()
    assert displaying.wait(PATIENCE_S)
    printer.join(PATIENCE_S)
    stopped.set()
    runner.join(PATIENCE_S)
    assert in_time == [True]
    assert "an answer" in screen.getvalue() and "open questions 0" in screen.getvalue()


def test_hostile_text_is_harmless_while_it_comes(
    streams: StreamRegistry, screen: io.StringIO
) -> None:
    """Deltas, questions and a source's words with control characters do not reach the screen."""
    terminal = make(streams)
    for event in (
        QuestionAccepted("stream", 1, "local", "q\x1b]0;owned\x07"),
        AnswerDelta("stream", 1, "local", 0, "a\x1b[31m"),
        AnswerDelta("stream", 99, "local", 3, "of a question asked before we listened"),
        SourceState("stream", SourceCondition.LIVE, "reading \x1b]0;owned\x07", 0.0),
    ):
        terminal._on_event(event)
    terminal._show_events()
    terminal._console.print(terminal._display())
    assert "\x1b]0" not in screen.getvalue() and "\x07" not in screen.getvalue()
    assert "reading  ]0;owned" in screen.getvalue()
    assert "\x1b[31ma" not in screen.getvalue() and "a [31m" in screen.getvalue()


def test_typed_question_that_is_refused_says_why(
    streams: StreamRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refusal is printed; a good question is asked."""
    asked: list[str] = []
    make(streams)._typed("anything")
    assert "not asked: the question is empty" in capsys.readouterr().out
    make(streams, ask=asked.append)._typed("what?")
    assert asked == ["what?"]


def test_plain_status_comes_every_five_seconds(
    streams: StreamRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a terminal one status line is printed in twenty polls."""
    terminal = make(streams)
    for polls in range(1, 41):
        terminal._poll(polls)
    assert capsys.readouterr().out.count("open questions 0") == 2


def test_json_stats_come_every_second(
    streams: StreamRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    """In JSON mode one line of stats is printed in four polls."""
    terminal = make(streams, json_lines=True)
    for polls in range(1, 9):
        terminal._poll(polls)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["type"] for line in lines] == ["StreamStats"] * 2
    assert lines[0]["open_questions"] == 0


@pytest.mark.parametrize("json_lines", [True, False])
@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(errno.ENOSPC, "the disk is full")])
def test_output_that_finds_no_place_ends_the_run(
    session: StreamSession,
    streams: StreamRegistry,
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
    json_lines: bool,
) -> None:
    """When nobody reads it any more the run ends; frames and questions are not harmed."""
    gone = io.StringIO()

    def broken(_: str) -> int:
        raise error

    monkeypatch.setattr(gone, "write", broken)
    monkeypatch.setattr("ui.standard_streams.os.dup2", lambda *_: 0)
    monkeypatch.setattr(gone, "fileno", lambda: 1)
    heard: list[object] = []
    terminal = make(streams, json_lines=json_lines)
    session.subscribe(heard.append)
    monkeypatch.setattr(sys, "stdout", gone)
    session.start()
    terminal.run(threading.Event())
    assert session.wait(PATIENCE_S)
    assert len([e for e in heard if isinstance(e, FrameDone)]) == 5


def test_a_server_goes_on_when_its_output_finds_no_place(
    session: StreamSession, streams: StreamRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clients have nothing to do with who reads what is printed."""
    dropped, stopped = threading.Event(), threading.Event()
    terminal = make(streams, json_lines=True)
    monkeypatch.setattr("ui.terminal.drop_output", dropped.set)
    full = io.StringIO()
    monkeypatch.setattr(full, "write", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "")))
    monkeypatch.setattr(sys, "stdout", full)
    running = threading.Thread(target=lambda: terminal.run(stopped, serves=True), daemon=True)
    running.start()
    session.start()
    assert dropped.wait(PATIENCE_S) and session.wait(PATIENCE_S)
    # As long as it takes to look twice whether there is anything left to do.
    running.join(2 * POLL_S)
    assert running.is_alive()
    stopped.set()
    running.join(PATIENCE_S)
    assert not running.is_alive()


def test_output_that_nobody_reads_does_not_stop_watching(
    streams: StreamRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hearing of an event prints nothing; past the bound frames are counted, answers kept."""
    terminal = make(streams, json_lines=True)
    printed: list[str] = []
    monkeypatch.setattr(terminal, "_print_line", printed.append)
    done = FrameDone("stream", 0, 0, 0.0, None, 0.0, 0.0, {})
    for _ in range(MAX_UNSHOWN + 5):
        terminal._on_event(done)
    terminal._on_event(QuestionAccepted("stream", 1, "local", "q"))
    assert printed == []
    terminal._show_events()
    assert len(printed) == MAX_UNSHOWN + 1 and "QuestionAccepted" in printed[-1]
    assert terminal._extra()["events_not_shown"] == 5


def test_output_that_is_read_slowly_does_not_keep_a_run_from_being_stopped(
    streams: StreamRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that come faster than they are printed leave time to look whether to stop."""
    terminal = make(streams, json_lines=True)
    done = FrameDone("stream", 0, 0, 0.0, None, 0.0, 0.0, {})

    def slow(_: str) -> None:
        time.sleep(0.02)
        terminal._on_event(done)  # meanwhile another one comes

    monkeypatch.setattr(terminal, "_print_line", slow)
    terminal._on_event(done)
    stopped = threading.Event()
    running = threading.Thread(target=terminal.run, args=[stopped], daemon=True)
    running.start()
    time.sleep(0.2)
    stopped.set()
    running.join(PATIENCE_S / 2)
    assert not running.is_alive()


def test_what_is_asked_of_a_server_after_the_end_is_shown_at_once(
    session: StreamSession, streams: StreamRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    """While others are served the streams' end is not the end, and no event is kept unshown."""
    terminal, stopped = make(streams, json_lines=True), threading.Event()
    session.start()
    assert session.wait(PATIENCE_S)
    running = threading.Thread(target=terminal.run, args=[stopped], kwargs={"serves": True})
    running.start()
    try:
        time.sleep(0.6)
        session.ask("What was it?", sampling=SamplingParams(max_tokens=2))
        assert session.wait(PATIENCE_S)
        until_s = time.monotonic() + PATIENCE_S
        said = ""
        while "AnswerDone" not in said and time.monotonic() < until_s:
            time.sleep(0.05)
            said += capsys.readouterr().out
        assert "AnswerDone" in said
        assert running.is_alive()
    finally:
        stopped.set()
        running.join(PATIENCE_S)
    assert not running.is_alive()


def test_what_visitors_bring_is_not_taken_for_the_stream(
    capsys: pytest.CaptureFixture[str],
) -> None:
    engine = Engine(loaded(), EngineConfig(FRAME_TOKENS, max_streams=2))
    with running(engine):
        streams = StreamRegistry(engine, 2)
        for name, listed in (("stream", True), ("visitor-1", False)):
            streams.open(name, scripted(1), StreamConfig(name, fps=None), listed=listed)
        terminal = make(streams)
        streams.start_all()
        terminal.run(threading.Event())
        streams.stop_all("the test is over", PATIENCE_S)
    said = capsys.readouterr().out
    assert "visitor-1: source ended" in said and "stream: source" not in said
