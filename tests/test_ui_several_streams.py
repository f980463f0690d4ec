"""What a terminal shows of several streams: each is told from the others."""

import io
import json
import threading
from collections.abc import Callable, Iterator

import pytest
from rich.text import Text

from stream.engine import Engine, EngineConfig
from stream.events import AnswerDelta, AnswerDone, QuestionAccepted, SourceCondition, SourceState
from stream.question import SamplingParams
from stream.registry import StreamOverview, StreamRegistry
from stream.session import StreamConfig
from tests.stream_helpers import FRAME_TOKENS, PATIENCE_S, Events, loaded, running, scripted
from tests.test_ui_words import done, report, shown
from ui.addressed import parse_addressed
from ui.terminal import Terminal
from ui.words import answer_text, answers_table, frames_table, streams_line

SHORT = SamplingParams(max_tokens=4)


@pytest.fixture
def streams() -> Iterator[StreamRegistry]:
    """Two that run, of four and of six frames."""
    engine = Engine(loaded(), EngineConfig(FRAME_TOKENS, max_streams=2))
    with running(engine):
        streams = StreamRegistry(engine, 2)
        streams.open("door", scripted(4), StreamConfig(fps=None))
        streams.open("yard", scripted(6), StreamConfig(fps=None))
        yield streams
        streams.stop_all("the test is over", PATIENCE_S)


class Typed:
    """Stands for a line editor: holds what is typed and not yet sent."""

    def __init__(self, text: str = "") -> None:
        self.text = text


def asker(streams: StreamRegistry) -> Callable[[str], None]:
    def ask(line: str) -> None:
        stream, at_s, text = parse_addressed(line, streams.names)
        streams.get(stream).ask(text, at_s=at_s, sampling=SHORT)

    return ask


def make(streams: StreamRegistry, json_lines: bool = False) -> Terminal:
    return Terminal(
        streams,
        state_bytes=lambda: 5_000_000,
        trained=True,
        json_lines=json_lines,
        ask=asker(streams),
    )


def watch(streams: StreamRegistry, terminal: Terminal) -> None:
    streams.start_all()
    terminal.run(threading.Event())
    terminal.summary()


def test_plain_run_says_which_stream(
    streams: StreamRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before every state, answer, table and verdict."""
    terminal = make(streams)
    asker(streams)("end: What was it?")
    asker(streams)("@yard end: What came?")
    watch(streams, terminal)
    printed = capsys.readouterr().out
    for part in (
        "door: source live: reading scripted",
        "yard: source ended: the source has ended",
        "[door 0.1 s] What was it?",
        "[yard 0.2 s] What came?",
        "Frames of door",
        "4 read, 4 processed, dropped: none",
        "Frames of yard",
        "6 read, 6 processed, dropped: none",
        "door: No target rate:",
        "yard: No target rate:",
    ):
        assert part in printed
    assert printed.count("Memory:") == 1


def test_json_run_has_a_summary_and_statistics_a_stream(
    streams: StreamRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    """The summaries are the last lines, in the order of the streams."""
    terminal = make(streams, json_lines=True)
    streams.get("yard").ask("?", at_s=99.0)
    for polls in range(1, 5):
        terminal._poll(polls)
    watch(streams, terminal)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    stats = [line for line in lines if line["type"] == "StreamStats"][:2]
    assert [(s["stream"], s["open_questions"]) for s in stats] == [("door", 0), ("yard", 1)]
    assert [(s["type"], s["stream"], s["processed"]) for s in lines[-2:]] == [
        ("Summary", "door", 4),
        ("Summary", "yard", 6),
    ]
    assert {line["stream"] for line in lines} == {"door", "yard"}


def test_typed_question_goes_to_the_first_or_the_named(streams: StreamRegistry) -> None:
    """And to no other."""
    heard = Events()
    streams.subscribe(heard)
    terminal = make(streams)
    terminal._typed("What?")
    terminal._typed("@yard 0.1s: And there?")
    asked = [(e.stream, e.question) for e in heard.of(QuestionAccepted)]
    assert asked == [("door", "What?"), ("yard", "And there?")]
    streams.start_all()
    assert streams.wait_all(PATIENCE_S)
    assert {e.stream for e in heard.of(AnswerDone)} == {"door", "yard"}


def test_question_to_an_unknown_stream_is_given_back(
    streams: StreamRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, and the line stands at the prompt again."""
    terminal, editor = make(streams), Typed()
    terminal._editor = editor  # type: ignore[assignment]
    terminal._typed("@dor 5s: What?")
    printed = capsys.readouterr().out
    assert printed == "not asked: there is no stream 'dor'; known: door, yard\n"
    assert editor.text == "@dor 5s: What?"
    assert [o.open_questions for o in streams.overview()] == [0, 0]


def test_display_names_streams_questions_and_who_is_asked(
    streams: StreamRegistry, screen: io.StringIO
) -> None:
    """Questions of the same number in two streams do not mix."""
    terminal = make(streams)
    terminal._editor = Typed("@yard w")  # type: ignore[assignment]
    for event in (
        QuestionAccepted("door", 1, "local", "What?"),
        QuestionAccepted("yard", 1, "local", "Where?"),
        AnswerDelta("yard", 1, "local", 0, "There."),
        AnswerDelta("door", 1, "local", 0, "A cat."),
    ):
        terminal._on_event(event)
    terminal._show_events()
    terminal._console.print(terminal._display())
    drawn = Text.from_ansi(screen.getvalue()).plain
    for part in ("door  What?  A cat.", "yard  Where?  There.", "ask door, or @NAME> @yard w"):
        assert part in drawn
    assert "door not started 0.0 fps, on time - | yard not started" in drawn


def test_status_line_says_shortly_what_each_does() -> None:
    """Name, source, rate and share on time, each in its own colour; state and questions once."""
    info = scripted(1).info
    live = SourceState("door", SourceCondition.LIVE, "", 100.0)
    line = streams_line(
        [
            StreamOverview("door", info, live, report(), 2),
            StreamOverview("yard", info, None, report(on_time_ratio=0.5), 1),
        ],
        5_000_000,
    )
    assert line.plain == (
        "door live 25.0/25 fps, on time 99.8 % | yard not started 25.0/25 fps, on time 50.0 % | "
        "state 5.0 MB | open questions 3"
    )
    assert [span.style for span in line.spans if span.style] == ["green", "red"]


def test_answers_and_tables_say_which_stream() -> None:
    """Only where there are several."""
    assert answer_text(done(), trained=True).plain.startswith("[12.3 s] What")
    assert answer_text(done(), trained=True, several=True).plain.startswith("[s 12.3 s] What")
    assert "stream" in shown(answers_table([done()], several=True))
    assert "stream" not in shown(answers_table([done()]))
    assert "Frames of door" in shown(frames_table(report(), "door"))
